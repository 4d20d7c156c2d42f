"""Market data's events on a real topic, and its read models in a real database: what projector and rebuild work on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

from aiokafka import TopicPartition

from tests.support.engine.projections import Running
from tests.support.engine.streams import messages_of
from tests.support.waiting import eventually
from tidemill.catalog.topics import TopicOptions, plan_topics
from tidemill.contexts.market_data import context
from tidemill.contexts.market_data.messages import MarketDataRecorded
from tidemill.domain.context import Context
from tidemill.domain.errors import Unavailable
from tidemill.domain.messages import EventBase
from tidemill.domain.projection import Projection, Recorded
from tidemill.domain.stream import Stream
from tidemill.projections.projector import Projector
from tidemill.projections.replay import ReplayParts
from tidemill.runtime.clock import SystemClock
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.read_models.rebuild import RebuildDatabase
from tidemill.storage.read_models.rows import ViewDatabase
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.events import AvroEventCodec
from tidemill.transport.kafka import KafkaConnection, KafkaEventSource, Topics
from tidemill.transport.kafka.client.client import idempotent_producer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.lookup import Lookup

LANES = 4
NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)


def tick(symbol: str, price: float, *, minutes: float = 0, **fields: Any) -> MarketDataRecorded:
    """A tick some minutes after noon."""
    facts = {"symbol": symbol, "price": price, "time": NOON + timedelta(minutes=minutes), "source": "test"}
    return MarketDataRecorded(command_id="c", service_name="s", timestamp=NOON, **facts | fields)  # type: ignore[arg-type]


def random_ticks(random: Random, number: int) -> list[MarketDataRecorded]:
    """Ticks of a few symbols over some days, many of them late, some at the same time, some without a volume."""
    return [
        tick(
            random.choice(["AAPL", "IBM", "MSFT", "BTC/USD"]),
            round(random.uniform(1, 200), 2),
            minutes=random.randrange(0, 4_000, 40),
            volume=random.choice([None, round(random.uniform(0, 1e6), 3)]),
            high=random.choice([None, 250.0]),
        )
        for _ in range(number)
    ]


@dataclass
class Market:
    """One stream, of market data or of another context. `told` keeps what was published, by lane."""

    connection: KafkaConnection
    stream: Stream
    pool: Pool
    writer: StreamCodec
    reader: AvroEventCodec
    producer: Any
    context: Context = context
    told: dict[int, list[Recorded[Any]]] = field(default_factory=dict)

    @property
    def store(self) -> ViewDatabase:
        return ViewDatabase(self.pool)

    def source(self) -> KafkaEventSource:
        return KafkaEventSource(
            self.connection, topic=self.stream.topics.events, partitions=self.stream.partitions
        )

    def running(self, projections: Sequence[Projection] = context.projections, **limits: Any) -> Running:
        """A projector, to be entered."""
        projector = Projector(
            self.stream,
            projections,
            source=self.source(),
            codec=self.reader,
            store=self.store,
            clock=SystemClock(),
            **limits,
        )
        return Running(projector)

    def parts(self, stall_s: float = 5.0) -> ReplayParts:
        """What rebuild and verify work with."""
        return ReplayParts(self.source, self.reader, self.store, RebuildDatabase(self.pool), stall_s)

    async def tell(self, lane_id: int, *ticks: EventBase) -> None:
        """Publish ticks in a lane, numbered on."""
        told = self.told.setdefault(lane_id, [])
        await self.publish(lane_id, zip(count(len(told) + 1), ticks, strict=False))

    async def publish(self, lane_id: int, numbered: Iterable[tuple[int, EventBase]]) -> None:
        """Publish ticks with the sequences given, dense or not."""
        told = self.told.setdefault(lane_id, [])
        batch = self.producer.create_batch()
        for sequence, event in numbered:
            at = NOON + timedelta(seconds=sequence)
            told.append(Recorded(event, at, lane_id, sequence))
            headers = [
                ("ce_id", b"%d-%d" % (lane_id, sequence)),
                ("ce_type", self.context.full_name(type(event)).encode()),
                ("ce_time", at.isoformat(timespec="microseconds").encode()),
                ("tm_sequence", b"%d" % sequence),
            ]
            key, value = self.stream.key(event).encode(), self.writer.encode_event(event)
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                await self._send(lane_id, batch)
                batch = self.producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        await self._send(lane_id, batch)

    async def _send(self, lane_id: int, batch: Any) -> None:
        batch.close()
        await (await self.producer.send_batch(batch, self.stream.topics.events, partition=lane_id))

    def ends(self) -> dict[int, int]:
        """The last sequence of every lane."""
        return {lane: max(record.sequence for record in records) for lane, records in self.told.items()}

    async def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table, in no order."""
        return [dict(row) for row in await self.pool.fetch(f"select * from {table}")]

    async def create_topics(self) -> None:
        await Topics(self.connection).create(plan_topics(self.stream.topics, LANES, TopicOptions()))

    async def create_topics_again(self) -> None:
        """Delete the topics and create them, empty: a broker may hold the former ones a while longer."""
        await self.delete_topics()
        await self.create_topics()
        lookup = Lookup(self.connection)
        events = [TopicPartition(self.stream.topics.events, lane_id) for lane_id in range(LANES)]

        async def empty() -> bool:
            return not any((await lookup.ends(events)).values())

        try:
            await eventually(empty, what="topics without records", retry_on=(Unavailable,))
        finally:
            await lookup.close()

    async def delete_topics(self) -> None:
        await Topics(self.connection).delete(list(self.stream.topics.named().values()))


@asynccontextmanager
async def open_market(
    database: str, bootstrap: str, prefix: str, of: Context = context
) -> AsyncIterator[Market]:
    """A market of four lanes in a database that is migrated, on topics of its own."""
    connection = KafkaConnection(bootstrap=bootstrap)
    stream = Stream.of(replace(of, partitions=LANES), prefix=prefix)
    messages = messages_of(of.name)
    producer = idempotent_producer(connection, batch_bytes=200_000)
    pool = await create_pool(database, application_name="tidemill-tests", size=8)
    market = Market(
        connection,
        stream,
        pool,
        await StreamCodec.open(stream, messages, clock=SystemClock()),
        await AvroEventCodec.open(stream, messages, clock=SystemClock()),
        producer,
        of,
    )
    await market.create_topics()
    await producer.start()
    try:
        yield market
    finally:
        await hard_close(producer, 5)
        await market.delete_topics()
        await close_pool(pool)
