"""One stream's topics, in memory or on a real broker, behind one face: what the conformance suites act on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import uuid4

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tests.fakes.kafka import MemoryBroker
from tests.fakes.kafka_ports import MemoryCommandSource, MemoryEventSource, MemoryPublishers
from tests.support.engine.kafka_batches import pack
from tests.support.waiting import HANGING_S, eventually
from tidemill.catalog.topics import TopicOptions, plan_topics
from tidemill.commands.ports import CommandSource
from tidemill.domain.errors import TidemillError
from tidemill.domain.lane import Lane, StreamTopics
from tidemill.outbox.ports import Publishers
from tidemill.projections.ports import EventSource
from tidemill.runtime.clock import SystemClock
from tidemill.transport.kafka import (
    KafkaCommandSource,
    KafkaConnection,
    KafkaEventSource,
    KafkaPublishers,
    TopicReader,
    Topics,
)
from tidemill.transport.kafka.client.client import (
    admin_client,
    expiring_producer,
    idempotent_producer,
    transactional_producer,
)
from tidemill.transport.kafka.client.close import hard_close, kill
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.kafka.patches.decompression_limit import MAX_UNPACKED_BYTES

MAX_EVENT_BYTES = 200_000
MAX_COMMAND_BYTES = 100_000
_GZIP = 1


class World(Protocol):
    """A stream's four topics and who works with them.

    A record written `open` belongs to a transaction that nobody ends, one written `aborted` to one that was aborted.
    """

    topics: StreamTopics
    partitions: int

    async def write(
        self, topic: str, partition: int, *records: OutboundRecord, record_state: str = "committed"
    ) -> None: ...
    async def poison(self, topic: str, partition: int, records: int = 1) -> int: ...
    async def trim(self, topic: str, partition: int, first: int) -> None: ...
    async def create_again(self, topic: str) -> None: ...
    async def visible(self, topic: str, partition: int) -> list[OutboundRecord]: ...
    def publishers(self, *, transactional: bool = True) -> Publishers: ...
    def commands(self) -> CommandSource: ...
    def events(self) -> EventSource: ...
    async def close(self) -> None: ...


def lane_of(world: World, partition: int) -> Lane:
    return Lane(partition + 1, "goods", partition, world.partitions, world.topics)


async def shown(world: World, topic: str, partition: int, count: int) -> list[OutboundRecord]:
    """Return what readers see of a partition, once that is at least `count` records.

    A broker answers a commit before readers see it, a busy one long before.
    """

    async def seen() -> list[OutboundRecord]:
        records = await world.visible(topic, partition)
        return records if len(records) >= count else []

    return await eventually(seen, what=f"{count} records of {topic}/{partition}")


class MemoryWorld:
    """On a broker in memory."""

    def __init__(self, aggregate: str, partitions: int) -> None:
        self.topics = StreamTopics.of(aggregate)
        self.partitions = partitions
        self.broker = MemoryBroker()
        for topic in self.topics.named().values():
            self.broker.create(topic, partitions)
            self.broker.limits[topic] = MAX_EVENT_BYTES

    async def write(
        self, topic: str, partition: int, *records: OutboundRecord, record_state: Any = "committed"
    ) -> None:
        self.broker.write(topic, partition, *records, record_state=record_state)

    async def poison(self, topic: str, partition: int, records: int = 1) -> int:
        return self.broker.poison(topic, partition, records)

    async def trim(self, topic: str, partition: int, first: int) -> None:
        self.broker.trim(topic, partition, first)

    async def create_again(self, topic: str) -> None:
        self.broker.create(topic, self.partitions)

    async def visible(self, topic: str, partition: int) -> list[OutboundRecord]:
        found = self.broker.log(topic, partition).committed()
        return [OutboundRecord(record.key, record.value, record.headers) for record in found]

    def publishers(self, *, transactional: bool = True) -> Publishers:
        return MemoryPublishers(self.broker, transactional=transactional)

    def commands(self) -> CommandSource:
        return MemoryCommandSource(self.broker, topic=self.topics.commands)

    def events(self) -> EventSource:
        return MemoryEventSource(self.broker, topic=self.topics.events)

    async def close(self) -> None:
        return


def unhurried(bootstrap: str) -> KafkaConnection:
    """Return a connection to a broker that answers in the end: a deadline is no more than a guard against hanging."""
    return KafkaConnection(bootstrap=bootstrap, call_timeout_s=HANGING_S)


class KafkaWorld:
    """On a real broker; `open` makes the topics."""

    def __init__(self, connection: KafkaConnection, aggregate: str, partitions: int) -> None:
        self.connection = connection
        self.topics = StreamTopics.of(aggregate)
        self.partitions = partitions
        self._publishers: list[KafkaPublishers] = []
        self._producers: list[Any] = []

    async def open(self) -> list[str]:
        settings = TopicOptions(max_command_bytes=MAX_COMMAND_BYTES, max_event_bytes=MAX_EVENT_BYTES)
        return list(await Topics(self.connection).create(plan_topics(self.topics, self.partitions, settings)))

    async def write(
        self, topic: str, partition: int, *records: OutboundRecord, record_state: str = "committed"
    ) -> None:
        if record_state == "committed":
            producer = idempotent_producer(self.connection, batch_bytes=MAX_COMMAND_BYTES)
            await producer.start()
            await _send(producer, topic, partition, records)
            await hard_close(producer, 5)
            return
        name = uuid4().hex
        producer = await self._transactional(name)
        await producer.begin_transaction()
        await _send(producer, topic, partition, records)
        if record_state == "aborted":
            await producer.abort_transaction()
            await self._transactional(name)  # started when the markers stand: abort does not wait for them

    async def _transactional(self, name: str) -> Any:
        producer = transactional_producer(
            self.connection,
            transactional_id=name,
            transaction_timeout_ms=60_000,
            batch_bytes=MAX_COMMAND_BYTES,
        )
        self._producers.append(producer)
        await producer.start()
        return producer

    async def poison(self, topic: str, partition: int, records: int = 1) -> int:
        producer = expiring_producer(self.connection)
        await producer.start()
        batch = producer.create_batch()
        batch._builder = DefaultRecordBatchBuilder(2, _GZIP, 0, -1, -1, 0, 2 * MAX_UNPACKED_BYTES)
        for _ in range(records):
            batch.append(timestamp=None, key=b"k", value=bytes(MAX_UNPACKED_BYTES // records), headers=[])
        done = await (await producer.send_batch(batch, topic, partition=partition))
        await hard_close(producer, 5)
        return int(done.offset)

    async def trim(self, topic: str, partition: int, first: int) -> None:
        admin = admin_client(self.connection)
        await admin.start()
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(first)})
        await hard_close(admin, 5)

    async def create_again(self, topic: str) -> None:
        await Topics(self.connection).delete([topic])

        async def created() -> bool:  # not before the broker has removed the old one
            return topic in await self.open()

        async def empty() -> bool:  # the broker may show the old one a while longer than its controller
            return not any([await self.visible(topic, number) for number in range(self.partitions)])

        await eventually(created, what=f"{topic} again")
        await eventually(empty, what=f"{topic} without records", retry_on=(TidemillError,))

    async def visible(self, topic: str, partition: int) -> list[OutboundRecord]:
        async with TopicReader(self.connection, topic, partition=partition) as reader:
            await reader.open()
            return [
                OutboundRecord(record.key, record.value, record.headers) async for record in reader.records()
            ]

    def publishers(self, *, transactional: bool = True) -> Publishers:
        publishers = KafkaPublishers(
            self.connection,
            transactional=transactional,
            timeout_s=max(10.0, self.connection.call_timeout_s),
            batch_bytes=MAX_COMMAND_BYTES,
        )
        self._publishers.append(publishers)
        return publishers

    def commands(self) -> CommandSource:
        return KafkaCommandSource(
            self.connection, topic=self.topics.commands, group=f"group-{self.topics.commands}"
        )

    def events(self) -> EventSource:
        return KafkaEventSource(self.connection, topic=self.topics.events, partitions=self.partitions)

    async def close(self) -> None:
        for publishers in self._publishers:
            await publishers.close()
        for producer in self._producers:
            await kill(producer)
        await Topics(self.connection).delete(list(self.topics.named().values()))


async def _send(producer: Any, topic: str, partition: int, records: Sequence[OutboundRecord]) -> Any:
    """Send them as one batch: the client's own builder takes no name that is no UTF-8."""
    at_ms = int(SystemClock().now().timestamp() * 1000)
    transactional = producer._txn_manager is not None and producer._txn_manager.transactional_id is not None
    (batch,) = pack(records, 1 << 24, at_ms=at_ms, transactional=transactional)
    return await (await producer.send_batch(batch, topic, partition=partition))
