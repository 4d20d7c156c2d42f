"""The process `serve archiver`: the reference archiver, which knows the archive's topics, a reading login and a lake.

It needs no migrations and no lanes: it knows only what requests say about the database.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

from tidemill.app.connections import (
    SharedResources,
    database_probe,
    kafka_connection,
    libpq_url,
    open_registry,
)
from tidemill.app.deployment import Deployment
from tidemill.app.lake import open_lake
from tidemill.app.processes.base import lower_priority, owner_name, run_process
from tidemill.archiver.archiver import Archiver, ArchiverTimeouts
from tidemill.archiver.copier import Copier
from tidemill.catalog.schemas import load_messages
from tidemill.domain.archive.messages import archival_topics
from tidemill.http.health import Probe
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.resources import schemas_dir
from tidemill.runtime.service import Job
from tidemill.settings import Settings
from tidemill.storage.retention.chunk_reader import DatabaseChunks
from tidemill.transport.avro.archival import ArchivalCodec
from tidemill.transport.kafka.client.probe import KafkaProbe
from tidemill.transport.kafka.retention.archival import KafkaConfirmations, KafkaRequests


def serve_archiver(deployment: Deployment) -> int:
    """Run the process; return its exit code. Raises what no retry can fix."""

    async def assemble(shared: AsyncExitStack) -> Sequence[Job]:
        return await archiver_jobs(shared, deployment)

    lower_priority()
    return run_process("archiver", deployment.settings, assemble, archiver_probes(deployment.settings))


def archiver_probes(settings: Settings) -> list[Probe]:
    """Return the probes of the servers that an archiver needs."""
    topics = archival_topics(prefix=settings.topics.prefix)
    kafka = KafkaProbe(kafka_connection(settings), {topics.events: 1, topics.commands: 1})
    return [database_probe(settings, login="archiver"), kafka]


async def archiver_jobs(shared: AsyncExitStack, deployment: Deployment) -> list[Job]:
    """Open what the archiver needs, and return its job.

    Raises:
        UsageError: `TIDEMILL_LAKE_ROOT` is not set.
        Unavailable: the registry or the lake's catalog is unavailable.
    """
    settings, clock = deployment.settings, SystemClock()
    topics = archival_topics(prefix=settings.topics.prefix)
    name = owner_name("archiver")
    kafka = kafka_connection(settings, name.replace(" ", "-"))
    codec = await ArchivalCodec.open(
        topics,
        load_messages(schemas_dir(), "archival"),
        clock=clock,
        registry=open_registry(shared, settings),
    )
    if isinstance(shared, SharedResources):
        shared.names.add(name)
    reader = DatabaseChunks(libpq_url(settings.database, "archiver"), application_name=name)
    copier = Copier(reader, await open_lake(settings))

    def make() -> Archiver:
        return Archiver(
            KafkaRequests(kafka, codec, topic=topics.events, group=group_of(settings)),
            KafkaConfirmations(
                kafka, codec, topic=topics.commands, batch_bytes=settings.topics.max_command_bytes
            ),
            copier,
            clock,
            archiver_id=archiver_id(settings),
            max_bytes_per_second=settings.archiver.max_bytes_per_second,
            timeouts=ArchiverTimeouts(stall_s=settings.archiver.stall_s),
        )

    return [Job("archiver", make)]


def group_of(settings: Settings) -> str:
    """Return the consumer group that shares the work."""
    return settings.archiver.group or f"{settings.topics.prefix}.archivers"


def archiver_id(settings: Settings) -> str:
    """Return this archiver's id."""
    return settings.archiver.id or f"archiver-{socket.gethostname().split('.')[0]}"
