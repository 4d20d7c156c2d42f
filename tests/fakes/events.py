"""An event topic in memory: `EventSource` and `EventCodec` for tests of what reads events."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from tidemill.domain.errors import ContractError, Unavailable
from tidemill.domain.messages import EventBase
from tidemill.domain.projection import Recorded
from tidemill.projections.event_columns import EventColumns
from tidemill.projections.ports import EventRecord, EventSourceFault, EventsOutOfRange, ForeignRecord

START = datetime(2026, 1, 1, tzinfo=UTC)
IDLE_S = 0.02


class MemoryTopic:
    """An event topic: partitions of records with offsets, which may have holes and be trimmed."""

    def __init__(self) -> None:
        self.records: dict[int, list[EventRecord]] = defaultdict(list)
        self.starts: dict[int, int] = defaultdict(int)
        self.ends: dict[int, int] = defaultdict(int)
        self.arrived = asyncio.Event()

    def append(
        self,
        partition: int,
        sequence: int,
        event: EventBase,
        *,
        at: datetime | None = None,
        hole: int = 0,
        event_type: str | None = None,
    ) -> EventRecord:
        """Write a record behind `hole` offsets that hold none (markers of transactions)."""
        offset = self.ends[partition] + hole
        when = START + timedelta(seconds=sequence) if at is None else at
        value = event.model_dump_json().encode()
        record = EventRecord(partition, offset, sequence, when, event_type or type(event).__name__, value)
        self.records[partition].append(record)
        self.ends[partition] = offset + 1
        self.arrived.set()
        return record

    def trim(self, partition: int, start: int) -> None:
        """Delete what stands before an offset."""
        self.records[partition] = [record for record in self.records[partition] if record.offset >= start]
        self.starts[partition] = start

    def create_again(self) -> None:
        """Delete the topic and make one of the same name."""
        for held in (self.records, self.starts, self.ends):
            held.clear()


class MemoryEvents:
    """An `EventSource` on a `MemoryTopic`.

    `max_records`: how many one poll gives of a partition. `away`: raised by the next starts, one each. `faults`:
    raised by the next polls, one each.
    """

    def __init__(self, topic: MemoryTopic, *, partitions: int, max_records: int = 1_000) -> None:
        self.topic = topic
        self.away: deque[Exception] = deque()
        self.faults: deque[Exception] = deque()
        self.closed = False
        self.starts = 0
        self.foreign_records: list[ForeignRecord] = []
        self._partitions = partitions
        self._max_records = max_records
        self._positions: dict[int, int] = {}
        self._held: set[int] = set()
        self._faulty: set[int] = set()

    async def start(self, offsets: Mapping[int, int]) -> None:
        self.starts += 1
        if self.away:
            raise self.away.popleft()
        self._positions = {partition: offsets.get(partition, 0) for partition in range(self._partitions)}

    async def poll(self) -> Mapping[int, Sequence[EventRecord]]:
        if self.faults:
            fault = self.faults.popleft()
            if isinstance(fault, EventSourceFault):
                self._faulty.add(fault.partition)
            raise fault
        polled = {partition: self._fetch(partition) for partition in self._flowing()}
        found = {partition: records for partition, records in polled.items() if records}
        if not found and not self.faults:
            await self._wait()
        return found

    def foreign(self) -> Sequence[ForeignRecord]:
        found, self.foreign_records = self.foreign_records, []
        return found

    def seek(self, partition: int, offset: int) -> None:
        self._positions[partition] = offset
        self._faulty.discard(partition)

    def pause(self, partitions: frozenset[int]) -> None:
        self._held |= partitions

    def resume(self, partitions: frozenset[int]) -> None:
        self._held -= partitions

    async def close(self) -> None:
        self.closed = True

    @property
    def flowing(self) -> frozenset[int]:
        return frozenset(self._flowing())

    def _flowing(self) -> list[int]:
        return [at for at in self._positions if at not in self._held and at not in self._faulty]

    def _fetch(self, partition: int) -> list[EventRecord]:
        position = self._positions[partition]
        if not self.topic.starts[partition] <= position <= self.topic.ends[partition]:
            self._faulty.add(partition)
            self.faults.append(EventsOutOfRange(partition, position, "the topic does not have it"))
            return []
        behind = [record for record in self.topic.records[partition] if record.offset >= position]
        fetched = behind[: self._max_records]
        if fetched:
            self._positions[partition] = fetched[-1].offset + 1
        return fetched

    async def _wait(self) -> None:
        self.topic.arrived.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self.topic.arrived.wait()


class MemoryCodec:
    """An `EventCodec` of JSON. `away`: raised by the next calls of `prepare`, one each."""

    def __init__(self, *events: type[EventBase]) -> None:
        self._classes = {event.__name__: event for event in events}
        self.away: deque[Unavailable] = deque()
        self.decoded = 0

    async def prepare(self, values: Sequence[bytes]) -> None:
        if self.away:
            raise self.away.popleft()

    def decode(self, records: Sequence[EventRecord]) -> list[Recorded[EventBase]]:
        events = [self._decode(record) for record in records]
        self.decoded += len(events)
        return events

    def decode_columns(
        self, records: Sequence[EventRecord], wanted: Collection[type[EventBase]]
    ) -> EventColumns | None:
        try:
            events = self.decode(records)
        except ContractError:
            return None
        classes = {type(each.event) for each in events}
        return EventColumns.of(events) if len(classes) == 1 and classes <= set(wanted) else None

    def _decode(self, record: EventRecord) -> Recorded[EventBase]:
        if record.event_type not in self._classes:
            raise ContractError(f"no class here reads events of type {record.event_type}")
        try:
            event = self._classes[record.event_type].model_validate_json(record.value)
        except ValidationError as fault:
            raise ContractError(f"event {record.sequence} cannot be read: {fault}") from fault
        return Recorded(event, record.at, record.partition, record.sequence)
