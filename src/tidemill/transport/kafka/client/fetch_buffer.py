"""A consumer's fetched records, returned one partition at a time.

`getmany()` over several partitions advances past the records of one and then raises the fault of the next: those
records are lost. It does not say which partition the fault belongs to, either, and it withholds the good
records before the bad one. So partitions are read one by one, and one with a fault is read again record by record: what
can be read is delivered, and the fault has an exact offset.

The size of one read is limited in bytes, objects included, since few bytes of Kafka may become many. What the client
holds of paused partitions, fetched or half unpacked, is limited over all consumers of the process: what is
beyond that is dropped, and fetched again when they resume.

Uses aiokafka's fetcher internals, since no public method shows the buffer or waits for it without taking records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from traceback import walk_tb
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, TopicAuthorizationFailedError

from tidemill.domain.lane import weight
from tidemill.transport.kafka.client.errors import CLIENT_ERRORS, unavailable
from tidemill.transport.kafka.client.long_polls import LongPolls

MAX_BYTES: Final = 16 << 20
"""Of one fetch; the last record may go beyond it."""

MAX_HELD_BYTES: Final = 64 << 20
"""Of what all consumers of a process hold of paused partitions."""

_MUCH_BYTES: Final = 8 << 20
"""More than ordinary batches unpack to; what is half unpacked counts twice."""

_held: Final[WeakKeyDictionary[Fetching, int]] = WeakKeyDictionary()

Records = dict[TopicPartition, list[ConsumerRecord]]


class Fault(NamedTuple):
    """Why a partition cannot be read at `offset`: its batch cannot be unpacked, or there is no such offset."""

    partition: TopicPartition
    offset: int
    cause: Exception

    @property
    def out_of_range(self) -> bool:
        """Whether the topic does not have the offset."""
        return isinstance(self.cause, OffsetOutOfRangeError)

    @property
    def as_written(self) -> bool:
        """Whether a client wrote an unreadable batch: the disk, a codec, retention or memory is not at fault."""
        return not isinstance(self.cause, KafkaError | OSError | MemoryError)

    @property
    def batch(self) -> range:
        """The offsets of the batch that cannot be unpacked: only the client's parsed header has them."""
        for frame, _ in walk_tb(self.cause.__traceback__):
            head = frame.f_locals.get("next_batch")
            if head is not None:
                return range(min(self.offset, head.base_offset), max(self.offset + 1, head.next_offset))
        return range(self.offset, self.offset + 1)


class FetchedRecords(NamedTuple):
    """Records by partition, and faults of partitions that must be paused until a seek."""

    records: Records
    faults: list[Fault]


_NOTHING: Final = FetchedRecords({}, [])


