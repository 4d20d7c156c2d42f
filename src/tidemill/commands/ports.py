"""The ports of the intake: bytes made into commands, a place to write, a source of records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from tidemill.commands.rows import LedgerRow, LoggedCommand, LogRow, OutboxRow, ParkedRow
from tidemill.commands.superseded_ports import SupersededOwners, SupersededWork
from tidemill.commands.waits import Newer, Wait
from tidemill.domain.errors import Unreadable
from tidemill.domain.headers import Headers
from tidemill.domain.lane import MAX_AHEAD, Claim, InboundRecord, Progress
from tidemill.domain.messages import EventBase
from tidemill.domain.state import Expiry, Reference, State, Unique
from tidemill.domain.table_shape import TableShape

T = TypeVar("T")
Rows = Sequence[tuple[Any, ...]]

# --- bytes -> commands ---


class Decoded(NamedTuple):
    """One command, read strictly: known schema, whole body consumed, nothing out of range.

    `name`: the reader schema's full name. `fields`: field -> value, logical types applied, by the reader schema.
    `facts`: the canonical Avro bytes after the four base fields, by the reader schema, trailing fields that hold their
    defaults left out (a schema that grew must not change them): what makes two payloads equal.
    `body`: the canonical Avro body by the reader schema, without framing; None where it would have to be encoded.
    `own`: where the fields after the four base fields begin in it; 0 if that is not known.
    """

    name: str
    fields: dict[str, Any]
    facts: bytes
    body: bytes | None
    own: int = 0


class CommandCodec(Protocol):
    """Avro in and out, for one stream."""

    async def prepare(self, values: Sequence[bytes | None]) -> None:
        """Fetch the writer schemas that `decode` will need; raises `Unavailable("registry", ...)` if it cannot ask."""
        ...

    def decode(self, values: Sequence[bytes | None]) -> list[Decoded | Unreadable]:
        """Read each value; what cannot be read becomes an `Unreadable` in its place. Never raises."""
        ...

    def encode_event(self, event: EventBase, command: Decoded | None = None) -> bytes:
        """Return the framed value of an event. `command`: its cause, whose bytes may serve if they say the same."""
        ...

    def appended_event(self, command: Decoded, event: type[EventBase]) -> bytes:
        """Return the framed value of the event that carries the command's own fields (an `append` command's)."""
        ...


# --- where records come from ---


class Assignee(Protocol):
    """Gets the partitions that a source was assigned. Neither call may take long."""

    def assigned(self, partitions: frozenset[int]) -> None:
        """Note the new partitions, which are paused. Runs inside the client's callback: no waiting, no I/O."""
        ...

    async def revoked(self, partitions: frozenset[int]) -> None:
        """Stop taking records of `partitions`; may wait for a batch in flight, at most a few seconds."""
        ...


class CommandSource(Protocol):
    """The command topic of one stream, read as a member of its consumer group."""

    async def start(self, assignee: Assignee) -> None:
        """Join the group; every partition that is assigned starts paused. Raises `Unavailable`."""
        ...

    async def poll(self) -> Mapping[int, Sequence[InboundRecord]]:
        """Return new records, by partition; waits a moment for some. Call it in a loop, also when all is paused.

        Raises `Unfetchable` for a partition whose next batch cannot be unpacked, `OffsetOutOfRange` for a position that
        the topic does not have; other partitions continue at the next call.
        """
        ...

    def resume_at(self, offsets: Mapping[int, int]) -> None:
        """Seek each partition to its offset and let it flow. Partitions that are not assigned any more are ignored."""
        ...

    def pause(self, partitions: frozenset[int]) -> None:
        """Hold partitions back (a full queue, a halted lane); their membership is kept."""
        ...

    def resume(self, partitions: frozenset[int]) -> None:
        """Let partitions flow again from where they are."""
        ...

    def wake(self) -> None:
        """Let a poll that waits return now: with nothing, if nothing has come."""
        ...

    async def partitions(self) -> int:
        """Return how many partitions the topic has. Raises `Unavailable`."""
        ...

    async def bounds(self, partitions: frozenset[int]) -> Mapping[int, tuple[int, int]]:
        """Return partition -> (first offset, end offset), read_committed. Raises `Unavailable`."""
        ...

    async def records_at(
        self, offsets: Mapping[int, int], of: Callable[[InboundRecord], T]
    ) -> Mapping[int, T | None]:
        """Return `of` each record at these offsets, None where there is none. Raises `Unavailable`.

        The records themselves are not kept: there may be many megabytes in each partition.
        """
        ...

    async def note(self, offsets: Mapping[int, int]) -> None:
        """Commit next offsets to the group: a hint for lag tools, whose loss is harmless. Never raises."""
        ...

    async def close(self, *, hurried: bool = False) -> None:
        """Leave the group within a deadline, also with an unavailable broker; `hurried`: within half of it."""
        ...


