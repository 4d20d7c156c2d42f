"""The process `serve retention`: the archive's stream, and the worker that moves what is due while it owns the lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tidemill.admin.archive.status import ArchiveWatch
from tidemill.admin.lanes.states import streams_as_created
from tidemill.app.connections import (
    SharedResources,
    database_probe,
    kafka_connection,
    open_pool,
    open_registry,
)
from tidemill.app.deployment import Deployment
from tidemill.app.processes.base import footprint_job, owner_name, run_process
from tidemill.app.processes.commands import Shared, StreamOverrides, stream_job
from tidemill.app.startup.migrations import demand_migrations
from tidemill.catalog.streams import ContextStream
from tidemill.commands.internal_commands import InternalCommandWriter
from tidemill.commands.workers import Workers
from tidemill.domain.archive.policy import Retention
from tidemill.domain.context import CommandSpec
from tidemill.domain.errors import UsageError
from tidemill.domain.lane import Claim
from tidemill.http.health import Probe
from tidemill.retention.policies import in_force
from tidemill.retention.service import RetentionService
from tidemill.retention.stream import ArchiveLane, ConfirmationHandler
from tidemill.retention.worker import ArchiveWorker
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Job
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.storage.admin.archived_rows import HoldingsDatabase
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import GenerationStore
from tidemill.storage.database.pool import Pool, Timeouts
from tidemill.storage.database.pool_parts import DividedPool
from tidemill.storage.retention.archive import Registry
from tidemill.storage.retention.work import RetentionDatabase
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.kafka.client.probe import KafkaProbe

_log = logger(__name__)

_CONNECTIONS = 8
_RELAY_CONNECTIONS = 4
_TIMEOUTS = Timeouts(idle_in_transaction_ms=60_000)


@dataclass(frozen=True)
class Working:
    """What a process that serves retention uses, for its observers."""

    lane: ArchiveLane
    store: RetentionDatabase
    policies: Sequence[Retention]
    owner: str
    pool: Pool


Watching = Callable[[Working], Sequence[Job]]


def serve_retention(deployment: Deployment) -> int:
    """Run the process; return its exit code. Raises what no retry can fix."""

    async def assemble(shared: SharedResources) -> Sequence[Job]:
        return [
            *await retention_jobs(shared, deployment),
            await footprint_job(shared, deployment.settings, "retention", login="retention"),
        ]

    return run_process("retention", deployment.settings, assemble, retention_probes(deployment))


def retention_probes(deployment: Deployment) -> list[Probe]:
    """Return the probes of the servers that retention needs."""
    archive = archive_of(deployment)
    topics = {archive.stream.topics.commands: 1}
    return [
        database_probe(deployment.settings, login="retention"),
        KafkaProbe(kafka_connection(deployment.settings), topics),
    ]


def archive_of(deployment: Deployment) -> ContextStream:
    """Return the archive. Raises `UsageError` if no table has a retention."""
    if deployment.catalog.archive is None:
        raise UsageError("no context declares a retention: see docs/archival.md, and Context(retention=...)")
    return deployment.catalog.archive


async def retention_jobs(
    shared: AsyncExitStack, deployment: Deployment, watching: Watching = lambda _: ()
) -> list[Job]:
    """Open what retention needs, and return its jobs, with those of `watching` beside them.

    Raises:
        UsageError: no table has a retention, or no lake is set.
        ContractError: this PostgreSQL computes other digests than the published ones.
        Unavailable: a server is unavailable.
    """
    from tidemill.app.lake import open_copies  # noqa: PLC0415  loads pyarrow, which no other process needs

    settings, clock = deployment.settings, SystemClock()
    archive, copies = archive_of(deployment), open_copies(settings)
    await demand_migrations(deployment)
    owner = owner_name("retention")
    pool = await open_pool(
        shared, settings, name=owner, size=_CONNECTIONS, login="retention", timeouts=_TIMEOUTS
    )
    common = Shared(
        deployment=deployment,
        owner=owner,
        pool=DividedPool(pool),
        relay_pool=await open_pool(shared, settings, name=owner, size=_RELAY_CONNECTIONS, login="retention"),
        workers=Workers(1),
        kafka=kafka_connection(settings, owner.replace(" ", "-")),
    )
    await GenerationStore(pool, common.closed).load_filters()
    created = await streams_as_created({archive.stream.aggregate: archive}, OperationsDatabase(pool))
    ((part, lanes),) = created.values()
    codec = await StreamCodec.open(
        part.stream, part.messages(), clock=clock, registry=open_registry(shared, settings)
    )
    lane = ArchiveLane()
    policies = policies_of(deployment)
    store = RetentionDatabase(
        pool,
        InternalCommandWriter(CommandDatabase(pool, common.closed), clock),
        codec.encode_event,
        committed=lambda claim: lane.wake([claim.lane.id]),
    )
    await store.check_vectors()
    _log.info(Log.ARCHIVE_SEALS, mode=(await store.seal_mode()).value)
    handler = ConfirmationHandler({each.table_name: each for each in policies}, Registry)
    overrides = StreamOverrides(lambda *_: {CommandSpec: handler}, lane.before)
    stream = await stream_job(shared, common, part, lanes, overrides)

    def claim() -> Claim | None:
        return lane.claim

    def make() -> RetentionService:
        worker = ArchiveWorker(
            policies,
            store=store,
            copies=copies,
            claim=claim,
            clock=clock,
            as_of=settings.retention.as_of,
            read_timeout_s=settings.lake.timeout_s,
        )
        service = RetentionService(worker, every_s=settings.retention.every_s)
        lane.news = service.wake
        return service

    held = HoldingsDatabase(pool)
    watch = Job("archive's metrics", lambda: ArchiveWatch(deployment.catalog.policies, held, clock=clock))
    working = Working(lane, store, policies, owner, pool)
    return [stream, Job("retention", make), watch, *watching(working)]


def policies_of(deployment: Deployment) -> list[Retention]:
    """Return the policies as the settings let them hold."""
    settings = deployment.settings.retention
    return in_force(
        deployment.catalog.policies.values(),
        max_bytes_per_s=settings.max_bytes_per_second,
        is_rehearsal=settings.as_of is not None,
    )
