"""The process `serve retention`: the archive's stream, and the worker that moves what is due while it owns the lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace

from tidemill.admin.archive.access import without_quiet
from tidemill.admin.archive.status import ArchiveWatch
from tidemill.admin.lanes.states import streams_as_created
from tidemill.app.archive_stream import ArchiveLane, Store, styles
from tidemill.app.connections import (
    DatabaseProbe,
    SharedResources,
    kafka_connection,
    open_pool,
    open_registry,
)
from tidemill.app.deployment import Deployment
from tidemill.app.processes.base import owner_name, run_process
from tidemill.app.processes.commands import Shared, StreamOverrides, stream_job
from tidemill.app.processes.footprint import footprint_job
from tidemill.app.startup.migrations import demand_migrations
from tidemill.catalog.streams import ContextStream
from tidemill.commands.internal_commands import InternalCommandWriter
from tidemill.commands.workers import Workers
from tidemill.domain.archive.policy import Retention
from tidemill.domain.errors import Fenced, LaneHalted, TransientError, UsageError
from tidemill.domain.lane import Claim
from tidemill.http.health import Probe
from tidemill.retention.grouping import Round
from tidemill.retention.worker import ArchiveWorker
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Health, Job
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import ARCHIVE_ROUNDS, ARCHIVE_TROUBLES
from tidemill.storage.admin.archived_rows import HoldingsDatabase
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import GenerationStore
from tidemill.storage.database.pool import Pool, Timeouts
from tidemill.storage.database.pool_parts import DividedPool
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
    store: Store
    policies: Sequence[Retention]
    owner: str
    pool: Pool


Watching = Callable[[Working], Sequence[Job]]


class RetentionService:
    """A `Service`: round after round, at once while there is something to do, else after a pause or a wake."""

    def __init__(self, keeper: ArchiveWorker, *, every_s: float) -> None:
        """Nothing happens before `run`."""
        self._keeper = keeper
        self._every_s = every_s
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()
        self._last = Round()

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Move what is due until `stop`."""
        while not self._stopping.is_set():
            self._news.clear()
            await self._round()
            if not self._last.moved:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), self._every_s)

    async def _round(self) -> None:
        before = self._last.troubles
        try:
            self._last = await self._keeper.round()
        except Fenced:
            self._last = Round()  # another process owns the lane now, or it comes back with a new claim
        except (TransientError, LaneHalted) as error:
            self._last = Round(troubles=[str(error)])
            if str(error) not in before:
                _log.warning(Log.ARCHIVE_WAITS, reason=str(error))
        troubles, moved = self._last.troubles, self._last.moved
        ARCHIVE_TROUBLES.set(len(troubles))
        ARCHIVE_ROUNDS.labels("troubled" if troubles else "moved" if moved else "idle").inc()

    def wake(self) -> None:
        """Say that there may be something to do."""
        self._news.set()

    async def stop(self) -> None:
        """Let `run` end after the round in flight."""
        self._stopping.set()
        self._news.set()

    def health(self) -> Health:
        """Return that it runs; what waits is not a fault, and `retention status` lists it."""
        return Health(ok=True, detail={"troubles": list(self._last.troubles[:5])})


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
        DatabaseProbe(deployment.settings, login="retention"),
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
    from tidemill.app.lake_copies import open_copies  # noqa: PLC0415  loads pyarrow, which no other process needs

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
    running = _Running()
    lane = ArchiveLane(running.wake)
    policies = policies_of(deployment)
    store = Store(
        pool,
        InternalCommandWriter(CommandDatabase(pool, common.closed), clock),
        codec,
        committed=lambda claim: lane.wake([claim.lane.lane]),
    )
    await store.check_vectors()
    _log.info(Log.ARCHIVE_SEALS, mode=(await store.seal_mode()).value)
    fit = StreamOverrides(styles({each.table_name: each for each in policies}), lane.before)
    stream = await stream_job(shared, common, part, lanes, fit)

    def claim() -> Claim | None:
        return lane.claim

    def make() -> RetentionService:
        keeper = ArchiveWorker(
            policies,
            store=store,
            copies=copies,
            claim=claim,
            clock=clock,
            as_of=settings.retention.as_of,
            read_timeout_s=settings.lake.timeout_s,
        )
        running.service = RetentionService(keeper, every_s=settings.retention.every_s)
        return running.service

    held = HoldingsDatabase(pool)
    watch = Job("archive's metrics", lambda: ArchiveWatch(deployment.catalog.policies, held, clock=clock))
    working = Working(lane, store, policies, owner, pool)
    return [stream, Job("retention", make), watch, *watching(working)]


def policies_of(deployment: Deployment) -> list[Retention]:
    """Return the policies as they apply now: a rehearsal with its own time does not wait for quiet."""
    settings = deployment.settings.retention
    found = [_held_back(each, settings.max_bytes_per_second) for each in deployment.catalog.policies.values()]
    if settings.as_of is None:
        return found
    return [without_quiet(each) for each in found]


def _held_back(policy: Retention, bytes_per_s: int | None) -> Retention:
    rates = [rate for rate in (policy.bytes_per_s, bytes_per_s) if rate is not None]
    return replace(policy, bytes_per_s=min(rates, default=None))


class _Running:
    """The service that runs now, to be woken."""

    service: RetentionService | None = None

    def wake(self) -> None:
        if self.service is not None:
            self.service.wake()
