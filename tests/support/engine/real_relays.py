"""A stream on real parts with its relays: lanes in TimescaleDB, topics in Kafka, and an outsider who reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tests.fakes.publishers import PlainOutcomes
from tests.support.engine.commands import create_lanes
from tests.support.engine.kafka import KafkaWorld
from tests.support.engine.outbox import Scribe, Written, claim_of, lane_of, store
from tests.support.waiting import HANGING_S, eventually
from tidemill.admin.lane_results import Reconciled, Seen, TopicsEnd
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.lane import Lane
from tidemill.domain.stream import Stream
from tidemill.outbox.common_history import agreement_of_lane
from tidemill.outbox.lanes import LaneRelays, RelaySettings
from tidemill.outbox.ports import OutcomeCodec, Publishers
from tidemill.outbox.relay import RelayState
from tidemill.runtime.retry import Backoff
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.admin.lane_changes import LaneDatabase
from tidemill.storage.database.pool import Pool
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.transport.kafka.outbox.history import KafkaTopicHistory
from tidemill.transport.kafka.outbox.packs import KafkaPacks
from tidemill.transport.kafka.outbox.records import KafkaRecordFormat

SETTINGS = RelaySettings(
    max_positions=200,
    poll_longest_s=0.1,
    mark_every_s=0.05,
    halts_every_s=0.05,
    backoff=Backoff(first_s=0.02, max_s=0.5),
)


class RealWorld:
    """The lanes of one stream; `scribes` write their outbox, one per lane, by partition."""

    def __init__(self, pool: Pool, kafka: KafkaWorld, outcomes: OutcomeCodec | None = None) -> None:
        self.outcomes = outcomes or PlainOutcomes()
        self.pool = pool
        self.kafka = kafka
        self.topics = kafka.topics
        self.scribes: list[Scribe] = []
        self._running: list[tuple[LaneRelays, asyncio.Task[None] | None]] = []

    async def open(self) -> None:
        """Create the lanes."""
        context = replace(market_data, partitions=self.kafka.partitions)
        stream = replace(Stream.of(context), topics=self.topics)
        async with self.pool.acquire() as connection:
            await create_lanes(connection, stream)
            await connection.execute("update tm.lane set epoch = 1")
            rows = await connection.fetch("select lane, partition from tm.lane order by partition")
        lanes = [
            lane_of(row[0], row[1], partitions=self.kafka.partitions, topics=self.topics) for row in rows
        ]
        self.scribes = [Scribe(lane) for lane in lanes]

    async def close(self) -> None:
        """End whatever runs."""
        for relays, task in self._running:
            await relays.stop()
            if task is not None:
                await task

    @property
    def lanes(self) -> list[Lane]:
        """Return the lanes, by partition."""
        return [scribe.lane for scribe in self.scribes]

    async def store(self, *batches: Written) -> None:
        """Commit batches."""
        async with self.pool.acquire() as connection:
            await store(connection, batches)

    async def process(
        self,
        *,
        transactional: bool = True,
        housekeeping: bool = True,
        settings: RelaySettings = SETTINGS,
        publishers: Publishers | None = None,
    ) -> LaneRelays:
        """Return the relays of another process. Without housekeeping nothing is hinted until a lane is dropped."""
        publishers = publishers or self.kafka.publishers(transactional=transactional)
        relays = LaneRelays(
            OutboxDatabase(self.pool),
            publishers,
            self.outcomes,
            KafkaRecordFormat(),
            KafkaPacks(self.outcomes),
            settings,
        )
        task = asyncio.create_task(relays.run()) if housekeeping else None
        self._running.append((relays, task))
        return relays

    async def claim(self, relays: LaneRelays, *lanes: Lane, epoch: int = 1) -> None:
        """Give lanes to a process."""
        ids = [lane.id for lane in lanes]
        await self.pool.execute("update tm.lane set epoch = $2 where lane = any($1::smallint[])", ids, epoch)
        await relays.take([claim_of(lane, epoch) for lane in lanes])

    async def crash(self, relays: LaneRelays) -> None:
        """End a process as kill -9 does: nothing is hinted, publishers are not closed in any order of theirs."""
        for relay in relays._relays.values():
            relay._task.cancel()
            await asyncio.wait({relay._task})
        relays._relays.clear()

    async def sent(self, relays: LaneRelays, *scribes: Scribe, within_s: float = HANGING_S) -> None:
        """Return when all of these lanes' rows were acknowledged."""
        for scribe in scribes:
            await eventually(
                lambda scribe=scribe: relays.states()[scribe.lane.id][1].position == scribe.position,  # type: ignore[misc]
                within_s,
                f"all of lane {scribe.lane.id}",
            )

    async def halted(self, lane: Lane, relays: LaneRelays | None = None) -> tuple[str, str]:
        """Return code and detail of a lane's halt, when it has one and its relay stands still."""

        async def found() -> tuple[str, str] | None:
            row = await self.pool.fetchrow("select code, detail from tm.halt where lane = $1", lane.id)
            if relays is not None and relays.states()[lane.id][0] is not RelayState.HALTED:
                return None
            return None if row is None else (row["code"], row["detail"])

        halt: tuple[str, str] | None = await eventually(found, what=f"a halt of lane {lane.id}")
        assert halt is not None
        return halt

    async def reconcile(self, lane: Lane, reason: str) -> Reconciled:
        """Decide as `tidemill lanes reconcile` does."""
        administration = LaneDatabase(self.pool)
        async with KafkaTopicHistory(self.kafka.connection, lane, {}) as history:
            (state,) = await OperationsDatabase(self.pool).lanes(lane_id=lane.id)
            told = await history.ends()
            agreed = await agreement_of_lane(administration, lane.id, told.tails.events, (), history.chain_at)
        end, seen = TopicsEnd(told.tails, told.timeline, told.first_offset), Seen(state.epoch, state.batch)
        return await administration.reconcile(lane.id, end, agreed, reason, seen=seen)

    async def lift(self, lane: Lane) -> None:
        """Resume a lane, as an operator does."""
        await self.pool.execute("delete from tm.halt where lane = $1", lane.id)

    async def read(self, topic: str, partition: int) -> list[Message]:
        """Return what another client's consumer reads (read_committed)."""
        return await asyncio.to_thread(_read, self.kafka.connection.bootstrap, topic, partition)

    async def check(self, *scribes: Scribe) -> None:
        """Nothing is missing, doubled or out of order, as an outsider sees it."""
        for scribe in scribes:
            lane = scribe.lane
            events = await self.read(self.topics.events, lane.partition)
            outcomes = await self.read(self.topics.outcomes, lane.partition)
            assert numbers(events, "tm_sequence") == list(range(1, scribe.sequence + 1))
            assert numbers(outcomes, "tm_position") == list(range(1, scribe.position + 1))


def numbers(messages: Sequence[Message], name: str) -> list[int]:
    """Return the last header of that name of each message, as a number."""
    return [int(headers(message)[name] or b"") for message in messages]


def headers(message: Message) -> dict[str, Any]:
    """Return a message's headers."""
    return dict(message.headers() or [])


def _read(bootstrap: str, topic: str, partition: int) -> list[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "an-outsider",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: list[Message] = []
    try:
        while (message := consumer.poll(20)) is not None:
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                return found
            else:
                raise AssertionError(str(error))
        raise AssertionError(f"{topic}/{partition} did not answer")
    finally:
        consumer.close()
