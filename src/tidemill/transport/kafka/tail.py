"""The last committed record of a partition: where a relay goes on.

To be read only after the lane's producer has started, which fences its predecessor and ends that one's transaction.
A topic's last offsets are often no records (each transaction ends with a control record) or aborted ones: the reader
goes back from the last stable offset in growing steps until it meets a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from tidemill.domain.errors import Unavailable
from tidemill.outbox.ports import ForeignTail, Tail
from tidemill.transport.kafka.client import KafkaConnection, watermark_consumer
from tidemill.transport.kafka.fetching import Fault
from tidemill.transport.kafka.lookup import Lookup, assign, bounds_of, know, leaderless

_FIRST_STEP: Final = 8
_GROWTH: Final = 8

Wanted = Callable[[ConsumerRecord], bool]


def tail_of(record: ConsumerRecord) -> Tail:
    """Return what our headers say. Raises `ForeignTail` if somebody else wrote the record."""
    try:
        event_id = _last(record.headers, "ce_id")
        return Tail(
            position=int(_last(record.headers, "tm_position") or b""),
            sequence=int(_last(record.headers, "tm_sequence") or b""),
            event_id=event_id.decode() if event_id else None,
        )
    except ValueError as error:
        raise ForeignTail(record.topic, record.partition, record.offset) from error


def _last(headers: Sequence[tuple[str, bytes | None]], name: str) -> bytes | None:
    """Return the last header of that name: a dead letter's own headers, which may be called alike, come before ours."""
    return next((value for key, value in reversed(headers) if key == name), None)


def is_ours(record: ConsumerRecord) -> bool:
    """Tell whether the relay wrote a record, as its headers say."""
    try:
        tail_of(record)
    except ForeignTail:
        return False
    return True


class Look(NamedTuple):
    """The last record of a partition that a read_committed consumer sees, None if there is none.

    `hidden`: more stands behind it, in a transaction that is not ended.
    """

    record: ConsumerRecord | None
    hidden: bool


async def hidden_in(
    consumer: Any, watermarks: Any, partitions: Collection[TopicPartition]
) -> tuple[set[TopicPartition], dict[TopicPartition, tuple[int, int]]]:
    """Return the partitions that hide something, and (first offset, last stable offset) of all.

    `watermarks`: a consumer that is told the true ends. It is asked last, so that nothing hidden can be overlooked.
    """
    bounds = await bounds_of(consumer, partitions)
    await know(watermarks, partitions)
    ends = await watermarks.end_offsets(list(partitions))
    return {tp for tp, (_, stable) in bounds.items() if ends[tp] > stable}, bounds


async def look_at(
    consumer: Any, watermarks: Any, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, Look]:
    """Return what stands at the end of each partition. Has no deadline of its own; replaces the assignment."""
    hidden, bounds = await hidden_in(consumer, watermarks, partitions)
    found = await _search(consumer, {tp: span for tp, span in bounds.items() if span[0] < span[1]})
    return {tp: Look(found.get(tp), tp in hidden) for tp in partitions}


async def _search(
    consumer: Any, bounds: Mapping[TopicPartition, tuple[int, int]], wanted: Wanted = lambda _: True
) -> dict[TopicPartition, ConsumerRecord]:
    """Look for the last record of each partition between its bounds that is `wanted`, backwards, step by step."""
    found: dict[TopicPartition, ConsumerRecord] = {}
    ends = {tp: end for tp, (_, end) in bounds.items()}
    step = _FIRST_STEP
    while ends:
        starts = {tp: max(bounds[tp][0], end - step) for tp, end in ends.items()}
        found |= await _last_between(consumer, starts, ends, wanted)
        ends = {tp: at for tp, at in starts.items() if tp not in found and at > bounds[tp][0]}
        step *= _GROWTH
    return found