class PartitionError(Exception):
    """A condition of one partition that its lane's owner must handle."""

    def __init__(self, partition: int, offset: int, detail: str) -> None:
        """`offset` is the position at which the partition is stuck."""
        super().__init__(f"partition {partition} at offset {offset}: {detail}")
        self.partition = partition
        self.offset = offset
        self.detail = detail


class Unfetchable(PartitionError):
    """The client cannot unpack the Kafka batch at `offset`."""


class OffsetOutOfRange(PartitionError):
    """The topic does not have `offset`."""


# --- where a batch is written ---


@dataclass(frozen=True, slots=True)
class Locked:
    """The state while the batch locks its lanes: the open generation, the server's clock, each lane's progress.

    `now` is for comparisons: a wall clock, which may have been wrong a moment ago. What is stored and published gets
    the time `at` its lane, so that an event and the state after it have the same.
    """

    gen: int
    now: datetime
    progress: Mapping[int, Progress]

    def at(self, lane_id: int) -> datetime:
        """Return the time of a lane's next batch: not before its last one, where a clock was set back a little."""
        before = self.progress[lane_id].at
        return before if self.now < before <= self.now + MAX_AHEAD else self.now

    def ahead(self) -> dict[int, timedelta]:
        """Return lane -> how far its last batch is ahead of the clock, where one of the two is, or was, wrong."""
        limit = self.now + MAX_AHEAD
        return {lane_id: each.at - self.now for lane_id, each in self.progress.items() if each.at > limit}


class ClosedRange(NamedTuple):
    """A span of a table that takes no more rows, `start <= time < end`: sealed, dropped or restored."""

    start: datetime
    end: datetime


class ClosedRanges(Protocol):
    """The ranges that the archive has closed. They do not change between the question and the end of the batch."""

    async def closed_ranges(self, table: TableShape, first: datetime, last: datetime) -> list[ClosedRange]:
        """Share the table's lock until the transaction ends; return what is closed of `first`..`last`, ascending."""
        ...

    async def divert(
        self, table: TableShape, columns: Sequence[str], rows: Rows, starts: Sequence[datetime]
    ) -> None:
        """COPY late rows to the table where they wait for their archival; `starts`: of each one's range."""
        ...


class SharedTransaction(Protocol):
    """A batch's transaction, for work that runs on the engine as its client, and is no context."""

    def join(self, open_port: Callable[[Any], T]) -> T:
        """Return what the client's adapter makes of it: what is written through that happens if the batch commits."""


