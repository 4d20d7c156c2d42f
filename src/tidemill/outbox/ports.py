"""The ports of the relay: rows to send, and one publisher per lane."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import TidemillError
from tidemill.domain.lane import Claim, Lane
from tidemill.outbox.pack import Pack, PackStart

Header = tuple[str, bytes | None]


class OutboxItem(NamedTuple):
    """A row of `tm.outbox`, with the parked record beside it where the outcome is `parked`."""

    position: int
    item: int
    outcome: bytes | None
    original: bytes | None
    code: str | None
    detail: str | None
    command_id: str | None
    service: str | None
    correlation: str | None
    sequence: int
    at: datetime
    seconds: float
    record_offset: int
    key: bytes | None
    event_type: str | None
    payload: bytes | None
    chain: int
    trace: str | None
    client_id: str | None = None  # the id as the client wrote it, where that is not the text of command_id
    rows: int | None = None  # how many rows the command affected; None: one if there is an event


class PackFormat(Protocol):
    """How outbox rows become packs."""

    def pack(self, lane: Lane, start: PackStart, items: Sequence[OutboxItem]) -> list[Pack]:
        """Return packs of consecutive positions, each of which can be sent as one Kafka batch to each topic.

        A position is never divided, so one with large events may make a pack that is larger.
        """
        ...

    def unpack(self, lane: Lane, pack: Pack) -> list[OutboxItem]:
        """Return the rows of a pack, with the numbers that they have now: the inverse of `pack`."""
        ...


class LanePlace(NamedTuple):
    """A position, with the last event up to it."""

    position: int
    sequence: int


class ParkedRecord(NamedTuple):
    """A parked record, for the dead letter topic: key, value and headers untouched, or left out.

    `value_bytes`: how large a value is that is left out. `bare`: its key and headers are left out, or one
    of them.
    """

    position: int
    topic: str
    partition: int
    record_offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    code: str
    detail: str
    value_bytes: int | None = None
    bare: bool = False

    @property
    def whole(self) -> bool:
        """Return whether nothing is left out."""
        return not self.bare and (self.value is not None or self.value_bytes is None)


class Published(NamedTuple):
    """How far a lane is published: everything up to `position` was acknowledged by the broker.

    `sequence` and `event_id`: the last event up to there (0 and None before the first). A reconciliation of a lane's
    history sets it to the topic's tail, and leaves no rows in the outbox at that place: the relay continues after it.
    """

    position: int
    sequence: int
    event_id: str | None


NOTHING_PUBLISHED = Published(0, 0, None)


NOTHING_ACCEPTED: Final[Mapping[str, int]] = MappingProxyType({})


class Fork(NamedTuple):
    """A reconciliation: from `timeline` on, history continues differently from the topics.

    Events up to `forked_at` stay in force, those after it up to `continued_at` were withdrawn, if there are any; the
    timeline's own follow `continued_at`. `position`: the hint that was left then; `topic_sequence`, `topic_position`:
    where the topics of events and of outcomes ended then (0 and None for an empty one).
    """

    timeline: int
    forked_at: int
    continued_at: int
    position: int
    topic_sequence: int
    topic_position: int | None


class LaneEnd(NamedTuple):
    """How far the database is: the newest row of the lane's ledger, and its earlier reconciliations.

    `accepted`: topic -> the offset up to which an operator has accepted records of another program.
    """

    position: int
    sequence: int
    timeline: int
    forks: tuple[Fork, ...] = ()
    accepted: Mapping[str, int] = NOTHING_ACCEPTED

    @property
    def withdrawn(self) -> tuple[tuple[int, int], ...]:
        """Return (first, last) of every span of events that are not in force any more, ascending."""
        return tuple(
            (fork.forked_at + 1, fork.continued_at)
            for fork in self.forks
            if fork.forked_at < fork.continued_at
        )


class OutboxReader(Protocol):
    """The outbox of the lanes, for their relay. Every call may raise `Unavailable` or another `TransientError`."""

    async def read(
        self, lane_id: int, after: int, limit: int, max_bytes: int
    ) -> list[OutboxItem] | list[Pack]:
        """Return what follows position `after`, as it is stored: rows, by (position, item), or packs.

        Empty only if there is none. Packs follow each other without a gap; the first may begin before `after`, and
        may alone exceed the limits.

        At most `limit` positions, each of them whole, and no more than `max_bytes` of keys, payloads and parked records
        (the text of their headers included; of packs, as they are stored) unless the first position alone is larger.
        The first row may be further away than `after + 1`: a hole.
        """
        ...

    async def parked(self, lane_id: int, positions: Sequence[int], max_bytes: int) -> dict[int, ParkedRecord]:
        """Return the parked records at `positions`, each without its value, key or headers if that alone is larger."""
        ...

    async def pending(self, positions: Mapping[int, int]) -> dict[int, int]:
        """Return lane -> newest position, for those of the lanes (lane -> position) that have rows after theirs."""
        ...

    async def published(self, lane_id: int) -> Published:
        """Return the stored hint of how far the lane was published; `NOTHING_PUBLISHED` if there is none."""
        ...

    async def mark(self, marks: Mapping[int, Published]) -> None:
        """Store the hint for several lanes. Never moves it back."""
        ...

    async def end(self, claim: Claim) -> LaneEnd:
        """Return how far the lane's ledger is. Raises `Fenced` if the claim was lost."""
        ...

    async def events_at(self, lane_id: int, position: int) -> dict[int, str] | None:
        """Return sequence -> event id of the events at `position`; None if the outbox does not hold it (any more)."""
        ...

    async def halt(self, claim: Claim, code: str, detail: str) -> None:
        """Record that a lane is halted, unless it is recorded already or the claim was lost meanwhile."""
        ...

    async def halted(self, lanes: Sequence[int]) -> frozenset[int]:
        """Return those of the lanes that are halted."""
        ...


