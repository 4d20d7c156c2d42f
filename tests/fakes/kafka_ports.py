"""The ports to Kafka on a `MemoryBroker`; they obey the conformance suites that the real adapters obey."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from tests.fakes.kafka import Fetched, MemoryBroker, MemoryLog, MemoryRecord
from tidemill.commands import ports as inbound
from tidemill.commands.ports import Assignee
from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import InboundRecord, Lane
from tidemill.outbox.ports import (
    NOTHING_ACCEPTED,
    EncodedRecord,
    ForeignTail,
    PublisherFenced,
    RecordRefused,
    Slab,
    Tail,
    Tails,
)
from tidemill.projections import ports as events
from tidemill.projections.ports import EventRecord
from tidemill.transport.kafka.outbox.compression import ZSTD
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.kafka.outbox.record_batch import bodies

T = TypeVar("T")


class _Reading:
    """Where a consumer is in each partition, and what keeps it there."""

    def __init__(self, broker: MemoryBroker, topic: str, limit: int) -> None:
        self.broker = broker
        self.topic = topic
        self.limit = limit
        self.positions: dict[int, int] = {}

    def fetch(self, flowing: Iterable[int]) -> tuple[dict[int, list[MemoryRecord]], dict[int, Fetched]]:
        """Return what there is by partition, and the partitions that cannot go on."""
        found: dict[int, list[MemoryRecord]] = {}
        stuck: dict[int, Fetched] = {}
        for partition in [] if self.broker.away else sorted(flowing):
            fetched = self.broker.log(self.topic, partition).fetch(self.positions[partition], self.limit)
            self.positions[partition] = fetched.position
            if fetched.records:
                found[partition] = fetched.records
            if fetched.fault is not None:
                stuck[partition] = fetched
        return found, stuck


class MemoryCommandSource:
    """A `CommandSource`: one member of the group."""

    def __init__(
        self, broker: MemoryBroker, *, topic: str, group: str = "group", max_records: int = 1_000
    ) -> None:
        self._broker = broker
        self._topic = topic
        self._group = group
        self._reading = _Reading(broker, topic, max_records)
        self._assignee: Assignee | None = None
        self._ours: set[int] = set()
        self._ready: set[int] = set()
        self._flowing: set[int] = set()
        self._faults: deque[inbound.PartitionError] = deque()

    async def start(self, assignee: Assignee) -> None:
        self._broker.log(self._topic, 0)
        self._assignee = assignee
        self._broker.groups.setdefault(self._group, []).append(self)
        await self._broker.rebalance(self._group, self._topic)

    async def poll(self) -> Mapping[int, Sequence[MemoryRecord]]:
        if self._faults:
            raise self._faults.popleft()
        found, stuck = self._reading.fetch(self._flowing)
        for partition, fetched in stuck.items():
            kind = inbound.OffsetOutOfRange if fetched.fault == "range" else inbound.Unfetchable
            self._faults.append(kind(partition, fetched.position, f"{fetched.fault} by the test"))
            self._ready.discard(partition)
            self._flowing.discard(partition)
        if not found and not stuck:
            await self._broker.idle()
        return found

    def resume_at(self, offsets: Mapping[int, int]) -> None:
        ours = {partition: offset for partition, offset in offsets.items() if partition in self._ours}
        self._faults = deque(fault for fault in self._faults if fault.partition not in offsets)
        self._reading.positions |= ours
        self._ready |= ours.keys()
        self._flowing |= ours.keys()

    def pause(self, partitions: frozenset[int]) -> None:
        self._flowing -= partitions

    def resume(self, partitions: frozenset[int]) -> None:
        self._flowing |= partitions & self._ready

    def wake(self) -> None:
        """Nothing: its polls wait for a moment only."""

    async def partitions(self) -> int:
        return len(self._broker.logs[self._topic])

    async def bounds(self, partitions: frozenset[int]) -> Mapping[int, tuple[int, int]]:
        if any((self._topic, partition) in self._broker.leaderless for partition in partitions):
            raise Unavailable("kafka", "a partition has no leader")
        logs = [self._broker.log(self._topic, partition) for partition in partitions]
        return {log.partition: (log.first, log.end) for log in logs}

    async def records_at(
        self, offsets: Mapping[int, int], of: Callable[[InboundRecord], T]
    ) -> Mapping[int, T | None]:
        found = {
            p: self._broker.log(self._topic, p).fetch(offset, 1).records for p, offset in offsets.items()
        }
        at = {
            p: of(records[0]) for p, records in found.items() if records and records[0].offset == offsets[p]
        }
        return {partition: at.get(partition) for partition in offsets}

    async def note(self, offsets: Mapping[int, int]) -> None:
        if not self._broker.away:
            self._broker.noted |= {
                (self._group, p): offset for p, offset in offsets.items() if p in self._ours
            }

    async def close(self, *, hurried: bool = False) -> None:
        members = self._broker.groups.get(self._group, [])
        if self in members:
            members.remove(self)
            self._forget()
            await self._broker.rebalance(self._group, self._topic)

    async def lose(self) -> None:
        """What the client calls before a rebalance."""
        lost = frozenset(self._ours)
        self._forget()
        if lost and self._assignee is not None:
            await self._assignee.revoked(lost)

    def get(self, partitions: frozenset[int]) -> None:
        """What the client calls after a rebalance."""
        self._forget()
        self._ours = set(partitions)
        if self._assignee is not None:
            self._assignee.assigned(partitions)

    def _forget(self) -> None:
        for held in (self._ours, self._ready, self._flowing):
            held.clear()
        self._faults.clear()


class MemoryEventSource:
    """An `EventSource`."""

    def __init__(self, broker: MemoryBroker, *, topic: str, max_records: int = 1_000) -> None:
        self._broker = broker
        self._topic = topic
        self._reading = _Reading(broker, topic, max_records)
        self._held: set[int] = set()
        self._faulty: set[int] = set()
        self._faults: deque[events.EventSourceFault] = deque()
        self._foreign: list[events.ForeignRecord] = []

    async def start(self, offsets: Mapping[int, int]) -> None:
        self._broker.log(self._topic, 0)
        partitions = range(len(self._broker.logs[self._topic]))
        self._reading.positions = {partition: offsets.get(partition, 0) for partition in partitions}
        self._held, self._faulty = set(), set()
        self._faults.clear()

    async def poll(self) -> Mapping[int, Sequence[EventRecord]]:
        if self._faults:
            raise self._faults.popleft()
        found, stuck = self._reading.fetch(self._reading.positions.keys() - self._held - self._faulty)
        for partition, fetched in stuck.items():
            at = fetched.position
            if fetched.fault == "range":
                self._hold_back(events.EventsOutOfRange(partition, at, "range by the test"))
            else:
                self._foreign.append(events.ForeignRecord(partition, at, "cannot be unpacked"))
                self._reading.positions[partition] = at + 1
        if not found and not stuck:
            await self._broker.idle()
        framed = {partition: self._framed(records) for partition, records in found.items()}
        return {partition: records for partition, records in framed.items() if records}

    def foreign(self) -> Sequence[events.ForeignRecord]:
        found, self._foreign = self._foreign, []
        return found

    def seek(self, partition: int, offset: int) -> None:
        self._reading.positions[partition] = offset
        self._faulty.discard(partition)
        self._faults = deque(fault for fault in self._faults if fault.partition != partition)

    def pause(self, partitions: frozenset[int]) -> None:
        self._held |= partitions

    def resume(self, partitions: frozenset[int]) -> None:
        self._held -= partitions

    async def close(self) -> None:
        self._reading.positions.clear()

    def _framed(self, records: Iterable[MemoryRecord]) -> list[EventRecord]:
        framed: list[EventRecord] = []
        for record in records:
            try:
                framed.append(_frame(record))
            except (KeyError, ValueError) as error:
                self._foreign.append(events.ForeignRecord(record.partition, record.offset, repr(error)))
        return framed

    def _hold_back(self, fault: events.EventSourceFault) -> None:
        self._faulty.add(fault.partition)
        self._faults.append(fault)


def _frame(record: MemoryRecord) -> EventRecord:
    said = {name: value or b"" for name, value in record.headers}
    at = datetime.fromisoformat(said["ce_time"].decode())
    sequence, name = int(said["tm_sequence"]), said["ce_type"].decode()
    if sequence < 1 or at.tzinfo is None or not name or record.value is None:
        raise ValueError("no event")
    return EventRecord(record.partition, record.offset, sequence, at, name, record.value, record.key or b"")


class MemoryLanePublisher:
    """A `LanePublisher`. Without transactions nobody fences it, and a fault may leave a part of a publication."""

    def __init__(
        self,
        broker: MemoryBroker,
        lane: Lane,
        *,
        transactional: bool = True,
        accepted: Mapping[str, int] = NOTHING_ACCEPTED,
    ) -> None:
        self._broker = broker
        self._accepted = accepted
        self._lane = lane
        self._transactional = transactional
        self._writer = f"{lane.topics.events}-{lane.partition}"
        self._generation: int | None = None

    async def start(self) -> Tails:
        topics = (self._lane.topics.events, self._lane.topics.outcomes, self._lane.topics.dead_letters)
        logs = [self._broker.log(topic, self._lane.partition) for topic in topics]
        generation = self._broker.fence(self._writer) if self._transactional else 0
        if any(log.end < len(log.entries) for log in logs):
            raise Unavailable("kafka", "another program's transaction stays open")
        tails = Tails(*(_tail(self._end_of(log)) for log in logs))
        self._generation = generation
        return tails

    async def publish(self, batches: Mapping[str, Sequence[EncodedRecord | Slab]]) -> None:
        generation, self._generation = self._generation, None
        if generation is None:
            raise Unavailable("kafka", "this publisher was not started, or has failed before")
        if self._transactional and generation != self._broker.generations[self._writer]:
            raise PublisherFenced(self._writer)
        fault = self._broker.faults.popleft() if self._broker.faults else None
        self._send(batches)
        if self._transactional and fault != "hanging":
            self._broker.settle(self._writer, "aborted" if fault == "lost" else "committed")
        self._broker.arrived.set()
        if fault is not None:
            raise Unavailable("kafka", f"{fault} by the test")
        self._generation = generation

    def _end_of(self, log: MemoryLog) -> MemoryRecord | None:
        for each in log.backwards():
            offset = each if isinstance(each, int) else each.offset
            if not isinstance(each, int) and _is_ours(each):
                return each
            if offset > self._accepted.get(log.topic, -1):
                raise ForeignTail(log.topic, log.partition, offset)
        return None

    async def close(self) -> None:
        self._generation = None

    def _send(self, batches: Mapping[str, Sequence[EncodedRecord | Slab]]) -> None:
        for topic, records in batches.items():
            log = self._broker.log(topic, self._lane.partition)
            for record in _singles(records):
                if _size(record) > self._broker.limits.get(topic, 1 << 20):
                    self._broker.settle(self._writer, "aborted")
                    raise RecordRefused(f"a record is larger than {topic} allows")
                log.append(record, "open" if self._transactional else "committed", self._writer)


def _singles(records: Sequence[EncodedRecord | Slab]) -> Iterator[EncodedRecord]:
    for each in records:
        if isinstance(each, Slab):
            yield from (OutboundRecord.of(body) for body in bodies(ZSTD.decompress(each.records)))
        else:
            yield each


def _size(record: EncodedRecord) -> int:
    named: Collection[tuple[bytes, bytes | None]] = [(name.encode(), value) for name, value in record.headers]
    return sum(len(part or b"") for pair in [(record.key, record.value), *named] for part in pair)


def _is_ours(record: MemoryRecord) -> bool:
    try:
        return _tail(record) is not None
    except ForeignTail:
        return False


def _tail(record: MemoryRecord | None) -> Tail | None:
    if record is None:
        return None
    said = {name: value or b"" for name, value in record.headers}  # the last of several counts
    try:
        event_id = said["ce_id"].decode() if "ce_id" in said else None
        return Tail(int(said["tm_position"]), int(said["tm_sequence"]), event_id)
    except (KeyError, ValueError) as error:
        raise ForeignTail(record.topic, record.partition, record.offset) from error


@dataclass(frozen=True)
class MemoryPublishers:
    """`Publishers` on a broker."""

    broker: MemoryBroker
    transactional: bool = True
    ends: dict[tuple[str, int], int] = field(default_factory=dict)

    def of(self, lane: Lane, accepted: Mapping[str, int] = NOTHING_ACCEPTED) -> MemoryLanePublisher:
        return MemoryLanePublisher(self.broker, lane, transactional=self.transactional, accepted=accepted)

    async def shortened(self, lanes: Collection[Lane]) -> frozenset[int]:
        if self.broker.away:
            raise Unavailable("kafka", "away by the test")
        shorter = set()
        for lane in lanes:
            for topic in (lane.topics.events, lane.topics.outcomes, lane.topics.dead_letters):
                if topic in self.broker.logs:
                    end, place = self.broker.log(topic, lane.partition).end, (topic, lane.partition)
                    if end < self.ends.get(place, 0):
                        shorter.add(lane.id)
                    self.ends[place] = end
        return frozenset(shorter)