class UnitOfWork(ClosedRanges, SharedTransaction, SupersededWork, Protocol):
    """One transaction over a set of lanes. Everything raised inside rolls all of it back.

    Every call may raise `TransientError` (deadlock, time-out, server unavailable) or `DataError` (a value was refused).
    """

    async def lock(self, claims: Sequence[Claim]) -> Locked:
        """Lock the lanes in ascending order, check their epochs, read their progress. Raises `Fenced`."""
        ...

    async def demand_going(self, claim: Claim) -> None:
        """Make sure, after `lock`, that the lane may be written to beside its records.

        Raises `LaneHalted`, or `NotCompared` if it was not `compared` under its present epoch.
        """
        ...

    async def find(self, ids: Sequence[str], *, open_too: bool) -> dict[str, LoggedCommand]:
        """Return what the log holds of `ids`: closed generations always, the open one if `open_too`."""
        ...

    async def append(self, table: TableShape, columns: Sequence[str], rows: Rows) -> None:
        """COPY rows into a table of a context."""
        ...

    async def load(self, state: State, keys: Sequence[str]) -> dict[str, Any]:
        """Return key -> state for the keys that exist."""
        ...

    async def owners(
        self, state: State, unique: Unique, values: Sequence[tuple[Any, ...]]
    ) -> dict[tuple[Any, ...], str]:
        """Return value -> key of the aggregate that holds it, for the values that are held."""
        ...

    async def in_force(self, state: State, keys: Sequence[str]) -> set[str]:
        """Return those of `keys` whose rows are in force, which nobody deletes until the transaction ends.

        Raises `TransientError` if one was deleted meanwhile: redo the batch.
        """
        ...

    async def referred_to(
        self, state: State, child: State, reference: Reference, keys: Sequence[str]
    ) -> set[str]:
        """Return those of `keys` to which a row of `child` in force refers, with the rows of `state` locked.

        So nobody begins to refer to one of them before the transaction ends.
        """
        ...

    async def replace(self, state: State, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Write rows set-wise: key -> the row that was loaded, for those that existed; key -> the row after the batch.

        Raises `TransientError` if a row changed meanwhile or a unique value was taken by another lane: redo the batch.
        """
        ...

    async def log(self, rows: Sequence[LogRow]) -> None:
        """COPY log rows. Raises `RepeatedIds` if the open generation already has one of the ids."""
        ...

    async def park(self, rows: Sequence[ParkedRow]) -> None:
        """Store unreadable records unchanged."""
        ...

    async def send(self, rows: Sequence[OutboxRow]) -> None:
        """COPY outbox rows."""
        ...

    async def append_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Append to the ledger, then check again whether the generation is still open. Raises `GenerationClosed`."""
        ...


class CommandStore(SupersededOwners, Protocol):
    """The database of the intake."""

    async def claim(self, aggregate: str, partitions: Sequence[int], owner: str) -> list[Claim]:
        """Raise the epochs of the lanes and return the claims; ends a backend that blocks for more than 2 s.

        Halted lanes are claimed too; ask `halted`. Raises `Unavailable`, `ContractError` (lanes were never created).
        """
        ...

    async def compared(self, claims: Sequence[Claim], *, idle: Collection[int] = ()) -> None:
        """Note that lanes were compared with their topics under these claims; a lost claim changes nothing.

        `idle`: ids of lanes without a record to consume: if such a claim ends without progress, no record ended it, and
        it is not counted.
        """
        ...

    async def release(self, claims: Sequence[Claim]) -> None:
        """Release lanes after a clean stop, so that the next claim does not count as one without progress."""
        ...

    async def halted(self, lanes: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return lane -> (code, detail) of the lanes that are halted."""
        ...

    async def halt(self, claim: Claim, code: str, detail: str) -> None:
        """Record that a lane is halted, unless the claim was lost meanwhile."""
        ...

    async def count_attempt(self, claim: Claim, offset: int) -> int:
        """Count, durably and before the attempt, that the record at `offset` is tried alone; return the count."""
        ...

    async def forget_attempts(self, claim: Claim) -> None:
        """Let the next attempt on a record of the lane be the first one, unless the claim was lost meanwhile."""
        ...

    async def wait(self, claim: Claim, newer: Newer, at_most: timedelta) -> Wait:
        """Start or continue a wait before a command, durably; `at_most` in all.

        Returns the lane's wait: one that is over parks the command (`next_wait` decides). An isolated attempt on it
        is not counted any more, since it did no harm. Raises `Fenced`.
        """
        ...

    async def waiting(self, lanes: Sequence[int]) -> frozenset[int]:
        """Return those of `lanes` whose wait is not over."""
        ...

    def headers_text(self, headers: Headers) -> str:
        """Return headers as `ParkedRow` has them. Asks nobody; takes some 2 us a header."""
        ...

    async def expired(
        self, state: State, ending: Expiry, after: tuple[datetime, str], limit: int
    ) -> list[tuple[datetime, str]]:
        """Return (time, key) of rows that are not deleted and whose time is over, in that order; the next `limit`."""
        ...

    def unit_of_work(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a transaction; leaving the block commits. Raises `CommitUnknown` if the answer to COMMIT is lost."""
        ...


# --- after the commit ---


class Reply(NamedTuple):
    """A reply to a command that asked for one: headers `kafka_replyTopic`, `kafka_correlationId` of the command."""

    topic: str
    correlation: bytes | None
    partition: int | None
    row: OutboxRow


class Replies(Protocol):
    """Sends replies, best effort. The outcome topic is authoritative."""

    def send(self, replies: Sequence[Reply]) -> None:
        """Queue replies; never waits, never raises, drops when it is full."""
        ...


class LaneFollower(Protocol):
    """What follows a lane beside the intake: its relay, which needs the same claim."""

    async def take(self, claims: Sequence[Claim]) -> None:
        """Follow these claims from now on."""
        ...

    def begun(self, lanes: Sequence[int]) -> None:
        """Say that lanes (ids) flow from now on: they were compared, and that is noted."""
        ...

    async def compared(self, lane_id: int) -> None:
        """Return when a lane's (id) topics were compared with its log (a mismatch halts it), or it was dropped."""
        ...

    async def drop(self, lanes: Sequence[int]) -> None:
        """Release lanes (ids) within a few seconds."""
        ...

    def wake(self, lanes: Sequence[int]) -> None:
        """Say that something was committed in lanes (ids)."""
        ...