class OutboxGenerations(Protocol):
    """The outbox by age. Every call may raise `TransientError`."""

    async def note_sent(self) -> None:
        """Write down the time for every closed generation all of whose rows are now known to be published."""
        ...

    async def droppable(self, keep: timedelta) -> list[int]:
        """Return the generations that were seen to be published at least `keep` ago, oldest first.

        By the clock that wrote down when: a process whose own clock is ahead drops nothing too early.
        """
        ...

    async def drop(self, generation: int) -> None:
        """Drop a generation's outbox. A generation that was dropped already is ignored."""
        ...


class EncodedRecord(Protocol):
    """A record for Kafka, as it is sent."""

    @property
    def encoded(self) -> bytes:
        """All of it, but for its place in a batch."""
        ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[Header]: ...


class Slab(NamedTuple):
    """Records of one Kafka batch, numbered from 0, one behind the other, compressed with zstd; `number`: of them."""

    records: bytes
    number: int


class SentPositions(NamedTuple):
    """What the topics hold already: events up to `sequence`, outcomes and dead letters up to a position each."""

    sequence: int
    outcomes: int
    dead_letters: int


class LaneRecords(Protocol):
    """Makes the records of one lane, many at a call: it runs for each event and outcome."""

    def events_and_outcomes(
        self, items: Iterable[OutboxItem], outcomes: Iterable[tuple[OutboxItem, bytes]], sent: SentPositions
    ) -> tuple[list[EncodedRecord], list[EncodedRecord]]:
        """Return what of `items` the topics do not hold yet, as `sent` says.

        `outcomes`: every item that carries an outcome to be sent, in order, with its framed message.
        """
        ...

    def dead_letters(
        self, places: Sequence[LanePlace], parked: Sequence[ParkedRecord]
    ) -> list[EncodedRecord]:
        """Return the records at `places` unchanged, with what is wrong with them in Kafka Connect's headers."""
        ...

    def record(self, key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> EncodedRecord:
        """Return a record of these."""
        ...


class RecordFormat(Protocol):
    """How records are written."""

    def lane_records(
        self, lane: Lane, timeline: int, withdrawn: Sequence[tuple[int, int]] = ()
    ) -> LaneRecords:
        """Return what makes the records of a lane.

        `withdrawn`: (first, last) of every span of events that are not in force any more.
        """
        ...


class Tail(NamedTuple):
    """The last record of an outbound partition: its `tm_position`, `tm_sequence` and `ce_id`."""

    position: int
    sequence: int
    event_id: str | None


class Tails(NamedTuple):
    """The tails of a lane's three outbound partitions, None where a partition is empty."""

    events: Tail | None
    outcomes: Tail | None
    dead_letters: Tail | None


class LanePublisher(Protocol):
    """The only writer of a lane's outbound partitions. After any exception: close it, make a new one."""

    async def start(self) -> Tails:
        """Fence every earlier publisher of the lane, then read the tails. Raises `Unavailable`, `ForeignTail`."""
        ...

    async def publish(self, batches: Mapping[str, Sequence[EncodedRecord | Slab]]) -> None:
        """Send topic -> records, or slabs of them, in order; returns when the broker has acknowledged all of it.

        A topic's are of one kind.

        Raises `Unavailable` (outcome unknown), `RecordRefused` (the broker permanently refuses a record),
        `PublisherFenced`.
        """
        ...

    async def close(self) -> None:
        """End it within a deadline; nothing that was queued is delivered afterwards."""
        ...


class RecordRefused(Exception):
    """The broker permanently refuses one of the records: for example, it is larger than the topic allows."""


class PublisherFenced(Exception):
    """A later publisher of the lane was started, or this one was idle for longer than a transaction may take.

    The database decides whether the lane is still owned; start another publisher only then.
    """


class ForeignTail(TidemillError):
    """The last record of an outbound partition is not the relay's: another program writes to its topics."""

    kind = ErrorCode.FOREIGN_RECORD

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        """Name the record, so that an operator can look at it."""
        super().__init__(
            f"{topic}/{partition} offset {offset} was not written by the relay",
            topic=topic,
            partition=partition,
            offset=offset,
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


class Publishers(Protocol):
    """Makes publishers."""

    def of(self, lane: Lane, accepted: Mapping[str, int] = NOTHING_ACCEPTED) -> LanePublisher:
        """Return a new publisher for a lane, not started.

        `accepted`: topic -> the offset up to which records of another program are not a reason to halt; its tail is
        then the relay's last record before them.
        """
        ...

    async def shortened(self, lanes: Collection[Lane]) -> frozenset[int]:
        """Return the lanes (ids) with a partition that ends before where it ended at an earlier call.

        Its topic was created again, or cut off. Partitions that cannot be asked now are left out. Raises `Unavailable`.
        """
        ...


class PlainOutcome(NamedTuple):
    """The outcome of a command that was applied with one event, in pieces around what is different in each.

    before_place(digits) position before_id command_id after_id varint(offset) varint(position) varint(sequence) instant
    """

    before_place: Callable[[int], bytes]
    before_id: bytes
    after_id: bytes
    instant: bytes


class OutcomeCodec(Protocol):
    """Outcome messages."""

    def plain(self, lane: Lane, item: OutboxItem) -> PlainOutcome | None:
        """Return the pieces of outcomes like that of `item`, with ids as long; None where there are none."""
        ...

    def encode(self, lane: Lane, items: Sequence[OutboxItem]) -> list[bytes]:
        """Return the framed outcome message of each item (those with `item` 0)."""
        ...

    def decode(self, value: bytes) -> Mapping[str, Any]:
        """Return the fields of an outcome message. Raises `Unreadable`."""
        ...
