"""The last committed record of a partition: where a relay continues.

Read it only after the lane's producer has started, which fences its predecessor and ends that one's transaction.
A topic's last offsets are often not records (each transaction ends with a control record) or aborted ones: the reader
goes back from the last stable offset in growing steps until it finds a record. What cannot be unpacked affects only
its own partition, which is then searched separately, around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from tidemill.outbox.ports import ForeignTail, Tail
from tidemill.transport.kafka.client.client import KafkaConnection, watermark_consumer
from tidemill.transport.kafka.client.errors import unavailable
from tidemill.transport.kafka.client.fetch_buffer import Fault
from tidemill.transport.kafka.client.lookup import Lookup, assign, bounds_of, know, leaderless, lost_error

_FIRST_STEP: Final = 8
_GROWTH: Final = 8
_ENDS_S: Final = 2.0
"""How long a question for ends may take: a deleted topic would hold up other questions until their deadline."""

Wanted = Callable[[ConsumerRecord], bool]


def tail_of(record: ConsumerRecord) -> Tail:
    """Return the values of the relay's headers. Raises `ForeignTail` if another program wrote the record."""
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
    """Return the last header of that name: a dead letter's own headers, maybe of the same names, come first."""
    return next((value for key, value in reversed(headers) if key == name), None)


def is_ours(record: ConsumerRecord) -> bool:
    """Tell from its headers whether the relay wrote a record."""
    try:
        tail_of(record)
    except ForeignTail:
        return False
    return True


class Look(NamedTuple):
    """The last record of a partition that a read_committed consumer sees, None if there is none.

    `hidden`: more follows it, in an open transaction. `fault`: the last offset after it at which
    something cannot be unpacked, None if there is none.
    """

    record: ConsumerRecord | None
    hidden: bool
    fault: int | None = None

    @property
    def end(self) -> int:
        """Return the offset of the last record, -1 for none."""
        record = -1 if self.record is None else self.record.offset
        return record if self.fault is None else self.fault

    @property
    def is_ours(self) -> bool:
        """Tell whether the last record is the relay's, or there is none."""
        return self.fault is None and (self.record is None or is_ours(self.record))


async def hidden_in(
    consumer: Any, watermarks: Any, partitions: Collection[TopicPartition]
) -> tuple[set[TopicPartition], dict[TopicPartition, tuple[int, int]]]:
    """Return the partitions that hide something, and (first offset, last stable offset) of all.

    `watermarks`: a consumer that gets the high watermarks. It is asked last, so that nothing hidden is missed.
    """
    bounds = await bounds_of(consumer, partitions)
    await know(watermarks, partitions)
    ends = await watermarks.end_offsets(list(partitions))
    return {tp for tp, (_, stable) in bounds.items() if ends[tp] > stable}, bounds


async def look_at(
    consumer: Any, watermarks: Any, partitions: Collection[TopicPartition]
) -> tuple[dict[TopicPartition, Look], set[TopicPartition]]:
    """Return the tail of each partition, and the partitions with an unreadable batch.

    Has no deadline of its own; replaces the assignment.
    """
    hidden, bounds = await hidden_in(consumer, watermarks, partitions)
    found, faulty = await _search(consumer, {tp: span for tp, span in bounds.items() if span[0] < span[1]})
    return {tp: Look(found.get(tp), tp in hidden) for tp in bounds.keys() - faulty}, faulty


async def look_around(consumer: Any, watermarks: Any, partition: TopicPartition) -> Look:
    """Return the tail of a partition with an unreadable batch."""
    hidden, bounds = await hidden_in(consumer, watermarks, [partition])
    record, fault = await _search_around(consumer, partition, bounds[partition])
    return Look(record, partition in hidden, fault)


async def _search(
    consumer: Any, bounds: Mapping[TopicPartition, tuple[int, int]]
) -> tuple[dict[TopicPartition, ConsumerRecord], set[TopicPartition]]:
    """Look for the last record of each partition between its bounds, backwards, step by step.

    Returns the records, and the partitions with a fault, which are not searched any further.
    """
    found: dict[TopicPartition, ConsumerRecord] = {}
    faulty: set[TopicPartition] = set()
    ends = {tp: end for tp, (_, end) in bounds.items()}
    step = _FIRST_STEP
    while ends:
        starts = {tp: max(bounds[tp][0], end - step) for tp, end in ends.items()}
        last, faults = await _last_between(consumer, starts, ends)
        found |= last
        faulty |= faults.keys()
        ends = {tp: at for tp, at in starts.items() if tp not in found.keys() | faulty and at > bounds[tp][0]}
        step *= _GROWTH
    return found, faulty


async def _search_around(
    consumer: Any, partition: TopicPartition, bounds: tuple[int, int], wanted: Wanted = lambda _: True
) -> tuple[ConsumerRecord | None, int | None]:
    """Look for the last record of a partition that is `wanted`, around what cannot be unpacked.

    Returns the record, None if there is none, and the last offset after it that cannot be unpacked, or None.
    """
    (first, end), step = bounds, _FIRST_STEP
    bad: int | None = None
    while end > first:
        start = max(first, end - step)
        record, faulty = await _last_of(consumer, partition, start, end, wanted)
        if faulty and bad is None:
            bad = faulty[-1].stop - 1
        if record is not None:
            return record, bad if bad is not None and bad > record.offset else None
        end, step = min([start, *(span.start for span in faulty)]), step * _GROWTH
    return None, bad


