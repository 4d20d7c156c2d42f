"""The history in the topics of one lane, for an operator's decision how it continues. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from aiokafka import ConsumerRecord, TopicPartition

from tidemill.admin.lane_results import TopicsEnd
from tidemill.domain.lane import Lane
from tidemill.outbox.ports import Tails
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.client.lookup import Lookup, assign
from tidemill.transport.kafka.outbox.tail import TailReader, is_ours, tail_of


class KafkaTopicHistory:
    """`admin.lanes.ports.TopicHistory`: reads the outbound partitions of one lane. Use it with `async with`.

    `accepted`: topic -> the offset up to which records of another program do not count.
    """

    def __init__(self, connection: KafkaConnection, lane: Lane, accepted: Mapping[str, int]) -> None:
        topics = (lane.topics.events, lane.topics.outcomes, lane.topics.dead_letters)
        self._places = [TopicPartition(topic, lane.partition) for topic in topics]
        self._accepted = accepted
        self._lookup = Lookup(connection)
        self._tails = TailReader(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._lookup.close()
        await self._tails.close()

    async def ends(self) -> TopicsEnd:
        looks = await self._tails.look(self._places)
        ends = [await self._tails.ours(place, looks[place], self._accepted) for place in self._places]
        tails = Tails(*(None if end is None else tail_of(end) for end in ends))
        timelines = [_number(end, "tm_timeline") or 1 for end in ends if end is not None]
        bounds = await self._lookup.bounds(self._places[:1])
        hidden = any(look.hidden for look in looks.values())
        return TopicsEnd(tails, max(timelines, default=1), bounds[self._places[0]][0], hidden)

    async def foreign(self) -> dict[str, int]:
        looks = await self._tails.look(self._places)
        return {place.topic: look.end for place, look in looks.items() if not look.is_ours}

    async def chain_at(self, sequence: int) -> int | None:
        # by bisection
        place = self._places[0]
        low, high = (await self._lookup.bounds([place]))[place]
        async with self._lookup.asking("looking for an event") as consumer:
            while low < high:
                middle = (low + high) // 2
                record = await _first_of_ours(consumer, place, middle, high)
                number = None if record is None else _number(record, "tm_sequence")
                if record is None or number is None or number > sequence:
                    high = middle
                elif number < sequence:
                    low = record.offset + 1
                else:
                    return _number(record, "tm_chain")
        return None


async def _first_of_ours(consumer: Any, place: TopicPartition, start: int, end: int) -> ConsumerRecord | None:
    fetching = assign(consumer, {place: start}, max_records=100)
    while await consumer.position(place) < end:
        records, faults = await fetching.fetch({place})
        for record in records.get(place, []):
            if record.offset < end and is_ours(record):
                return record
        if faults:
            return None
    return None


def _number(record: ConsumerRecord, name: str) -> int | None:
    value = next((held for key, held in reversed(record.headers) if key == name), None)
    return None if value is None else int(value)
