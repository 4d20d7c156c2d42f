"""Another program's view of the topics: librdkafka as producer and consumer, and nothing of Tidemill's transport.

What this client was told is acknowledged, and what it reads as `read_committed`, is what the promises are about.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import UnknownMemberIdError
from aiokafka.protocol.group import LeaveGroupRequest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it re-exports them without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from tests.support.waiting import HANGING_S, eventually_blocking

TIMEOUT_S = HANGING_S
ATTEMPT_S = 10

Headers = Sequence[tuple[str, bytes | None]]


class Outgoing(NamedTuple):
    """A record to send; `partition` None leaves the choice to the client's partitioner."""

    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Headers = ()


class Seen(NamedTuple):
    """A record as a reader of committed records sees it. `headers`: of several of one name the last."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    all_headers: tuple[tuple[str, bytes | None], ...]

    @property
    def headers(self) -> dict[str, bytes | None]:
        """Return name -> value."""
        return dict(self.all_headers)

    def text(self, name: str) -> str:
        """Return a header that must be there."""
        value = self.headers[name]
        assert value is not None, f"header {name} is null"
        return value.decode()


@dataclass(frozen=True)
class Client:
    """A client of the broker at `bootstrap`."""

    bootstrap: str

    def producer(self, **options: Any) -> Producer:
        """Return a producer as the README configures it."""
        safe = {
            "log_level": 0,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "delivery.timeout.ms": 120_000,
        }
        return Producer({"bootstrap.servers": self.bootstrap} | safe | options)

    def send(self, topic: str, records: Iterable[Outgoing], **options: Any) -> list[tuple[int, int]]:
        """Send records; return partition and offset of each when all are acknowledged."""
        producer = self.producer(**options)
        places: dict[int, tuple[int, int]] = {}
        refused: list[KafkaError] = []
        for number, record in enumerate(records):
            _produce(producer, topic, record, _noting(number, places, refused))
        assert producer.flush(TIMEOUT_S) == 0, "records were not acknowledged"
        assert not refused, refused[0]
        return [places[number] for number in sorted(places)]

    def read(self, topic: str) -> list[Seen]:
        """Return every committed record that the topic has now, partition by partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "log_level": 0,
                "group.id": uuid4().hex,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
            }
        )
        try:
            metadata = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
            starts = [TopicPartition(topic, partition, 0) for partition in metadata.partitions]
            starts = [
                TopicPartition(topic, at.partition, consumer.get_watermark_offsets(at, TIMEOUT_S)[0])
                for at in starts
            ]
            consumer.assign(starts)
            return sorted(_until_end(consumer, len(starts)), key=lambda seen: (seen.partition, seen.offset))
        finally:
            consumer.close()

    # --- what an operator's tools do ---

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic; when this returns it is listed: a busy broker knows of it later than its controller."""
        self._ask(lambda admin: admin.create_topics([NewTopic(topic, partitions, 1)]))
        eventually_blocking(lambda: topic in self._topics(), TIMEOUT_S, f"{topic} to be listed")

    def _topics(self) -> set[str]:
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return set(admin.list_topics(timeout=TIMEOUT_S).topics)

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        self._ask(lambda admin: admin.create_partitions([NewPartitions(topic, partitions)]))

    def delete(self, topic: str) -> None:
        """Delete a topic."""
        self._ask(lambda admin: admin.delete_topics([topic], operation_timeout=TIMEOUT_S))

    def create_again(self, topic: str, partitions: int) -> None:
        """Put an empty topic in the place of one that exists; whoever sends when this returns sends to the new one."""
        self.delete(topic)
        eventually_blocking(
            partial(self._created, topic, partitions), TIMEOUT_S, f"{topic} again", retry_on=(KafkaException,)
        )
        eventually_blocking(  # a busy broker goes on taking records for the old one until it knows of the new one
            lambda: not self.read(topic),
            TIMEOUT_S,
            "the new topic, which is empty",
            retry_on=(KafkaException, KeyError),
        )

    def _created(self, topic: str, partitions: int) -> bool:
        self.create(topic, partitions)
        return True

    def delete_all(self, prefix: str) -> None:
        """Delete every topic whose name begins with `prefix`, also of a broker that has just come back."""
        eventually_blocking(
            partial(self._deleted, prefix),
            TIMEOUT_S,
            "topics to go",
            retry_on=(KafkaException, TimeoutError),
        )

    def _deleted(self, prefix: str) -> bool:
        """Ask as somebody new, and not for long: a client that once saw no controller goes on waiting for it."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        topics = [topic for topic in admin.list_topics(timeout=ATTEMPT_S).topics if topic.startswith(prefix)]
        for answer in admin.delete_topics(topics, request_timeout=ATTEMPT_S).values() if topics else ():
            answer.result(ATTEMPT_S + 1)
        return not topics

    def configure(self, topic: str, name: str, value: str) -> None:
        """Set one setting of a topic; when this returns brokers tell of it, which one that is busy does later."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self._ask(lambda admin: admin.incremental_alter_configs([resource]))
        eventually_blocking(
            lambda: self._setting(topic, name) == value, TIMEOUT_S, f"{name} of {topic} to be {value}"
        )

    def _setting(self, topic: str, name: str) -> str:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        value: str = self._ask(lambda admin: admin.describe_configs([resource]))[name].value
        return value

    def members(self, group: str) -> list[str]:
        """Return the ids of a consumer group's members, those that are dead and not yet missed among them."""
        described = self._ask(lambda admin: admin.describe_consumer_groups([group]))
        return [member.member_id for member in described.members]

    def bury(self, group: str) -> None:
        """Tell the broker that the members of a group are dead, which it would notice when their sessions expire."""
        members = self.members(group)
        asyncio.run(_leave(self.bootstrap, group, members))

    def _ask(self, question: Callable[[AdminClient], Mapping[Any, Future[Any]]]) -> Any:
        """Return the one answer; the client must live until then."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        (answer,) = question(admin).values()
        return answer.result(TIMEOUT_S)


@dataclass
class Feed:
    """A service that sends records in the background until its block ends; `acknowledged` are those it may count on."""

    client: Client
    topic: str
    make: Callable[[int], tuple[str, Outgoing]]
    per_second: float
    acknowledged: set[str] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send while the block runs; when it ends, everything sent is acknowledged."""
        worker = threading.Thread(target=self._work, name="feed")
        worker.start()
        try:
            yield
        finally:
            self._stopping.set()
            worker.join(TIMEOUT_S + 30)

    def _work(self) -> None:
        producer = self.client.producer()
        for number in count():
            if self._stopping.wait(1 / self.per_second):
                break
            name, record = self.make(number)
            _produce(producer, self.topic, record, self._note(name))
        producer.flush(TIMEOUT_S)

    def _note(self, name: str) -> Callable[[KafkaError | None, Message], None]:
        def told(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self.acknowledged.add(name)

        return told


def _produce(producer: Producer, topic: str, record: Outgoing, told: Any) -> None:
    options: dict[str, Any] = {} if record.partition is None else {"partition": record.partition}
    while True:
        try:
            producer.produce(
                topic,
                record.value,
                key=record.key,
                headers=list(record.headers),
                on_delivery=told,
                **options,
            )
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _noting(
    number: int, places: dict[int, tuple[int, int]], refused: list[KafkaError]
) -> Callable[[KafkaError | None, Message], None]:
    def told(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            refused.append(error)
            return
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        places[number] = (partition, offset)

    return told


def _until_end(consumer: Consumer, partitions: int) -> Iterable[Seen]:
    """Yield records until every partition has said that its last stable offset is reached."""
    ended: set[int | None] = set()
    while len(ended) < partitions:
        message = consumer.poll(TIMEOUT_S)
        assert message is not None, "the broker does not answer"
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            ended.add(message.partition())
            continue
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        yield Seen(partition, offset, message.key(), message.value(), _headers_of(message))


async def _leave(bootstrap: str, group: str, members: Sequence[str]) -> None:
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        await client.ready(coordinator, group=ConnectionGroup.COORDINATION)
        for member in members:
            request = LeaveGroupRequest(group, member)
            answer = await client.send(coordinator, request, group=ConnectionGroup.COORDINATION)
            assert answer.error_code in (0, UnknownMemberIdError.errno), "it left, or was missed meanwhile"
    finally:
        await client.close()


def _headers_of(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    headers: Any = message.headers() or ()
    return tuple(headers)
