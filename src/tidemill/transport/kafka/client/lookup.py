"""Questions about partitions, offsets and single records, asked through a separate consumer.

The consumer is made when the first question comes and kept for the next. It is in no group and reads only what a
question needs, so it affects no other consumer. Every question has a deadline; after a failed one, the consumer is
closed and the next question makes a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from tidemill.transport.kafka.client.client import KafkaConnection, manual_consumer
from tidemill.transport.kafka.client.close import hard_close, kill
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.fetch_buffer import Fetching
from tidemill.transport.kafka.client.start import start

T = TypeVar("T")

_WAIT_S = 0.2
_ELECTION_LOOKS = 10
_PARTITION_BYTES = 64 << 10  # a question needs one record or a few; a larger batch is fetched whole anyway


def thrifty_consumer(connection: KafkaConnection) -> Any:
    """Return a consumer for questions, not started."""
    return manual_consumer(connection, partition_bytes=_PARTITION_BYTES, seldom=True)


class Lookup:
    """Asks Kafka, one question at a time. Every question raises `Unavailable` when its deadline has passed."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        timeout_s: float | None = None,
        make: Callable[[KafkaConnection], Any] = thrifty_consumer,
    ) -> None:
        """`timeout_s`: the deadline of one question; not set: the connection's. `make`: makes the consumer."""
        self._connection = connection
        self._make = make
        self._timeout_s = timeout_s or connection.call_timeout_s
        self._consumer: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        async with self.asking(f"looking for topic {topic}") as consumer:
            return await partitions_of(consumer, topic)

    async def absent(self, topics: Collection[str]) -> list[str]:
        """Return those of the topics that do not exist, or that Tidemill's principal may not describe, sorted."""
        async with self.asking("looking for topics") as consumer:
            cluster = await consumer._client.fetch_all_metadata()
            return sorted(set(topics) - cluster.topics())

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Return (first offset, end offset) of each partition; the end is the last stable offset."""
        async with self.asking("asking for offsets") as consumer:
            return await bounds_of(consumer, partitions)

    async def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the last stable offset of each partition: half of what `bounds` asks."""
        async with self.asking("asking for offsets") as consumer:
            await _demand_leaders(consumer, partitions)
            return dict(await consumer.end_offsets(list(partitions)))

    async def records_at(
        self, offsets: Mapping[TopicPartition, int], of: Callable[[ConsumerRecord], T]
    ) -> dict[TopicPartition, T | None]:
        """Return `of` the record at each offset, None where there is no readable one; no record is kept."""
        async with self.asking("reading single records") as consumer:
            bounds = await bounds_of(consumer, offsets)
            there = {tp: at for tp, at in offsets.items() if bounds[tp][0] <= at < bounds[tp][1]}
            return {**dict.fromkeys(offsets), **await _read_at(consumer, there, of)}

    async def first_from(
        self, offsets: Mapping[TopicPartition, int], of: Callable[[ConsumerRecord], T]
    ) -> dict[TopicPartition, T]:
        """Return `of` the first record at or after each offset; partitions without one are left out."""
        async with self.asking("reading single records") as consumer:
            bounds = await bounds_of(consumer, offsets)
            starts = {tp: max(at, bounds[tp][0]) for tp, at in offsets.items() if at < bounds[tp][1]}
            return await _first_from(consumer, starts, {tp: bounds[tp][1] for tp in starts}, of)

    async def close(self) -> None:
        """End the consumer within a deadline."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await hard_close(consumer, self._connection.close_timeout_s)

    @asynccontextmanager
    async def asking(self, doing: str) -> AsyncIterator[Any]:
        """Lend the consumer, started, for the block; `doing`: its purpose."""
        async with answering(doing, self._timeout_s), self._one_at_a_time:
            try:
                if self._consumer is None:
                    self._consumer = self._make(self._connection)
                    await start(self._consumer)
                yield self._consumer
            except BaseException:
                consumer, self._consumer = self._consumer, None
                if consumer is not None:
                    await kill(consumer)  # it is in no group to leave
                raise


async def partitions_of(consumer: Any, topic: str) -> int:
    """Return how many partitions a topic has. Raises `UnknownTopicOrPartitionError` at once if there is none."""
    cluster = await consumer._client.fetch_all_metadata()  # the public method waits for the topic
    known = cluster.partitions_for_topic(topic)
    if not known:
        raise UnknownTopicOrPartitionError(topic)
    return len(known)


async def know(consumer: Any, partitions: Collection[TopicPartition]) -> None:
    """Fetch the leaders of partitions, in one request: the client would ask for their offsets first, and then pause."""
    client = consumer._client  # there is no public method to add a topic
    strange = {tp.topic for tp in partitions} - client.cluster.topics()
    await asyncio.gather(*(client.add_topic(topic) for topic in strange))


async def leaderless(consumer: Any, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
    """Return the partitions without a leader, after a moment for an election.

    The client would wait for a leader until its deadline, and so would the rest of the question.
    """
    await know(consumer, partitions)
    cluster = consumer._client.cluster  # the consumer has no public method for leaders
    if hidden := {tp.topic for tp in partitions} & cluster.unauthorized_topics:
        raise TopicAuthorizationFailedError(", ".join(sorted(hidden)))
    looks = 0
    while lost := {tp for tp in partitions if cluster.leader_for_partition(tp) in (None, -1)}:
        looks += 1
        if looks > _ELECTION_LOOKS:
            break
        await consumer._client.force_metadata_update()
        await asyncio.sleep(_WAIT_S)
    return lost


async def _demand_leaders(consumer: Any, partitions: Collection[TopicPartition]) -> None:
    if lost := await leaderless(consumer, partitions):
        raise lost_error(consumer, lost)


def lost_error(consumer: Any, lost: Collection[TopicPartition]) -> KafkaError:
    """Return why partitions have no leader: their topics do not exist, or no broker leads them."""
    topics = {tp.topic for tp in lost}
    if absent := topics - consumer._client.cluster.topics():
        return UnknownTopicOrPartitionError(", ".join(sorted(absent)))
    names = ", ".join(f"{tp.topic}/{tp.partition}" for tp in sorted(lost))
    return LeaderNotAvailableError(f"{names} has no leader")


async def bounds_of(
    consumer: Any, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Return (first offset, last stable offset) of each partition."""
    wanted = list(partitions)
    await _demand_leaders(consumer, wanted)
    first, end = await asyncio.gather(consumer.beginning_offsets(wanted), consumer.end_offsets(wanted))
    return {tp: (first[tp], end[tp]) for tp in wanted}


