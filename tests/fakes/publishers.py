"""Publishers on a broker in memory, watched: used as their port says, closed, and made to wait or fail at will."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.kafka import MemoryBroker, MemoryRecord
from tests.fakes.kafka_ports import MemoryLanePublisher, MemoryPublishers
from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import Lane
from tidemill.outbox.ports import NOTHING_ACCEPTED, EncodedRecord, OutboxItem, Slab, Tails


def number(record: MemoryRecord, name: str) -> int:
    """Return a header that holds a number; the last one of that name."""
    return int(dict(record.headers)[name] or b"")


@dataclass
class WatchedPublishers:
    """The port `Publishers`. `starts`: publishers started per lane. `open`: started and not closed.

    `gate`: while cleared, publications wait. `start_faults`: one per start. `torn`: so many publications arrive only in
    their first topic, as those of an idempotent publisher can; `broker.faults` holds the faults of a whole one.
    """

    transactional: bool = True
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    publications: list[Mapping[str, Sequence[EncodedRecord | Slab]]] = field(default_factory=list)
    start_faults: deque[Exception] = field(default_factory=deque)
    torn: int = 0
    starts: dict[int, int] = field(default_factory=dict)
    open: int = 0
    in_flight: int = 0
    looks: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self._ends = MemoryPublishers(self.broker)

    def of(self, lane: Lane, accepted: Mapping[str, int] = NOTHING_ACCEPTED) -> WatchedPublisher:
        for topic in lane.topics.named().values():
            if topic not in self.broker.logs:
                self.broker.create(topic, lane.partitions)
        return WatchedPublisher(self, lane, accepted)

    async def shortened(self, lanes: Collection[Lane]) -> frozenset[int]:
        self.looks += 1
        return await self._ends.shortened(lanes)

    def ends_of(self, topic: str, partition: int = 0) -> int:
        """Return where a partition ended when it was last looked at, 0 before."""
        return self._ends.ends.get((topic, partition), 0)

    def log(self, topic: str, partition: int = 0) -> list[MemoryRecord]:
        """Return what a subscriber can read of a partition."""
        return list(self.broker.log(topic, partition).committed()) if topic in self.broker.logs else []

    def fence(self, lane: Lane) -> None:
        """Start a publisher of the lane in another process."""
        self.broker.fence(f"{lane.topics.events}-{lane.partition}")


class WatchedPublisher:
    """A `LanePublisher`."""

    def __init__(self, watch: WatchedPublishers, lane: Lane, accepted: Mapping[str, int]) -> None:
        self._watch = watch
        self._lane = lane.id
        self._inner = MemoryLanePublisher(
            watch.broker, lane, transactional=watch.transactional, accepted=accepted
        )
        self._started = False
        self._usable = False
        self._closed = False

    async def start(self) -> Tails:
        watch = self._watch
        if watch.start_faults:
            raise watch.start_faults.popleft()
        tails = await self._inner.start()
        watch.starts[self._lane] = watch.starts.get(self._lane, 0) + 1
        watch.open += 1
        self._started = self._usable = True
        return tails

    async def publish(self, batches: Mapping[str, Sequence[EncodedRecord | Slab]]) -> None:
        assert self._usable, "a publisher that failed or was closed must not be used"
        assert batches, "nothing to publish"
        assert all(batches.values()), "an empty batch"
        self._usable = False
        await self._wait()
        if self._watch.torn:
            await self._tear(batches)
        await self._inner.publish(batches)
        self._watch.publications.append(batches)
        self._usable = True

    async def close(self) -> None:
        assert not self._closed, "closed twice"
        self._closed, self._usable = True, False
        self._watch.open -= self._started
        await self._inner.close()

    async def _wait(self) -> None:
        self._watch.in_flight += 1
        try:
            await self._watch.gate.wait()
        finally:
            self._watch.in_flight -= 1

    async def _tear(self, batches: Mapping[str, Sequence[EncodedRecord | Slab]]) -> None:
        self._watch.torn -= 1
        topic, records = next(iter(batches.items()))
        await self._inner.publish({topic: records})
        raise Unavailable("kafka", "torn by the test")


class PlainOutcomes:
    """An `OutcomeCodec` whose messages people can read."""

    def encode(self, lane: Lane, items: Sequence[OutboxItem]) -> list[bytes]:
        return [b"%d:%d:%d:%b" % (lane.id, item.position, item.sequence, _letter(item)) for item in items]

    def plain(self, lane: Lane, item: OutboxItem) -> None:
        return None

    def decode(self, value: bytes) -> Mapping[str, Any]:
        raise AssertionError(f"{value!r} is for people: packs that are unpacked need real outcomes")


def _letter(item: OutboxItem) -> bytes:
    if item.outcome is None:
        raise KeyError(f"item {item.item} of position {item.position} carries no outcome")
    return item.outcome
