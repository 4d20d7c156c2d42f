"""An operator's questions about the ends of lanes' topics. Without a group and without a producer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property

from aiokafka import ConsumerRecord, TopicPartition

from tidemill.admin.rows import GroupMember
from tidemill.domain.lane import Lane
from tidemill.outbox.ports import Tail, Tails
from tidemill.transport.kafka.admin.group_members import members_of
from tidemill.transport.kafka.client.client import KafkaConnection, watermark_consumer
from tidemill.transport.kafka.client.lookup import Lookup, assign
from tidemill.transport.kafka.outbox.tail import TailReader, tail_of


class Inspector:
    """`admin.ports.TopicInspector`. Every question raises `Unavailable` after the connection's deadline."""

    def __init__(self, connect: Callable[[], KafkaConnection]) -> None:
        """`connect`: called at the first question, for Kafka's address. May raise `UsageError`."""
        self._connect = connect

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self._connect())

    @cached_property
    def _watermarks(self) -> Lookup:
        return Lookup(self._connect(), make=watermark_consumer)

    @cached_property
    def _tails(self) -> TailReader:
        return TailReader(self._connect())

    async def partitions(self, topic: str) -> int:
        return await self._lookup.partitions(topic)

    async def absent(self, topics: Collection[str]) -> list[str]:
        return await self._lookup.absent(topics)

    async def bounds(self, topics: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        wanted = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
        found = await self._lookup.bounds(wanted)
        return {
            topic: [found[TopicPartition(topic, number)] for number in range(count)]
            for topic, count in topics.items()
        }

    async def ends(self, topics: Mapping[str, int]) -> dict[str, list[int]]:
        wanted = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
        ends = await self._watermarks.ends(wanted)
        return {
            topic: [ends[TopicPartition(topic, number)] for number in range(count)]
            for topic, count in topics.items()
        }

    async def written_at(self, offsets: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], datetime]:
        places = {TopicPartition(*place): offset for place, offset in offsets.items()}
        times_ms = await self._watermarks.first_from(places, lambda record: record.timestamp)
        return {(*tp,): datetime.fromtimestamp(at_ms / 1000, UTC) for tp, at_ms in times_ms.items()}

    async def members(self, topics: Collection[str]) -> list[GroupMember]:
        return await members_of(self._connect(), topics)

    async def unread(self, spans: Mapping[tuple[str, int], tuple[int, int]]) -> dict[tuple[str, int], int]:
        # offsets do not count records: every transaction ends with one that is not a record
        starts = {TopicPartition(*place): first for place, (first, _) in spans.items()}
        counts = dict.fromkeys(spans, 0)
        async with self._lookup.asking("counting records") as consumer:
            fetching = assign(consumer, starts)
            flowing = set(starts)
            while flowing:
                fetched = await fetching.fetch(flowing)
                for tp, records in fetched.records.items():
                    counts[tp] += sum(record.offset < spans[tp][1] for record in records)
                unreadable = {fault.partition for fault in fetched.faults}
                for tp in unreadable:
                    counts[tp] += 1  # it exists, whatever it is
                read_to_end = {
                    tp for tp in flowing if await consumer.position(tp) >= spans[tp][1]
                } | unreadable
                fetching.pause(read_to_end)
                flowing -= read_to_end
        return counts

    async def tails(self, lanes: Sequence[Lane]) -> dict[int, Tails]:
        """Return lane (id) -> where the relay's records in its three outbound partitions end.

        Later records of other programs do not count.
        """
        places = {lane_id.id: _places(lane_id) for lane_id in lanes}
        looks = await self._tails.look([place for three in places.values() for place in three])
        found = {
            place: await self._tails.ours(place, look, {place.topic: sys.maxsize})
            for place, look in looks.items()
        }
        return {
            lane_id: Tails(*(_tail(found[place]) for place in three)) for lane_id, three in places.items()
        }

    async def close(self) -> None:
        for name in ("_lookup", "_watermarks", "_tails"):
            if (asked := self.__dict__.pop(name, None)) is not None:
                await asked.close()


def _places(lane: Lane) -> tuple[TopicPartition, TopicPartition, TopicPartition]:
    topics = lane.topics
    return (
        TopicPartition(topics.events, lane.partition),
        TopicPartition(topics.outcomes, lane.partition),
        TopicPartition(topics.dead_letters, lane.partition),
    )


def _tail(record: ConsumerRecord | None) -> Tail | None:
    return None if record is None else tail_of(record)
