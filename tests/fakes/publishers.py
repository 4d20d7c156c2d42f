"""Outbound topics and their publishers in memory, with the faults that a broker has."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import Lane
from tidemill.outbox.ports import (
    OutboundRecord,
    OutboxItem,
    PublisherFenced,
    Refused,
    Tail,
    Tails,
)


def header(record: OutboundRecord, name: str) -> bytes | None:
    """Return the last header of that name."""
    return next((value for key, value in reversed(record.headers) if key == name), None)


def number(record: OutboundRecord, name: str) -> int:
    """Return a header that holds a number."""
    return int(header(record, name) or b"")


@dataclass
class MemoryTopics:
    """What subscribers see, and how the broker misbehaves.

    `faults`: one per publication, `lost` (nothing arrives), `unheard` (all of it arrives, the answer does not) or
    `torn` (only the first topic arrives: an idempotent publisher's). `refuses`: records the broker will never take.
    `starts`: publishers started per lane. `gate`: while cleared, publications wait.
    """

    logs: dict[tuple[str, int], list[OutboundRecord]] = field(default_factory=dict)
    publications: list[Mapping[str, Sequence[OutboundRecord]]] = field(default_factory=list)
    faults: deque[str] = field(default_factory=deque)
    refuses: Callable[[OutboundRecord], bool] = lambda record: False
    start_faults: deque[Exception] = field(default_factory=deque)
    starts: dict[int, int] = field(default_factory=dict)
    open: int = 0
    in_flight: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def of(self, lane: Lane) -> MemoryPublisher:
        """Return a publisher: this is the port `Publishers`."""
        return MemoryPublisher(self, lane)

    def log(self, topic: str, partition: int = 0) -> list[OutboundRecord]:
        """Return what a partition holds."""
        return self.logs.setdefault((topic, partition), [])

    def tail(self, topic: str, partition: int) -> Tail | None:
        """Return the last record of a partition as a tail."""
        log = self.log(topic, partition)
        if not log:
            return None
        event = header(log[-1], "ce_id")
        place = number(log[-1], "tm_position"), number(log[-1], "tm_sequence")
        return Tail(*place, event.decode() if event else None)


class MemoryPublisher:
    """A `LanePublisher`. After a failure it is dead, like a real one; a later one of its lane fences it."""

    def __init__(self, topics: MemoryTopics, lane: Lane) -> None:
        self._topics = topics
        self._lane = lane
        self._generation = 0
        self._failed = True
        self._closed = False

    async def start(self) -> Tails:
        topics, lane = self._topics, self._lane
        if topics.start_faults:
            raise topics.start_faults.popleft()
        topics.open += 1
        self._generation = topics.starts[lane.lane] = topics.starts.get(lane.lane, 0) + 1
        self._failed = False
        names = (lane.topics.events, lane.topics.outcomes, lane.topics.dead_letters)
        return Tails(*(topics.tail(name, lane.partition) for name in names))

    async def publish(self, batches: Mapping[str, Sequence[OutboundRecord]]) -> None:
        assert not self._failed, "a failed publisher must not be used again"
        assert not self._closed, "a closed publisher must not be used again"
        assert all(batches.values()), "an empty batch"
        self._failed = True
        topics = self._topics
        topics.in_flight += 1
        try:
            await topics.gate.wait()
        finally:
            topics.in_flight -= 1
        if topics.starts[self._lane.lane] != self._generation:
            raise PublisherFenced("a later publisher was started")
        if any(topics.refuses(record) for records in batches.values() for record in records):
            raise Refused("too large")
        self._arrive(batches, topics.faults.popleft() if topics.faults else None)
        self._failed = False

    def _arrive(self, batches: Mapping[str, Sequence[OutboundRecord]], fault: str | None) -> None:
        if fault != "lost":
            self._topics.publications.append(batches)
            for topic, records in list(batches.items())[: 1 if fault == "torn" else None]:
                self._topics.log(topic, self._lane.partition).extend(records)
        if fault is not None:
            raise Unavailable("kafka", f"{fault} by the test")

    async def close(self) -> None:
        assert not self._closed, "closed twice"
        self._closed = True
        if self._generation:
            self._topics.open -= 1


class PlainOutcomes:
    """An `OutcomeCodec` whose messages people can read."""

    def encode(self, lane: Lane, items: Sequence[OutboxItem]) -> list[bytes]:
        return [b"%d:%d:%b" % (item.position, item.sequence, item.outcome or b"?") for item in items]
