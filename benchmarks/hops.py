"""Our hops, each alone in a process of its own, joined from the same parts as the processes that serve."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import asyncpg

from benchmarks.arena import Arena
from benchmarks.data import PARTITIONS
from benchmarks.meter import Meter, Reading
from tidemill.app.admin import Admin
from tidemill.app.deployment import Deployment
from tidemill.app.processes.base import tune_gc
from tidemill.catalog.streams import ContextStream, outcome_messages
from tidemill.commands.batch import BatchWriter
from tidemill.commands.handlers import handlers_of
from tidemill.commands.intake import Intake, IntakeOptions
from tidemill.commands.ports import Reply
from tidemill.commands.secret_events import RowKeys
from tidemill.commands.validation import Validator
from tidemill.commands.workers import Workers
from tidemill.contexts import market_data
from tidemill.domain.context import Context
from tidemill.domain.lane import Claim
from tidemill.outbox.lanes import LaneRelays
from tidemill.projections.projector import Projector
from tidemill.runtime.clock import SystemClock
from tidemill.security.master_keys import MasterKeys
from tidemill.settings import Settings, load
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.storage.read_models.rows import ViewDatabase
from tidemill.storage.security.data_keys import DataKeyTransaction
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.events import AvroEventCodec
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.commands.source import KafkaCommandSource
from tidemill.transport.kafka.outbox.compression import ZSTD
from tidemill.transport.kafka.outbox.packs import KafkaPacks
from tidemill.transport.kafka.outbox.publisher import KafkaPublishers
from tidemill.transport.kafka.outbox.records import KafkaRecordFormat
from tidemill.transport.kafka.projections.event_source import KafkaEventSource

_OWNER = f"benchmark {os.getpid()}"  # two processes that share the lanes are two owners
_MASTER_KEY = "bench:" + b64encode(bytes(32)).decode()
_EVENT_BYTES = 1_000_000
_LOOK_EVERY_S = 0.02
_CONSUMED = "select coalesce(sum(applied + rejected + duplicate + parked), 0)::bigint - $1 from tm.batch"


def deployment(where: Arena, of: Context = market_data.context) -> Deployment:
    """Return one context alone, in an arena."""
    os.environ.update(where.environment())
    settings: Settings = load()
    return Deployment.of(settings, (replace(of, partitions=PARTITIONS),))


async def prepare(where: Arena, of: Context = market_data.context, *, all_contexts: bool = False) -> None:
    """Migrate, and create topics and lanes of one context or, for the processes that serve, of all contexts."""
    made = deployment(where, of)
    if all_contexts:
        made = Deployment.of(made.settings)
    async with Admin(made) as admin:
        await admin.migrations.apply(["heads"], lambda _: None)
        await admin.topic_setup.create()


@dataclass
class _Bench:
    """What every hop needs."""

    where: Arena
    part: ContextStream
    pool: Pool
    kafka: KafkaConnection

    async def measured(
        self, count: int, done: Callable[[], Awaitable[int]], *working: asyncio.Task[None]
    ) -> Reading:
        """Measure from now until `done` counts up to `count`. Raises what ends one of `working` before."""
        backend = await self.pool.fetchval("select pg_backend_pid()")
        meter = Meter(backend, [os.getpid()])
        while await done() < count:
            await asyncio.sleep(_LOOK_EVERY_S)
            for task in working:
                if task.done():
                    task.result()
        return meter.read(count)

    async def claims(self) -> list[Claim]:
        store = CommandDatabase(self.pool)
        return await store.claim(self.part.stream.aggregate, range(PARTITIONS), _OWNER)


@asynccontextmanager
async def _bench(where: Arena, of: Context = market_data.context) -> AsyncIterator[_Bench]:
    part = deployment(where, of).catalog.of(of.aggregate)
    pool = await create_pool(where.database_url, application_name=_OWNER, size=10)
    tune_gc()
    try:
        yield _Bench(where, part, pool, KafkaConnection(bootstrap=where.kafka))
    finally:
        await close_pool(pool)


class _NoRelay:
    """A follower that does nothing: the intake alone."""

    async def take(self, claims: Sequence[Claim]) -> None:
        del claims

    def begun(self, lanes: Sequence[int]) -> None:
        del lanes

    async def compared(self, lane_id: int) -> None:
        del lane_id

    async def drop(self, lanes: Sequence[int]) -> None:
        del lanes

    def wake(self, lanes: Sequence[int]) -> None:
        del lanes

    def send(self, replies: Sequence[Reply]) -> None:
        del replies


async def work(
    where: Arena,
    count: int,
    of: Context = market_data.context,
    begin: Callable[[], Awaitable[Any]] | None = None,
) -> Reading:
    """Measure the intake alone, with its duplicates, rules, log, outbox and ledger: the next `count` commands.

    `begin`: what is waited for after its group was joined; nothing is applied before. Several processes may share the
    commands: each returns its own CPU and that of all of PostgreSQL, for as many commands as all of them applied.
    """
    async with _bench(where, of) as bench:
        stream = bench.part.stream
        codec = await StreamCodec.open(stream, bench.part.messages(), clock=SystemClock())
        outcomes = await AvroOutcomeCodec.open(stream.topics, outcome_messages(), clock=SystemClock())
        store, nobody = CommandDatabase(bench.pool, packs=KafkaPacks(outcomes)), _NoRelay()
        row_keys = RowKeys(MasterKeys.parse(_MASTER_KEY), DataKeyTransaction) if stream.secrets else None
        handlers = handlers_of(stream, codec, _EVENT_BYTES, row_keys)
        workers = Workers(IntakeOptions.workers)
        others = workers.team()
        held = [await others.turn() for _ in range(IntakeOptions.workers)] if begin else []
        intake = Intake(
            stream=stream,
            source=KafkaCommandSource(bench.kafka, topic=stream.topics.commands, group=where.name),
            store=store,
            validator=Validator(stream, codec),
            writer=BatchWriter(store, handlers, SystemClock(), horizon=timedelta(days=8)),
            follower=nobody,
            answers=nobody,
            options=IntakeOptions(owner=_OWNER),
            workers=workers,
        )
        await intake.start()
        before = await bench.pool.fetchval(_CONSUMED, 0)
        running = asyncio.create_task(intake.run())
        if begin is not None:
            await begin()
        for turn in filter(None, held):
            turn.end()
        reading = await bench.measured(count, lambda: bench.pool.fetchval(_CONSUMED, before), running)
        await intake.stop()
        await running
        return reading


async def relay(where: Arena, count: int) -> Reading:
    """Measure the relay alone: transactional, an event and an outcome per command. Counts commands."""
    async with _bench(where) as bench:
        topics = bench.part.stream.topics
        outcomes = await AvroOutcomeCodec.open(topics, outcome_messages(), clock=SystemClock())
        publishers = KafkaPublishers(bench.kafka, compression=ZSTD)
        relays = LaneRelays(
            OutboxDatabase(bench.pool), publishers, outcomes, KafkaRecordFormat(), KafkaPacks(outcomes)
        )
        claims = await bench.claims()
        running = asyncio.create_task(relays.run())
        taking = asyncio.create_task(relays.take(claims))

        async def acknowledged() -> int:
            return sum(published.position for _, published in relays.states().values())

        reading = await bench.measured(count, acknowledged, running)
        await taking
        await relays.stop()
        await running
        await publishers.close()
        return reading


async def project(where: Arena, count: int) -> Reading:
    """Measure the projector alone, with both read models of market data. Counts events."""
    async with _bench(where) as bench:
        stream = bench.part.stream
        codec = await AvroEventCodec.open(stream, bench.part.messages(), clock=SystemClock())
        projector = Projector(
            stream,
            bench.part.context.projections,
            source=KafkaEventSource(bench.kafka, topic=stream.topics.events, partitions=PARTITIONS),
            codec=codec,
            store=ViewDatabase(bench.pool),
            clock=SystemClock(),
        )
        stopping = asyncio.Event()
        running = asyncio.create_task(projector.run(stopping))

        async def folded() -> int:
            return min(projection.events for projection in projector.status().projections)

        reading = await bench.measured(count, folded, running)
        stopping.set()
        await running
        return reading


HOPS: Mapping[str, Callable[[Arena, int], Coroutine[Any, Any, Reading]]] = {
    "intake": work,
    "relay": relay,
    "projector": project,
}


async def backend_of(where: Arena) -> tuple[asyncpg.Connection[asyncpg.Record], int]:
    """Return a connection to an arena's database and its backend's pid."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(where.database_url)
    return connection, await connection.fetchval("select pg_backend_pid()")
