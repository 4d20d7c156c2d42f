"""The process `serve commands`: for every stream its intake and the relays of the lanes that it owns; two cleaners.

Kafka -> source -> intake -> batch transaction -> outbox -> relay of the lane -> Kafka
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

from tidemill.admin.lag import LagWatch
from tidemill.admin.lanes.states import streams_as_created
from tidemill.admin.rows import LaneState
from tidemill.app.connections import (
    SharedResources,
    database_probe,
    kafka_connection,
    open_pool,
    open_registry,
)
from tidemill.app.deployment import Deployment
from tidemill.app.processes.base import footprint_job, owner_name, run_process
from tidemill.app.startup.migrations import applied_migrations, demand_migrations
from tidemill.catalog.streams import ContextStream, StreamCatalog, outcome_messages
from tidemill.catalog.table_gate import TableGate
from tidemill.commands.batch import BatchWriter
from tidemill.commands.generations import GenerationPolicy, GenerationRoller
from tidemill.commands.halt_watch import HaltWatch
from tidemill.commands.handlers import Handler, handlers_of
from tidemill.commands.intake import Intake, IntakeOptions
from tidemill.commands.isolation import IsolationGate
from tidemill.commands.lane_queues import WAITING_BYTES, LargeRecords
from tidemill.commands.ports import CommandCodec, LaneFollower
from tidemill.commands.secret_events import RowKeys
from tidemill.commands.sweepers import with_sweepers
from tidemill.commands.validation import Validator
from tidemill.commands.workers import Workers
from tidemill.domain.context import CommandSpec
from tidemill.domain.stream import Stream
from tidemill.http.health import Probe
from tidemill.outbox.backlog_poll import BacklogPoll
from tidemill.outbox.cleaner import OutboxCleaner
from tidemill.outbox.lanes import LaneRelays, RelaySettings
from tidemill.runtime import open_files
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Gate, Job
from tidemill.runtime.service_group import ServiceGroup
from tidemill.security.gate import with_secrets
from tidemill.settings.values import AS_CREATED
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.catalog.structure import StructureDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import ClosedGenerations, GenerationStore
from tidemill.storage.database.pool import Pool
from tidemill.storage.database.pool_parts import DividedPool, size_for
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.storage.security.data_keys import DataKeyTransaction
from tidemill.storage.security.secret_keys import SecretKeyDatabase
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.admin.inspection import Inspector
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.client.probe import KafkaProbe
from tidemill.transport.kafka.commands.replies import KafkaReplies
from tidemill.transport.kafka.commands.reply_records import ReplyRecords
from tidemill.transport.kafka.commands.source import KafkaCommandSource
from tidemill.transport.kafka.outbox.compression import COMPRESSIONS
from tidemill.transport.kafka.outbox.packs import KafkaPacks
from tidemill.transport.kafka.outbox.publisher import KafkaPublishers
from tidemill.transport.kafka.outbox.records import ENVELOPE_BYTES, KafkaRecordFormat

RELAY_CONNECTIONS: Final = 8
"""For all relays of a process, whose statements are short and never wait."""


@dataclass(frozen=True)
class Shared:
    """What the streams of one process share."""

    deployment: Deployment
    owner: str
    pool: DividedPool
    relay_pool: Pool
    workers: Workers
    kafka: KafkaConnection
    isolation: IsolationGate = field(default_factory=IsolationGate)
    room: LargeRecords = field(default_factory=LargeRecords)
    closed: ClosedGenerations = field(default_factory=ClosedGenerations)
    backlog: BacklogPoll = field(default_factory=BacklogPoll)
    halts: HaltWatch = field(default_factory=HaltWatch)

    @property
    def row_keys(self) -> RowKeys | None:
        """Return what encrypts secrets, None without a master key."""
        masters = self.deployment.settings.secret.master_keys()
        return RowKeys(masters, DataKeyTransaction) if masters else None

    def gate(self, stream: Stream, tables: TableGate) -> Gate:
        """Return what a stream waits for: its tables and, if it has secrets, their keys."""
        keys = SecretKeyDatabase(self.pool.questions)
        return with_secrets(tables, stream, keys, self.deployment.settings.secret.master_keys())


def serve_commands(deployment: Deployment) -> int:
    """Run the process; return its exit code. Raises what no retry can fix."""

    async def assemble(shared: SharedResources) -> Sequence[Job]:
        jobs = await command_jobs(shared, deployment)
        return [*jobs, await footprint_job(shared, deployment.settings, "commands")]

    return run_process("commands", deployment.settings, assemble, probes(deployment))


def probes(deployment: Deployment) -> list[Probe]:
    """Return the probes of the servers that a process needs."""
    topics = {part.stream.topics.commands: 1 for part in deployment.catalog.contexts.values()}
    return [database_probe(deployment.settings), KafkaProbe(kafka_connection(deployment.settings), topics)]


async def command_jobs(shared: AsyncExitStack, deployment: Deployment) -> list[Job]:
    """Open what the services share, and return the jobs of this process."""
    settings = deployment.settings
    await demand_migrations(deployment)
    owner = owner_name("commands")
    workers = settings.commands.workers
    pool = await open_pool(shared, settings, name=owner, size=size_for(workers))
    common = Shared(
        deployment=deployment,
        owner=owner,
        pool=DividedPool(pool),
        relay_pool=await open_pool(shared, settings, name=owner, size=RELAY_CONNECTIONS),
        workers=Workers(workers, streams=len(deployment.catalog.contexts)),
        kafka=kafka_connection(settings, owner.replace(" ", "-")),
    )
    await GenerationStore(pool, common.closed).load_filters()
    parts = await streams_as_created(deployment.catalog.contexts, OperationsDatabase(pool))
    open_files.warn_if_short(sum(len(lanes) for _, lanes in parts.values()))
    jobs = [await stream_job(shared, common, part, lanes) for part, lanes in parts.values()]
    return [*jobs, *_cleaners(common)]


def _cleaners(common: Shared) -> list[Job]:
    generations = GenerationStore(common.pool.pool, common.closed)
    policy = GenerationPolicy(horizon=timedelta(days=common.deployment.settings.commands.horizon_days))
    return [
        Job("generations", lambda: GenerationRoller(generations, policy)),
        Job("outbox generations", lambda: OutboxCleaner(OutboxDatabase(common.relay_pool))),
        Job("lag", partial(lag_watch, common.deployment.catalog, common.relay_pool, common.kafka)),
    ]


def lag_watch(catalog: StreamCatalog, pool: Pool, kafka: KafkaConnection) -> LagWatch:
    """Return a new watch of the lag of every step."""
    database = OperationsDatabase(pool)
    return LagWatch(catalog, lanes=database, read_models=database, topics=Inspector(lambda: kafka))


@dataclass(frozen=True)
class StreamOverrides:
    """The parts of one stream: how its commands are decided, and what follows its lanes, with relays after them."""

    handlers: Callable[[Stream, CommandCodec, int], dict[type[CommandSpec], Handler]] = handlers_of
    follower: Callable[[LaneRelays], LaneFollower] = lambda relays: relays


def _publishers(common: Shared, lanes: Sequence[LaneState]) -> KafkaPublishers:
    """Return what sends for the lanes of a stream."""
    settings = common.deployment.settings
    codec = settings.outbox.codec_of(lanes[0].aggregate)
    if codec == AS_CREATED:
        codec = "zstd" if all(lane.compressed for lane in lanes) else "none"
    return KafkaPublishers(
        common.kafka,
        transactional=settings.outbox.transactional,
        batch_bytes=settings.topics.max_event_bytes,
        compression=COMPRESSIONS[codec],
    )


async def stream_job(
    shared: AsyncExitStack,
    common: Shared,
    part: ContextStream,
    lanes: Sequence[LaneState],
    overrides: StreamOverrides | None = None,
) -> Job:
    """Ask the registry once, here: a restarted service does not need it again."""
    overrides = overrides or StreamOverrides(handlers=partial(handlers_of, row_keys=common.row_keys))
    stream, settings, clock = part.stream, common.deployment.settings, SystemClock()
    registry = open_registry(shared, settings)
    codec = await StreamCodec.open(
        stream, part.messages(), clock=clock, registry=registry, max_bytes=settings.topics.max_command_bytes
    )
    outcomes = await AvroOutcomeCodec.open(stream.topics, outcome_messages(), clock=clock, registry=registry)
    allowed = re.compile(settings.replies)
    gate = TableGate(stream, StructureDatabase(common.pool.questions), applied_migrations(common.deployment))
    streams = max(1, len(common.deployment.catalog.contexts))

    def make() -> ServiceGroup:
        publishers = _publishers(common, lanes)
        largest = settings.topics.max_event_bytes - ENVELOPE_BYTES
        means = RelaySettings(max_letter_bytes=largest).shared_by(streams)
        outbox = OutboxDatabase(common.relay_pool)
        packs = KafkaPacks(outcomes, batch_bytes=settings.topics.max_event_bytes)
        relays = LaneRelays(outbox, publishers, outcomes, KafkaRecordFormat(), packs, means, common.backlog)
        replies = KafkaReplies(
            common.kafka,
            ReplyRecords(lanes, outcomes, relays.history),
            allowed=allowed,
            forbidden=common.deployment.catalog.topics(),
        )
        store = CommandDatabase(common.pool, common.closed, packs=packs)
        topic = stream.topics.commands
        handlers = overrides.handlers(stream, codec, largest)
        follower, sweepers = with_sweepers(
            stream, store, handlers, overrides.follower(relays), settings.commands
        )
        horizon = timedelta(days=settings.commands.horizon_days)
        writer = BatchWriter(store, handlers, clock, horizon=horizon, demand_tables=gate.demand)
        intake = Intake(
            stream=stream,
            source=KafkaCommandSource(common.kafka, topic=topic, group=group_of(topic)),
            store=store,
            validator=Validator(stream, codec),
            writer=writer,
            follower=follower,
            answers=replies,
            options=IntakeOptions(
                owner=common.owner,
                batch_records=settings.commands.batch_size,
                workers=settings.commands.workers,
                waiting_bytes=WAITING_BYTES // streams,
                reply_topics=allowed,
                newer_wait=settings.commands.newer_wait,
            ),
            isolation=common.isolation,
            workers=common.workers,
            room=common.room,
            halts=common.halts,
        )
        services = {**sweepers, "intake": intake, "relays": relays}
        return ServiceGroup(services, opening=replies.start, closing=[replies.close, publishers.close])

    return Job(stream.aggregate, make, common.gate(stream, gate))


def group_of(command_topic: str) -> str:
    """Return the consumer group of a stream's intake: its command topic's name, which is unique."""
    return command_topic