async def _last_of(
    consumer: Any, partition: TopicPartition, start: int, end: int, wanted: Wanted
) -> tuple[ConsumerRecord | None, list[range]]:
    """Return the last record in a span that is `wanted`, and the offsets of the batches there that cannot be unpacked.

    Raises the client's errors for retention or the disk.
    """
    record: ConsumerRecord | None = None
    faulty: list[range] = []
    while start < end:
        found, faults = await _last_between(consumer, {partition: start}, {partition: end}, wanted)
        record = found.get(partition, record)
        if partition not in faults:
            break
        fault = faults[partition]
        if not fault.as_written:
            raise fault.cause
        faulty.append(fault.batch)
        start = faulty[-1].stop
    return record, faulty


async def _last_between(
    consumer: Any,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    wanted: Wanted = lambda _: True,
) -> tuple[dict[TopicPartition, ConsumerRecord], dict[TopicPartition, Fault]]:
    flowing = set(starts)
    last: dict[TopicPartition, ConsumerRecord] = {}
    faults: dict[TopicPartition, Fault] = {}
    fetching = assign(consumer, starts)
    while flowing:
        fetched = await fetching.fetch(flowing)
        for tp, records in fetched.records.items():
            if (record := _last_before(ends[tp], records, wanted)) is not None:
                last[tp] = record
        faults |= {fault.partition: fault for fault in fetched.faults if fault.offset < ends[fault.partition]}
        read_to_end = {tp for tp in flowing if await consumer.position(tp) >= ends[tp]} | faults.keys()
        fetching.pause(read_to_end & flowing)
        flowing -= read_to_end
    return last, faults


def _last_before(end: int, records: Sequence[ConsumerRecord], wanted: Wanted) -> ConsumerRecord | None:
    return next((record for record in reversed(records) if record.offset < end and wanted(record)), None)


class TailReader:
    """Reads tails for all lanes of a process through two consumers; waiting questions are answered together."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._lookup = Lookup(connection)
        self._watermarks = Lookup(connection, make=watermark_consumer)
        self._asked: dict[TopicPartition, asyncio.Future[Look]] = {}
        self._answering: asyncio.Task[None] | None = None

    async def look(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Look]:
        """Return the tail of each partition, as of now or later. Raises `Unavailable`."""
        loop = asyncio.get_running_loop()
        answers = {tp: self._asked.setdefault(tp, loop.create_future()) for tp in partitions}
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer())
        # shielded: other callers may wait for the same answer when this one is cancelled
        return {tp: await asyncio.shield(answer) for tp, answer in answers.items()}

    async def ours(
        self, tp: TopicPartition, look: Look, accepted: Mapping[str, int]
    ) -> ConsumerRecord | None:
        """Return the relay's last record in a partition, None if there is none.

        `accepted`: topic -> the offset up to which records of another program may follow it. Raises `ForeignTail`
        for a later one, also if it cannot be unpacked: the relay never writes such a batch.
        """
        if look.is_ours:
            return look.record
        if look.end > accepted.get(tp.topic, -1):
            raise ForeignTail(tp.topic, tp.partition, look.end)
        async with self._asking() as (consumer, _):
            bounds = await bounds_of(consumer, [tp])
            record, _ = await _search_around(consumer, tp, (bounds[tp][0], look.end), is_ours)
            return record

    async def hidden(self, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
        """Return the partitions that hide something after their last stable offset. Raises `Unavailable`.

        One without a leader is left out: nobody can tell what it hides, and it keeps no other from being looked at.
        """
        async with self._asking() as (consumer, watermarks):
            led = set(partitions) - await leaderless(consumer, partitions)
            found, _ = await hidden_in(consumer, watermarks, led) if led else (set[TopicPartition](), {})
            return found

    async def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the last stable offset of each partition that has a leader. Raises `Unavailable`."""
        async with self._asking() as (consumer, _), asyncio.timeout(_ENDS_S):
            await know(consumer, partitions)
            leader = consumer._client.cluster.leader_for_partition  # there is no public method for leaders
            offsets: dict[TopicPartition, int] = await consumer.end_offsets(
                [tp for tp in partitions if leader(tp) not in (None, -1)]
            )
            return offsets

    async def close(self) -> None:
        """End the consumers within a deadline; open questions are not answered."""
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
        """Answer all waiting questions, and later ones with the next read."""
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                async with self._asking() as (consumer, watermarks):
                    lost = await leaderless(consumer, asked)
                    looks, faulty = await look_at(consumer, watermarks, asked.keys() - lost)
            except Exception as error:  # noqa: BLE001  it belongs to those who asked
                for answer in asked.values():
                    _fail(answer, error)
            else:
                for tp in lost:
                    _fail(asked[tp], unavailable("asking for its tail", lost_error(consumer, [tp])))
                for tp, look in looks.items():
                    asked[tp].set_result(look)
                for tp in faulty:
                    await self._answer_around(tp, asked[tp])

    async def _answer_around(self, tp: TopicPartition, answer: asyncio.Future[Look]) -> None:
        """Answer for a partition with a fault separately, so that its errors do not affect others."""
        try:
            async with self._asking() as (consumer, watermarks):
                look = await look_around(consumer, watermarks, tp)
        except Exception as error:  # noqa: BLE001  it belongs to those who asked
            _fail(answer, error)
        else:
            answer.set_result(look)


def _fail(answer: asyncio.Future[Look], error: Exception) -> None:
    answer.set_exception(error)
    answer.exception()  # a caller reads only the first of its answers
