"""What an operator asks Kafka about lanes: how far their topics go. Disturbs nobody: no group, no producer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord, TopicPartition

from tidemill.domain.lane import Lane
from tidemill.outbox.ports import Tail, Tails
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.client.lookup import Lookup, assign
from tidemill.transport.kafka.outbox.tail import TailReader, tail_of


class Inspector:
    """Asks about topics. Every question raises `Unavailable` after the connection's deadline. Close it at the end."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._lookup = Lookup(connection)
        self._tails = TailReader(connection)

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        return await self._lookup.partitions(topic)

    async def bounds(self, topics: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        """Return topic -> (first offset, last stable offset) of each partition; `topics`: name -> partitions."""
        wanted = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
        found = await self._lookup.bounds(wanted)
        return {
            topic: [found[TopicPartition(topic, number)] for number in range(count)]
            for topic, count in topics.items()
        }

    async def unread(self, spans: Mapping[tuple[str, int], tuple[int, int]]) -> dict[tuple[str, int], int]:
        """Return how many records stand in each span; `spans`: (topic, partition) -> (first, end) offset.

        Offsets are no count: every transaction ends with one that is no record. Reads them all: ask for short spans.
        """
        starts = {TopicPartition(*place): first for place, (first, _) in spans.items()}
        counts = dict.fromkeys(spans, 0)
        async with self._lookup.asking("counting records") as consumer:
            fetching = assign(consumer, starts)
            flowing = set(starts)
            while flowing:
                harvest = await fetching.harvest(flowing)
                for tp, records in harvest.records.items():
                    counts[tp] += sum(record.offset < spans[tp][1] for record in records)
                unreadable = {fault.partition for fault in harvest.faults}
                for tp in unreadable:
                    counts[tp] += 1  # it is there, whatever it is
                done = {tp for tp in flowing if await consumer.position(tp) >= spans[tp][1]} | unreadable
                fetching.pause(done)
                flowing -= done
        return counts

    async def tails(self, lanes: Sequence[Lane]) -> dict[int, Tails]:
        """Return lane (id) -> where the relay's records in its three outbound partitions end.

        What somebody else wrote behind them does not count.
        """
        places = {lane.lane: _places(lane) for lane in lanes}
        looks = await self._tails.look([place for three in places.values() for place in three])
        found = {
            place: await self._tails.ours(place, look, {place.topic: sys.maxsize})
            for place, look in looks.items()
        }
        return {lane: Tails(*(_tail(found[place]) for place in three)) for lane, three in places.items()}

    async def close(self) -> None:
        """End within a deadline."""
        await self._lookup.close()
        await self._tails.close()


def _places(lane: Lane) -> tuple[TopicPartition, TopicPartition, TopicPartition]:
    topics = lane.topics
    return (
        TopicPartition(topics.events, lane.partition),
        TopicPartition(topics.outcomes, lane.partition),
        TopicPartition(topics.dead_letters, lane.partition),
    )


def _tail(record: ConsumerRecord | None) -> Tail | None:
    return None if record is None else tail_of(record)