async def _read_at(
    consumer: Any, offsets: Mapping[TopicPartition, int], of: Callable[[ConsumerRecord], T]
) -> dict[TopicPartition, T]:
    """Read until every partition is past its offset: a record that was not found then does not exist."""
    flowing = set(offsets)
    found: dict[TopicPartition, T] = {}
    fetching = assign(consumer, offsets)
    while flowing:
        records, faults = await fetching.fetch(flowing)
        for tp, (first, *_) in records.items():
            if first.offset == offsets[tp]:
                found[tp] = of(first)
        read_to_end = {tp for tp in flowing if await consumer.position(tp) > offsets[tp]}
        read_to_end |= {fault.partition for fault in faults}
        fetching.pause(read_to_end)
        flowing -= read_to_end
    return found


async def _first_from(
    consumer: Any,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    of: Callable[[ConsumerRecord], T],
) -> dict[TopicPartition, T]:
    flowing = set(starts)
    firsts: dict[TopicPartition, T] = {}
    fetching = assign(consumer, starts)
    while flowing:
        records, faults = await fetching.fetch(flowing)
        firsts |= {tp: of(first) for tp, (first, *_) in records.items()}
        over = {tp for tp in flowing if await consumer.position(tp) >= ends[tp]}
        over |= {fault.partition for fault in faults} | records.keys()
        fetching.pause(over & flowing)
        flowing -= over
    return firsts


def assign(
    consumer: Any,
    offsets: Mapping[TopicPartition, int],
    *,
    max_records: int = 10_000,
    wait_s: float = _WAIT_S,
) -> Fetching:
    """Let a manual consumer read these partitions from these offsets, and no others."""
    consumer.assign(list(offsets))
    for tp, offset in offsets.items():
        consumer.seek(tp, offset)
    return Fetching(consumer, max_records=max_records, wait_s=wait_s)
