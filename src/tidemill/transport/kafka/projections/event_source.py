"""The event topic of one stream: all partitions, assigned by hand, frames checked before any body is decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from tidemill.projections.ports import (
    EventRecord,
    EventSourceFault,
    EventsOutOfRange,
    EventsUnfetchable,
    ForeignRecord,
)
from tidemill.transport.kafka.client.client import KafkaConnection, manual_consumer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.fetch_buffer import Fault
from tidemill.transport.kafka.client.lookup import assign, partitions_of
from tidemill.transport.kafka.client.start import start

_WAIT_S: Final = 0.2
_MAX_FOREIGN: Final = 10_000
_WANTED: Final = ("tm_sequence", "ce_time", "ce_type")

Headers = Sequence[tuple[str, bytes | None]]


class Frames:
    """Reads the frames of event records. Caches the positions of headers, the time of a batch, type names."""

    def __init__(self) -> None:
        self._pick = itemgetter(*range(len(_WANTED)))
        self._time = b""
        self._at = datetime.min.replace(tzinfo=UTC)
        self._types: dict[bytes, str] = {}

    def read(self, record: ConsumerRecord) -> EventRecord:
        """Return the frame. Raises `ValueError` if the record is not an event."""
        sequence, time, event_type = self._values(record.headers)
        if time != self._time:
            self._at, self._time = _instant(time), time
        number = int(sequence)
        if number < 1 or record.value is None:
            raise ValueError(f"tm_sequence {number}, value {record.value!r}")
        name = self._types.get(event_type) or self._type(event_type)
        return EventRecord(
            record.partition, record.offset, number, self._at, name, record.value, record.key or b""
        )

    def _values(self, headers: Headers) -> tuple[bytes, bytes, bytes]:
        try:
            (one, sequence), (two, time), (three, event_type) = self._pick(headers)
        except IndexError:
            return self._search(headers)
        if (one, two, three) != _WANTED:
            return self._search(headers)
        return sequence or b"", time or b"", event_type or b""

    def _search(self, headers: Headers) -> tuple[bytes, bytes, bytes]:
        """Find the headers, and cache their positions."""
        places = {name: place for place, (name, _) in enumerate(headers)}
        missing = [name for name in _WANTED if name not in places]
        if missing:
            raise ValueError(f"no header {' and '.join(missing)}")
        self._pick = itemgetter(*(places[name] for name in _WANTED))
        (_, sequence), (_, time), (_, event_type) = self._pick(headers)
        return sequence or b"", time or b"", event_type or b""

    def _type(self, event_type: bytes) -> str:
        name = event_type.decode()
        if not name:
            raise ValueError("ce_type is empty")
        if len(self._types) < 1_000:
            self._types[event_type] = name
        return name


def _instant(time: bytes) -> datetime:
    at = datetime.fromisoformat(time.decode())
    if at.tzinfo is None:
        raise ValueError(f"ce_time {time!r} has no offset from UTC")
    return at


class KafkaEventSource:
    """See `EventSource`. `partitions`: how many the topic has.

    `max_records`: most records of one poll. About the size of a fetch of one partition: while the caller works on one,
    the others are fetched again.
    """

    def __init__(
        self, connection: KafkaConnection, *, topic: str, partitions: int, max_records: int = 2_000
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._partitions = [TopicPartition(topic, partition) for partition in range(partitions)]
        self._max_records = max_records
        self._frames = Frames()
        self._consumer: Any = None
        self._fetching: Any = None
        self._held: set[TopicPartition] = set()  # by the reader
        self._faulty: set[TopicPartition] = set()  # until the reader seeks
        self._flowing: set[TopicPartition] = set()
        self._faults: deque[EventSourceFault] = deque()
        self._foreign: deque[ForeignRecord] = deque(maxlen=_MAX_FOREIGN)

    async def start(self, offsets: Mapping[int, int]) -> None:
        self._consumer = manual_consumer(self._connection)
        async with answering(f"opening {self._topic}", self._connection.call_timeout_s):
            await start(self._consumer)
            if await partitions_of(self._consumer, self._topic) < len(self._partitions):
                raise UnknownTopicOrPartitionError(self._partitions[-1])
        starts = {tp: offsets.get(tp.partition, 0) for tp in self._partitions}
        self._fetching = assign(self._consumer, starts, max_records=self._max_records, wait_s=_WAIT_S)
        self._held, self._faulty, self._flowing = set(), set(), set(self._partitions)
        self._faults.clear()

    async def poll(self) -> Mapping[int, Sequence[EventRecord]]:
        if self._faults:
            raise self._faults.popleft()
        fetched = await self._fetching.fetch(self._flowing)
        framed = {tp.partition: self._framed(records) for tp, records in fetched.records.items()}
        for fault in fetched.faults:  # after what could still be read of the partition
            if fault.as_written:
                self._leave_out(fault)
            elif fault.partition not in self._faulty:
                self._hold_back(fault.partition, _meaning(fault))
        return {partition: records for partition, records in framed.items() if records}

    def foreign(self) -> Sequence[ForeignRecord]:
        found = list(self._foreign)
        self._foreign.clear()
        return found

    def seek(self, partition: int, offset: int) -> None:
        tp = TopicPartition(self._topic, partition)
        self._fetching.seek(tp, offset)
        self._faulty.discard(tp)
        self._faults = deque(fault for fault in self._faults if fault.partition != partition)
        self._let_flow({tp})

    def pause(self, partitions: frozenset[int]) -> None:
        held = self._named(partitions)
        self._held |= held
        self._stop_flow(held)

    def resume(self, partitions: frozenset[int]) -> None:
        freed = self._named(partitions)
        self._held -= freed
        self._let_flow(freed)

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await hard_close(consumer, self._connection.close_timeout_s)

    def _named(self, partitions: frozenset[int]) -> set[TopicPartition]:
        return {TopicPartition(self._topic, partition) for partition in partitions}

    def _framed(self, records: Sequence[ConsumerRecord]) -> list[EventRecord]:
        """Return the frames of the events; other records are left out, and reported."""
        read = self._frames.read
        framed: list[EventRecord] = []
        for record in records:
            try:
                framed.append(read(record))
            except ValueError as error:
                self._foreign.append(ForeignRecord(record.partition, record.offset, str(error)))
        return framed

    def _leave_out(self, fault: Fault) -> None:
        """Continue after a batch that the relay did not write: if it had, its events would now be missing."""
        (topic, partition), batch = fault.partition, fault.batch
        detail = f"its batch, offsets {batch.start} to {batch.stop - 1}, cannot be unpacked: {fault.cause!r}"
        self._foreign.append(ForeignRecord(partition, fault.offset, detail))
        self._fetching.seek(TopicPartition(topic, partition), batch.stop)

    def _hold_back(self, tp: TopicPartition, fault: EventSourceFault) -> None:
        self._faulty.add(tp)
        self._stop_flow({tp})
        self._faults.append(fault)

    def _stop_flow(self, partitions: set[TopicPartition]) -> None:
        self._fetching.pause(partitions)
        self._flowing -= partitions

    def _let_flow(self, partitions: set[TopicPartition]) -> None:
        free = partitions - self._held - self._faulty
        self._fetching.resume(free)
        self._flowing |= free


def _meaning(fault: Fault) -> EventSourceFault:
    kind = EventsOutOfRange if fault.out_of_range else EventsUnfetchable
    return kind(fault.partition.partition, fault.offset, repr(fault.cause))
