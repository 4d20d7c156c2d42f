"""The records of one process that wait for their batch, lane by lane.

A lane's records wait in offset order; a batch takes from the lanes that are not busy. Batches form from backlog: a lone
record is taken at once, and while a batch is in the database the next one gathers behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidemill.commands.ports import Wait
from tidemill.domain.lane import Claim, InboundRecord

BATCH_BYTES: Final = 8 << 20
_LEAST_LANE_BYTES: Final = 512 << 10  # above the largest record that is decoded


@dataclass
class LaneQueue:
    """A claimed lane and what waits for it.

    `bytes`: of the values that wait. `solo`: how many records are still tried one by one. `idle`: set while no batch of
    the lane is in flight. `waits`: what it waits for, if nothing may be taken from it.
    """

    claim: Claim
    records: deque[InboundRecord] = field(default_factory=deque)
    bytes: int = 0
    held_back: bool = False
    solo: int = 0
    tried_offset: int | None = None
    trials: int = 0
    waits: Wait | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Begin idle: no batch is in flight."""
        self.idle.set()

    def put(self, records: Iterable[InboundRecord]) -> None:
        """Append what arrived."""
        for record in records:
            self.records.append(record)
            self.bytes += _size(record)

    def put_back(self, records: Sequence[InboundRecord]) -> None:
        """Put what was taken last, in order, before what waits."""
        self.records.extendleft(reversed(records))
        self.bytes += sum(map(_size, records))

    def take(self, most_records: int, most_bytes: int) -> Iterator[InboundRecord]:
        """Remove and yield records up to both bounds, at least one."""
        left = most_bytes
        while self.records and most_records > 0 and left > 0:
            record = self.records.popleft()
            size = _size(record)
            self.bytes -= size
            left -= size
            most_records -= 1
            yield record

    @property
    def ready(self) -> bool:
        """Tell whether a batch may take from it."""
        return bool(self.records) and self.idle.is_set() and self.waits is None

    @property
    def lane(self) -> int:
        """Return the lane's database id."""
        return self.claim.lane.lane

    @property
    def partition(self) -> int:
        """Return the lane's partition."""
        return self.claim.lane.partition


@dataclass(frozen=True, slots=True)
class Share:
    """What one batch takes: lanes ascending, each with consecutive records."""

    queues: Sequence[LaneQueue]
    records: Sequence[tuple[int, InboundRecord]]


class Queues:
    """All lanes of one process."""

    def __init__(self, *, batch_records: int, workers: int, batch_bytes: int = BATCH_BYTES) -> None:
        """`batch_records`, `batch_bytes`: the most that one transaction takes. `workers`: how many may run at once."""
        self._batch_records = batch_records
        self._batch_bytes = batch_bytes
        self._workers = workers
        self._by_partition: dict[int, LaneQueue] = {}

    def add(self, claims: Iterable[Claim]) -> None:
        """Start queues for newly claimed lanes, empty: what an earlier claim left is not theirs."""
        for claim in claims:
            solo = self._batch_records if claim.cautious else 0
            self._by_partition[claim.lane.partition] = LaneQueue(claim, solo=solo)

    def remove(self, partitions: Iterable[int]) -> list[LaneQueue]:
        """Forget lanes with all that waits; return those that were there."""
        gone = [self._by_partition.pop(partition, None) for partition in partitions]
        return [queue for queue in gone if queue is not None]

    def get(self, partition: int) -> LaneQueue | None:
        """Return the queue of a partition."""
        return self._by_partition.get(partition)

    def all(self) -> list[LaneQueue]:
        """Return every queue."""
        return list(self._by_partition.values())

    def put(self, partition: int, records: Sequence[InboundRecord]) -> LaneQueue | None:
        """Append what arrived; None if the lane is not (any more) ours, then the records are dropped."""
        queue = self._by_partition.get(partition)
        if queue is not None:
            queue.put(records)
        return queue

    def overfull(self, queue: LaneQueue) -> bool:
        """Tell whether the lane should be held back: it has two batches waiting, or its share of the memory."""
        return len(queue.records) >= 2 * self._batch_records or queue.bytes >= 2 * self._lane_bytes()

    def drained(self, queue: LaneQueue) -> bool:
        """Tell whether a lane that is held back may flow again."""
        return len(queue.records) <= self._batch_records and queue.bytes <= self._lane_bytes()

    def _lane_bytes(self) -> int:
        """Return a lane's share of what may wait in all, which is bounded however large the records are."""
        return max(_LEAST_LANE_BYTES, self._workers * self._batch_bytes // max(1, len(self._by_partition)))

    def ready(self) -> list[LaneQueue]:
        """Return the lanes from which a batch can be taken."""
        return [queue for queue in self._by_partition.values() if queue.ready]

    def take(self, free: int) -> Share | None:
        """Take the next batch, one of `free` (at least 1) that may be begun now; None if nothing is ready.

        The ready lanes are shared among the free workers, so that lanes with backlog run side by side and many lanes
        with a record each share one transaction.
        """
        ready = self.ready()
        if not ready:
            return None
        alone = next((queue for queue in ready if queue.solo), None)
        if alone is not None:
            return self._share([alone], 1)
        chosen = sorted(ready[: -(-len(ready) // free)], key=lambda queue: queue.lane)
        return self._share(chosen, self._batch_records)

    def _share(self, chosen: list[LaneQueue], most: int) -> Share:
        """Take about as many records of each lane; what the shorter ones leave is for the longer ones."""
        taken: dict[int, list[InboundRecord]] = {}
        each_bytes, waiting = self._batch_bytes // len(chosen), len(chosen)
        for queue in sorted(chosen, key=lambda queue: len(queue.records)):
            queue.idle.clear()
            taken[queue.lane] = list(queue.take(max(1, most // waiting), each_bytes))
            most -= len(taken[queue.lane])
            waiting -= 1
        return Share(chosen, [(queue.lane, record) for queue in chosen for record in taken[queue.lane]])

    def done(self, share: Share) -> None:
        """Free the lanes of a batch; a lane that was tried record by record is trusted again after enough of them."""
        for queue in share.queues:
            queue.idle.set()
            if queue.solo:
                queue.solo -= 1
                if not queue.records:
                    queue.solo = 0


def _size(record: InboundRecord) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers) if record.headers else 0
    return len(record.value or b"") + len(record.key or b"") + headers