class _Room:
    """How many records, and how many bytes of them, may still be taken."""

    def __init__(self, records: int, size: int) -> None:
        self._records = records
        self._bytes = size
        self.used_bytes = 0

    @property
    def full(self) -> bool:
        """Return whether nothing more may be taken."""
        return self._records <= 0 or self._bytes <= 0

    def part(self, max_bytes: int) -> _Room:
        """Return room within this one."""
        return _Room(self._records, min(self._bytes, max_bytes))

    def use(self, records: int, size: int) -> None:
        """Count taken records."""
        self._records -= records
        self._bytes -= size
        self.used_bytes += size

    def filled_with(self, records: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
        """Return the first of `records`, at least one, until there is no room for more."""
        taken, most, left = [], self._records, self._bytes
        for record in records:
            taken.append(record)
            left -= weight(record)
            if left <= 0 or len(taken) >= most:
                break
        self.use(len(taken), self._bytes - left)
        return taken


def _held_bytes(result: Any) -> int:
    """Return what the client holds of a partition that it has fetched."""
    if not isinstance(result, FetchResult) or not result.has_more():
        return 0
    return int(result._partition_records._records.held_bytes())


class Fetching:
    """Takes records out of a started consumer.

    `fetch` is to be called in a loop, also with nothing to take: it is the heartbeat that keeps the consumer in
    its group. `max_records`, `max_bytes`: most of one fetch; `partition_bytes`: of one partition in it. `wait_s`: how
    long to wait if there are none, as long as there were some not long ago.
    """

    def __init__(
        self,
        consumer: Any,
        *,
        max_records: int,
        wait_s: float,
        max_bytes: int = MAX_BYTES,
        partition_bytes: int = MAX_BYTES,
    ) -> None:
        self._consumer = consumer
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._partition_bytes = partition_bytes
        self._wait_s = wait_s
        self._polls = LongPolls(consumer)
        self._stepping: set[TopicPartition] = set()

    async def fetch(self, flowing: Collection[TopicPartition]) -> FetchedRecords:
        """Return what arrived for the partitions in `flowing`, waiting a moment if nothing did.

        Raises `Unavailable` if the client is broken or lacks a right: close it, make a new one.
        """
        subscription, fetcher = self._consumer._subscription, self._consumer._fetcher
        try:
            self._consumer._coordinator.check_errors()
            with subscription.fetch_context():
                if subscription.reassignment_in_progress:
                    self._polls.shorten()
                    await self._wait(subscription.wait_for_assignment())
                    return _NOTHING
                fetched = await self._take(flowing)
                if not fetched.records and not fetched.faults:
                    await self._wait(fetcher._create_fetch_waiter())
                    fetched = await self._take(flowing)
                self._note(fetched)
                await self._hold_less(flowing)
        except CLIENT_ERRORS as error:
            raise unavailable("reading", error) from error
        if fetcher.error_future.done() or self._consumer._client._sync_task.done():
            raise unavailable("reading", AssertionError("a task of the client has ended"))
        return fetched

    def wake(self) -> None:
        """Let a fetch that waits return now."""
        fetcher = self._consumer._fetcher
        for waiter in tuple(fetcher._fetch_waiters):
            fetcher._notify(waiter)

    def _note(self, fetched: FetchedRecords) -> None:
        if fetched.records or fetched.faults:
            self._polls.shorten()
        else:
            self._polls.nothing_came()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue at `offset`, and drop what is buffered of the partition.

        The client would only forget it: half unpacked records are reference cycles, so they would stay, megabytes
        of them, until the garbage collector runs.
        """
        result = self._consumer._fetcher._records.get(partition)
        if isinstance(result, FetchResult) and result.has_more():
            unpacking, result._partition_records._records_iterator = (
                result._partition_records._records_iterator,
                None,
            )
            unpacking.close()
        self._consumer.seek(partition, offset)
        self._polls.shorten()

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Let partitions flow again."""
        self._consumer.resume(*partitions)
        self._polls.shorten()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Pause partitions, and drop their buffer if it is large: it is fetched again."""
        for partition in partitions:
            self._consumer.pause(partition)
            result = self._consumer._fetcher._records.get(partition)
            if _held_bytes(result) > _MUCH_BYTES:
                self.seek(partition, result._partition_records.next_fetch_offset)

    async def _wait(self, arrival: asyncio.Future[None]) -> None:
        await asyncio.wait({arrival}, timeout=self._polls.wait_s or self._wait_s)
        if arrival.done():
            arrival.result()  # errors of the group arrive here too
        else:
            arrival.cancel()

    async def _take(self, flowing: Collection[TopicPartition]) -> FetchedRecords:
        """Nothing in this block really waits: records are in the buffer, or there are none."""
        if self._consumer._subscription.reassignment_in_progress:  # it began during the wait
            return _NOTHING
        records: Records = {}
        faults: list[Fault] = []
        left = _Room(self._max_records, self._max_bytes)
        for partition in [one for one in self._consumer._fetcher._records if one in flowing]:
            room = left.part(self._partition_bytes)
            taken, fault = await self._take_from(partition, room)
            if taken:
                records[partition] = taken
                left.use(len(taken), room.used_bytes)
            if fault is not None:
                faults.append(fault)
            if left.full:
                break
        return FetchedRecords(records, faults)

    async def _take_from(
        self, partition: TopicPartition, room: _Room
    ) -> tuple[list[ConsumerRecord], Fault | None]:
        if partition in self._stepping:
            return await self._step(partition, room)
        try:
            taken = await self._drain(partition, room)
        except TopicAuthorizationFailedError:
            raise
        except OffsetOutOfRangeError as error:
            return [], await self._fault(partition, error)
        except Exception:  # noqa: BLE001  whatever unpacking raises; the second time it counts
            self._stepping.add(partition)
            await self._refetch(partition)
            return [], None
        return taken, None

    async def _drain(self, partition: TopicPartition, room: _Room) -> list[ConsumerRecord]:
        """Take records as the client's `getmany` does, but only as many as there is room for."""
        fetcher = self._consumer._fetcher
        result = fetcher._records.get(partition)
        if not (isinstance(result, FetchResult) and result.check_assignment(partition)):
            # this raises, or cleans up
            found = await self._consumer.getmany(partition, timeout_ms=0, max_records=1)
            return room.filled_with(found.get(partition, []))
        taken = room.filled_with(result._partition_records)
        result._update_position()
        if not room.full:
            del fetcher._records[partition]
            fetcher._notify(fetcher._wait_consume_future)
        return taken

    async def _hold_less(self, flowing: Collection[TopicPartition]) -> None:
        """Drop the buffers of paused partitions, the largest first, while this process holds too much."""
        held = {
            partition: size
            for partition, result in self._consumer._fetcher._records.items()
            if partition not in flowing
            and self._consumer._subscription.is_assigned(partition)
            and (size := _held_bytes(result))
        }
        _held[self] = sum(held.values())
        for partition in sorted(held, key=held.__getitem__, reverse=True):
            if sum(_held.values()) <= MAX_HELD_BYTES:
                break
            await self._refetch(partition)
            _held[self] -= held[partition]

    async def _step(
        self, partition: TopicPartition, room: _Room
    ) -> tuple[list[ConsumerRecord], Fault | None]:
        """Take record by record, so that the position is at the bad one when it is reached."""
        steps: list[ConsumerRecord] = []
        try:
            while not room.full:
                taken = await self._consumer.getmany(partition, timeout_ms=0, max_records=1)
                if not taken:
                    self._stepping.discard(partition)
                    break
                steps += room.filled_with(taken[partition])
        except Exception as error:  # noqa: BLE001  anything: only an operator can decide to skip a record
            self._stepping.discard(partition)
            return steps, await self._fault(partition, error)
        return steps, None

    async def _fault(self, partition: TopicPartition, error: Exception) -> Fault:
        return Fault(partition, await self._refetch(partition), error)

    async def _refetch(self, partition: TopicPartition) -> int:
        """Drop the buffer of a partition and return its position; it is fetched again from there."""
        position: int = await self._consumer.position(partition)
        self.seek(partition, position)
        return position
