"""The records of one process that wait for their batch, lane by lane.

A lane's records wait in offset order; a batch takes from the lanes that are not busy. Batches form from backlog: a
single record is taken at once, and while a batch is in the database the next one collects.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidemill.commands.waits import Wait
from tidemill.domain.lane import BATCH_BYTES, Claim, InboundRecord, weight

WAITING_BYTES: Final = 32 << 20
"""About how much may wait in all lanes of a process; a lane is held back from twice its share on."""

LARGE_BYTES: Final = 512 << 10
"""A record larger than is decoded by default: it is parked whole, and there is room for a few of them only."""

_MIN_LANE_BYTES: Final = 256 << 10


class LargeRecords:
    """The large records that all intakes of a process hold: few at once, however many lanes have some.

    Such a record may take a few hundred bytes in Kafka, compressed, and there may be one in every lane.
    """

    def __init__(self, max_bytes: int = WAITING_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._refused = 0

    def take(self, size: int) -> bool:
        """Take a record in, unless there is no room; the first one always has room."""
        if self._held and self._held + size > self._max_bytes:
            return False
        self._held += size
        return True

    def free(self, size: int) -> None:
        """Give room back."""
        self._held -= size

    def refused(self) -> int:
        """Return the number of a refusal: the first refused is served first."""
        self._refused += 1
        return self._refused

    def is_empty(self) -> bool:
        """Return whether the next one finds room, however large it is."""
        return not self._held


@dataclass
class LaneQueue:
    """A claimed lane and what waits for it, each record with its weight.

    `bytes`: what all of them weigh. `large`: what the large ones weigh, those in flight included. `come_back_at`: the
    offset of a large record that found no room: it and what follows it are read again; `refusal`: its number.
    `isolated`: how many records are still isolated attempts. `idle`: set while no batch of the lane is in flight.
    `waits`: what it waits for, if nothing may be taken from it.
    """

    claim: Claim
    records: deque[tuple[InboundRecord, int]] = field(default_factory=deque)
    bytes: int = 0
    large: int = 0
    come_back_at: int | None = None
    refusal: int = 0
    held_back: bool = False
    isolated: int = 0
    tried_offset: int | None = None
    attempts: int = 0
    waits: Wait | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Start idle: no batch is in flight."""
        self.idle.set()

    def put(self, records: Iterable[InboundRecord], room: LargeRecords, *, again: bool = False) -> None:
        """Append what arrived, up to a large record for which there is no room.

        `again`: what was there before, and ends before `come_back_at` if that is set.
        """
        if self.come_back_at is not None and not again:
            return
        for record in records:
            size = weight(record)
            if size > LARGE_BYTES:
                # a lane that waits for long must not use the room of others
                if self.waits is not None or not room.take(size):
                    self.come_back_at, self.refusal = record.offset, room.refused()
                    return
                self.large += size
            self.records.append((record, size))
            self.bytes += size

    def take(self, max_records: int, limit_bytes: int) -> Iterator[InboundRecord]:
        """Remove and yield records up to both bounds, at least one."""
        left = limit_bytes
        while self.records and max_records > 0 and left > 0:
            record, size = self.records.popleft()
            self.bytes -= size
            left -= size
            max_records -= 1
            yield record

    @property
    def ready(self) -> bool:
        """Tell whether a batch may take from it."""
        return bool(self.records) and self.idle.is_set() and self.waits is None

    @property
    def lane_id(self) -> int:
        """Return the lane's database id."""
        return self.claim.lane.id

    @property
    def partition(self) -> int:
        """Return the lane's partition."""
        return self.claim.lane.partition


@dataclass(frozen=True, slots=True)
class BatchInput:
    """What one batch takes: lanes ascending, each with consecutive records."""

    queues: Sequence[LaneQueue]
    records: Sequence[tuple[int, InboundRecord]]


