"""Kafka in memory, faithful where it matters: offsets with holes, transactions, fencing, retention, poison, absence.

One `MemoryBroker` serves the fakes of `CommandSource`, `Publishers` and `EventSource` (in `kafka_ports`), so that the
way in, the relay and a projector can be joined in one process.

Every transaction leaves a marker that takes an offset. What is behind the first open transaction of a partition is
hidden; what was aborted is skipped. Answers are given as fast as they are asked for; a quiet poll waits `IDLE_S`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from tidemill.domain.errors import Unavailable
from tidemill.outbox.ports import EncodedRecord

IDLE_S = 0.02

Headers = tuple[tuple[str, bytes | None], ...]
RecordState = Literal["committed", "open", "aborted", "marker", "poison"]
Fault = Literal["lost", "unheard", "hanging"]


class MemoryRecord(NamedTuple):
    """A record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass
class _Entry:
    """What stands at one offset. `writer`: the transactional id it was written with."""

    record_state: RecordState
    record: MemoryRecord | None = None
    writer: str | None = None


class Fetched(NamedTuple):
    """What a fetch brought, where the consumer stands then, and what keeps it there."""

    records: list[MemoryRecord]
    position: int
    fault: Literal["range", "poison"] | None = None


@dataclass
class MemoryLog:
    """One partition. An entry's index is its offset; before `first` retention has deleted them."""

    topic: str
    partition: int
    entries: list[_Entry] = field(default_factory=list)
    first: int = 0

    @property
    def end(self) -> int:
        """The last stable offset."""
        opened = (at for at, entry in enumerate(self.entries) if entry.record_state == "open")
        return next(opened, len(self.entries))

    def append(
        self, record: EncodedRecord, record_state: RecordState = "committed", writer: str | None = None
    ) -> MemoryRecord:
        """Write one record."""
        stored = MemoryRecord(
            self.topic, self.partition, len(self.entries), record.key, record.value, tuple(record.headers)
        )
        self.entries.append(_Entry(record_state, stored, writer))
        return stored

    def settle(self, writer: str, record_state: RecordState) -> None:
        """End the writer's open transaction, if it has one here, with a marker."""
        opened = [entry for entry in self.entries if entry.record_state == "open" and entry.writer == writer]
        for entry in opened:
            entry.record_state = record_state
        if opened:
            self.entries.append(_Entry("marker"))

    def fetch(self, position: int, limit: int) -> Fetched:
        """Read committed records from `position` on, up to `limit` of them or the first that cannot be unpacked."""
        if not self.first <= position <= len(self.entries):
            return Fetched([], position, "range")
        found: list[MemoryRecord] = []
        for at in range(position, self.end):
            entry = self.entries[at]
            if entry.record_state == "poison":
                return Fetched(found, at, "poison")
            if entry.record_state == "committed" and entry.record is not None:
                found.append(entry.record)
            if len(found) == limit:
                return Fetched(found, at + 1)
        return Fetched(found, max(position, self.end))

    def backwards(self) -> Iterator[MemoryRecord | int]:
        """What is committed, the last first; of what cannot be unpacked its offset."""
        for at in reversed(range(self.first, self.end)):
            entry = self.entries[at]
            if entry.record_state == "poison":
                yield at
            elif entry.record_state == "committed" and entry.record is not None:
                yield entry.record

    def committed(self) -> Iterator[MemoryRecord]:
        """What a consumer can read from the start."""
        yield from self.fetch(self.first, len(self.entries) + 1).records


class Member(Protocol):
    """A consumer of a group."""

    async def lose(self) -> None:
        """Give up all partitions."""
        ...

    def get(self, partitions: frozenset[int]) -> None:
        """Take these partitions, and no others."""
        ...


@dataclass
class MemoryBroker:
    """The cluster.

    `away`: nothing is answered; consumers just see quiet topics. `faults`: one per publication: `lost` (nothing is
    committed), `unheard` (all of it is, the answer is not), `hanging` (the transaction stays open until a later
    publisher of the lane starts). `limits`: most bytes of a record, by topic. `leaderless`: (topic, partition) that
    nobody can ask about.
    """

    away: bool = False
    faults: deque[Fault] = field(default_factory=deque)
    limits: dict[str, int] = field(default_factory=dict)
    logs: dict[str, list[MemoryLog]] = field(default_factory=dict)
    leaderless: set[tuple[str, int]] = field(default_factory=set)
    noted: dict[tuple[str, int], int] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    groups: dict[str, list[Member]] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic."""
        self.logs[topic] = [MemoryLog(topic, partition) for partition in range(partitions)]

    def log(self, topic: str, partition: int) -> MemoryLog:
        """Return a partition. Raises `Unavailable` for a broker that is down, or a partition that does not exist."""
        if self.away:
            raise Unavailable("kafka", "away by the test")
        try:
            return self.logs[topic][partition]
        except LookupError as error:
            raise Unavailable("kafka", f"there is no {topic}/{partition}") from error

    def write(
        self, topic: str, partition: int, *records: EncodedRecord, record_state: RecordState = "committed"
    ) -> None:
        """Write as a client does: plainly, or (`open`, `aborted`) in a transaction that nobody ends, or ended so."""
        log = self.log(topic, partition)
        for record in records:
            log.append(record, "open" if record_state == "aborted" else record_state, "a client")
        if record_state == "aborted":
            log.settle("a client", record_state)
        self.arrived.set()

    def mark(self, topic: str, partition: int) -> None:
        """Leave the marker of a transaction: an offset without a record."""
        self.log(topic, partition).entries.append(_Entry("marker"))

    def poison(self, topic: str, partition: int, records: int = 1) -> int:
        """Write a batch that no client can unpack; return its first offset."""
        log = self.log(topic, partition)
        log.entries += [_Entry("poison") for _ in range(records)]
        self.arrived.set()
        return len(log.entries) - records

    def trim(self, topic: str, partition: int, first: int) -> None:
        """Delete what stands before `first`, as retention does."""
        self.log(topic, partition).first = first

    def fence(self, writer: str) -> int:
        """Begin a new generation of a transactional id: abort what the last one left open."""
        self.generations[writer] = self.generations.get(writer, 0) + 1
        self.settle(writer, "aborted")
        return self.generations[writer]

    def settle(self, writer: str, record_state: RecordState) -> None:
        """End the open transaction of a writer everywhere."""
        for partitions in self.logs.values():
            for log in partitions:
                log.settle(writer, record_state)
        self.arrived.set()

    async def idle(self) -> None:
        """Wait for the next write, a moment at most."""
        self.arrived.clear()
        try:
            await asyncio.wait_for(self.arrived.wait(), IDLE_S)
        except TimeoutError:
            return

    async def rebalance(self, group: str, topic: str) -> None:
        """Take all partitions from all members, then share them out by ranges: eagerly, as the client does."""
        members = self.groups.get(group, [])
        for member in members:
            await member.lose()
        partitions = range(len(self.logs[topic]))
        for at, member in enumerate(members):
            share = -(-len(partitions) // len(members))
            member.get(frozenset(partitions[at * share : (at + 1) * share]))
