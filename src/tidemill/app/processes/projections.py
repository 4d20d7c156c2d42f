"""The process `serve projections`: for every stream a projector that keeps all of its read models up to date."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from tidemill.admin.lanes.states import streams_as_created
from tidemill.app.connections import SharedResources, kafka_connection, open_pool, open_registry
from tidemill.app.deployment import Deployment
from tidemill.app.processes.base import footprint_job, owner_name, run_process
from tidemill.app.processes.commands import lag_watch, probes
from tidemill.app.startup.migrations import demand_migrations
from tidemill.catalog.streams import ContextStream
from tidemill.projections.projector import Projector
from tidemill.projections.service import ProjectorService
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Job
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.database.pool import Pool
from tidemill.storage.database.pool_parts import PoolPart
from tidemill.storage.read_models.rows import ViewDatabase
from tidemill.transport.avro.events import AvroEventCodec
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.projections.event_source import KafkaEventSource

_CONNECTIONS: Final = 8
_CONNECTIONS_OF_A_STREAM: Final = 4
"""A read model may wait for another process; the read models of other streams must not wait for it."""


def serve_projections(deployment: Deployment) -> int:
    """Run the process; return its exit code. Raises what no retry can fix."""

    async def assemble(shared: SharedResources) -> Sequence[Job]:
        return [
            *await projection_jobs(shared, deployment),
            await footprint_job(shared, deployment.settings, "projections"),
        ]

    return run_process("projections", deployment.settings, assemble, probes(deployment))


async def projection_jobs(shared: AsyncExitStack, deployment: Deployment) -> list[Job]:
    """Open what the projectors share, and return the jobs of this process."""
    await demand_migrations(deployment)
    owner = owner_name("projections")
    pool = await open_pool(shared, deployment.settings, name=owner, size=_CONNECTIONS)
    kafka = kafka_connection(deployment.settings, owner.replace(" ", "-"))
    parts = await streams_as_created(deployment.catalog.contexts, OperationsDatabase(pool))
    jobs = [
        await _projector_job(shared, deployment, part, pool, kafka)
        for part, _ in parts.values()
        if part.context.projections
    ]
    return [*jobs, Job("lag of read models", partial(lag_watch, deployment.catalog, pool, kafka))]


async def _projector_job(
    shared: AsyncExitStack, deployment: Deployment, part: ContextStream, pool: Pool, kafka: KafkaConnection
) -> Job:
    stream, clock = part.stream, SystemClock()
    registry = open_registry(shared, deployment.settings)
    codec = await AvroEventCodec.open(stream, part.messages(), clock=clock, registry=registry)

    connections = PoolPart(pool, _CONNECTIONS_OF_A_STREAM)

    def make() -> ProjectorService:
        projector = Projector(
            stream,
            part.context.projections,
            source=KafkaEventSource(kafka, topic=stream.topics.events, partitions=stream.partitions),
            codec=codec,
            store=ViewDatabase(connections),
            clock=clock,
        )
        return ProjectorService(projector)

    return Job(f"read models of {stream.aggregate}", make)