async def _last_between(
    consumer: Any,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    wanted: Wanted,
) -> dict[TopicPartition, ConsumerRecord]:
    flowing = set(starts)
    last: dict[TopicPartition, ConsumerRecord] = {}
    fetching = assign(consumer, starts)
    while flowing:
        harvest = await fetching.harvest(flowing)
        for fault in harvest.faults:
            raise _foreign(fault)
        for tp, records in harvest.records.items():
            if (record := _last_before(ends[tp], records, wanted)) is not None:
                last[tp] = record
        done = {tp for tp in flowing if await consumer.position(tp) >= ends[tp]}
        consumer.pause(*done)
        flowing -= done
    return last


def _last_before(end: int, records: Sequence[ConsumerRecord], wanted: Wanted) -> ConsumerRecord | None:
    return next((record for record in reversed(records) if record.offset < end and wanted(record)), None)


def _foreign(fault: Fault) -> Exception:
    """Return what a tail that cannot be read means: retention or the disk, else bytes that our client never writes."""
    meaning: Exception = ForeignTail(fault.partition.topic, fault.partition.partition, fault.offset)
    return fault.cause if isinstance(fault.cause, KafkaError) else meaning


class TailReader:
    """Reads tails for all lanes of a process through two consumers; questions that wait are answered together."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._lookup = Lookup(connection)
        self._watermarks = Lookup(connection, make=watermark_consumer)
        self._asked: dict[TopicPartition, asyncio.Future[Look]] = {}
        self._answering: asyncio.Task[None] | None = None

    async def look(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Look]:
        """Return what stands at the end of each partition, as of now or later.

        Raises `Unavailable`, and `ForeignTail` for a record that our client cannot have written.
        """
        loop = asyncio.get_running_loop()
        answers = {tp: self._asked.setdefault(tp, loop.create_future()) for tp in partitions}
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer())
        # shielded: others may wait for the same answer when we are cancelled
        return {tp: await asyncio.shield(answer) for tp, answer in answers.items()}

    async def last(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, ConsumerRecord | None]:
        """Return the last record of each partition that a read_committed consumer sees. Raises as `look` does."""
        return {tp: look.record for tp, look in (await self.look(partitions)).items()}

    async def ours(self, record: ConsumerRecord | None, accepted: Mapping[str, int]) -> ConsumerRecord | None:
        """Return `record`, the last of its partition, or the last one of ours before it if it is somebody else's.

        `accepted`: topic -> the offset up to which that is known; a later one is returned as it is.
        """
        if record is None or record.offset > accepted.get(record.topic, -1) or is_ours(record):
            return record
        tp = TopicPartition(record.topic, record.partition)
        async with self._asking() as (consumer, _):
            bounds = await bounds_of(consumer, [tp])
            return (await _search(consumer, {tp: (bounds[tp][0], record.offset)}, is_ours)).get(tp)

    async def hidden(self, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
        """Return the partitions that hide something behind their last stable offset. Raises `Unavailable`."""
        async with self._asking() as (consumer, watermarks):
            found, _ = await hidden_in(consumer, watermarks, partitions)
            return found

    async def close(self) -> None:
        """End the consumers within a deadline; what is still asked is not answered."""
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait({self._answering})
        await self._lookup.close()
        await self._watermarks.close()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[tuple[Any, Any]]:
        doing = "reading the tails of outbound topics"
        async with self._lookup.asking(doing) as consumer, self._watermarks.asking(doing) as watermarks:
            yield consumer, watermarks

    async def _answer(self) -> None:
        """Answer all questions there are, and those that came meanwhile with the next look."""
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                async with self._asking() as (consumer, watermarks):
                    lost = await leaderless(consumer, asked)
                    looks = await look_at(consumer, watermarks, asked.keys() - lost)
            except Exception as error:  # noqa: BLE001  it belongs to those who asked
                for answer in asked.values():
                    answer.set_exception(error)
                    answer.exception()  # a caller looks at the first of its answers only
            else:
                for tp, answer in asked.items():
                    if tp in lost:
                        answer.set_exception(Unavailable("kafka", f"{tp.topic}/{tp.partition} has no leader"))
                        answer.exception()
                    else:
                        answer.set_result(looks[tp])