class Queues:
    """All lanes of one process."""

    def __init__(
        self,
        *,
        batch_records: int,
        batch_bytes: int = BATCH_BYTES,
        waiting_bytes: int = WAITING_BYTES,
        room: LargeRecords | None = None,
    ) -> None:
        """`batch_records`, `batch_bytes`: the most that one transaction takes.

        `waiting_bytes`: what may wait in all of these lanes. `room`: of the process, which all of its intakes share.
        """
        self._waiting_bytes = waiting_bytes
        self._room = room or LargeRecords()
        self._batch_records = batch_records
        self._batch_bytes = batch_bytes
        self._by_partition: dict[int, LaneQueue] = {}

    def add(self, claims: Iterable[Claim]) -> None:
        """Start queues for newly claimed lanes, empty: without what an earlier claim left."""
        for claim in claims:
            self.remove([claim.lane.partition])
            isolated = self._batch_records if claim.cautious else 0
            self._by_partition[claim.lane.partition] = LaneQueue(claim, isolated=isolated)

    def remove(self, partitions: Iterable[int]) -> list[LaneQueue]:
        """Drop lanes with all that waits; return those that existed."""
        removed = [self._by_partition.pop(partition, None) for partition in partitions]
        there = [queue for queue in removed if queue is not None]
        for queue in there:
            self._free(queue, _large_bytes(queue))
            queue.records.clear()
        return there

    def get(self, partition: int) -> LaneQueue | None:
        """Return the queue of a partition."""
        return self._by_partition.get(partition)

    def all(self) -> list[LaneQueue]:
        """Return every queue."""
        return list(self._by_partition.values())

    def put(self, partition: int, records: Sequence[InboundRecord]) -> LaneQueue | None:
        """Append what arrived; None if the lane is not owned (any more), then the records are dropped.

        Its `come_back_at` is set where a record found no room: then hold the lane back, and read again from there.
        """
        queue = self._by_partition.get(partition)
        if queue is not None:
            queue.put(records, self._room)
        return queue

    def wait(self, queue: LaneQueue, wait: Wait, records: Sequence[InboundRecord]) -> None:
        """Let a lane wait; put `records`, which were taken last, back before the others, in order.

        From the first large record on they are dropped and read again: see `put`.
        """
        queue.waits = wait
        behind = [record for record, _ in queue.records]
        self._free(queue, queue.large)
        queue.records.clear()
        queue.bytes = 0
        queue.put([*records, *behind], self._room, again=True)

    def overfull(self, queue: LaneQueue) -> bool:
        """Tell whether the lane should be held back: it has two batches waiting, or its share of the memory."""
        if queue.come_back_at is not None:
            return True
        return len(queue.records) >= 2 * self._batch_records or queue.bytes >= 2 * self._lane_bytes()

    def drained(self, queue: LaneQueue) -> bool:
        """Tell whether a lane that is held back may flow again; one without room is `out_of_room`."""
        return queue.come_back_at is None and self._few(queue)

    def _few(self, queue: LaneQueue) -> bool:
        return len(queue.records) <= self._batch_records and queue.bytes <= self._lane_bytes()

    def _lane_bytes(self) -> int:
        """Return a lane's share of what may wait in all, which is bounded however large the records are."""
        return max(_MIN_LANE_BYTES, self._waiting_bytes // max(1, len(self._by_partition)))

    def out_of_room(self) -> LaneQueue | None:
        """Return the lane that waits longest for room for a large record, once there is room."""
        if not self._room.is_empty():
            return None
        waiting = [queue for queue in self._by_partition.values() if queue.come_back_at is not None]
        ready = [queue for queue in waiting if queue.waits is None and self._few(queue)]
        return min(ready, key=lambda queue: queue.refusal, default=None)

    def ready(self) -> list[LaneQueue]:
        """Return the lanes from which a batch can be taken."""
        return [queue for queue in self._by_partition.values() if queue.ready]

    def take(self, free: int) -> BatchInput | None:
        """Take the next batch, one of `free` (at least 1) that may start now; None if nothing is ready.

        The ready lanes are shared among the free workers, so that lanes with backlog run side by side and many lanes
        with a record each share one transaction.
        """
        ready = self.ready()
        if not ready:
            return None
        alone = next((queue for queue in ready if queue.isolated), None)
        if alone is not None:
            return self._take_from([alone], 1)
        chosen = sorted(ready[: -(-len(ready) // free)], key=lambda queue: queue.lane_id)
        return self._take_from(chosen, self._batch_records)

    def _take_from(self, chosen: list[LaneQueue], most: int) -> BatchInput:
        """Take about as many records of each lane; longer ones get what shorter ones leave."""
        taken: dict[int, list[InboundRecord]] = {}
        each_bytes, waiting = max(1, self._batch_bytes // len(chosen)), len(chosen)
        for queue in sorted(chosen, key=lambda queue: len(queue.records)):
            queue.idle.clear()
            taken[queue.lane_id] = list(queue.take(max(1, most // waiting), each_bytes))
            most -= len(taken[queue.lane_id])
            waiting -= 1
        return BatchInput(
            chosen, [(queue.lane_id, record) for queue in chosen for record in taken[queue.lane_id]]
        )

    def done(self, batch_input: BatchInput) -> None:
        """Free the lanes of a batch; a lane with isolated attempts takes batches again after enough of them."""
        for queue in batch_input.queues:
            queue.idle.set()
            if queue.large:
                self._free(queue, queue.large - _large_bytes(queue))
            if queue.isolated:
                queue.isolated -= 1
                if not queue.records:
                    queue.isolated = 0

    def _free(self, queue: LaneQueue, size: int) -> None:
        queue.large -= size
        self._room.free(size)


def _large_bytes(queue: LaneQueue) -> int:
    """Return what the large records weigh that wait in a lane."""
    return sum(size for _, size in queue.records if size > LARGE_BYTES)
