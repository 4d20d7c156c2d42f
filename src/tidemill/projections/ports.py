"""What read models need from the outside: events in order, rows with a checkpoint, and a place to build rows twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import TidemillError, TransientError
from tidemill.domain.messages import EventBase, ReadModelBase
from tidemill.domain.projection import Key, Projection, Recorded
from tidemill.projections.history import LaneHistory

# --- events ----------------------------------------------------------------------------------------------------------


class EventRecord(NamedTuple):
    """An event record's frame: what can be checked before its body is decoded."""

    partition: int
    offset: int
    sequence: int
    at: datetime
    event_type: str
    value: bytes
    key: bytes = b""


class EventCodec(Protocol):
    """Avro events of one stream."""

    async def prepare(self, values: Sequence[bytes]) -> None:
        """Fetch the writer schemas that `decode` will need. Raises `Unavailable`."""
        ...

    def decode(self, records: Sequence[EventRecord]) -> list[Recorded[EventBase]]:
        """Return the events, in order. Raises `ContractError` for a type or body that no class here reads."""
        ...


class ForeignRecord(NamedTuple):
    """A record in the event topic that is no event: `detail` says which header of every event it lacks.

    Or the first of a batch that cannot be unpacked, which the relay never writes.
    """

    partition: int
    offset: int
    detail: str


class EventSourceFault(Exception):
    """A partition cannot be read on from where it is, and is held back until a `seek`; the others go on."""

    def __init__(self, partition: int, offset: int, detail: str) -> None:
        """`offset` is the position at which the partition is stuck."""
        super().__init__(f"partition {partition} at offset {offset}: {detail}")
        self.partition = partition
        self.offset = offset
        self.detail = detail


class EventsOutOfRange(EventSourceFault):
    """The topic does not have `offset`: it was trimmed, or created again."""


class EventsUnfetchable(EventSourceFault):
    """What stands at `offset` cannot be unpacked, and may have been an event: it is damaged."""


class EventSource(Protocol):
    """The event topic of one stream, read_committed, all partitions assigned by hand."""

    async def start(self, offsets: Mapping[int, int]) -> None:
        """Read every partition from its offset (0 where none is given).

        Raises `Unavailable`: close it, then it may be started again.
        """
        ...

    async def poll(self) -> Mapping[int, Sequence[EventRecord]]:
        """Return what arrived, by partition, in offset order; waits a moment if nothing did.

        A batch that a client wrote so that it cannot be unpacked is left out, and is `foreign`.

        Raises `EventSourceFault`; `Unavailable` if the client is broken for good. Cancelling it loses nothing that a
        `seek` does not bring back.
        """
        ...

    def foreign(self) -> Sequence[ForeignRecord]:
        """Return what polls have left out since the last call: records that are no events. Some, if there are many."""
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Go to an offset; the next `poll` returns nothing from before the call."""
        ...

    def pause(self, partitions: frozenset[int]) -> None:
        """Hold partitions back."""
        ...

    def resume(self, partitions: frozenset[int]) -> None:
        """Let partitions flow again."""
        ...

    async def close(self) -> None:
        """End within a deadline."""
        ...


# --- rows ------------------------------------------------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """How far a view is in a lane: the last sequence folded, and the offset behind that event's record."""

    sequence: int
    next_offset: int


class CheckpointMove(NamedTuple):
    """A checkpoint's move: it must stand at sequence `before`."""

    before: int
    sequence: int
    next_offset: int


class FoldHalt(NamedTuple):
    """Why a view does not go on in a lane: it expects event `expected`. `code` is one of `halts.HALTS`.

    `got`: for a gap, the sequence that came instead; else the event that it stands before.
    """

    code: str
    expected: int
    got: int
    detail: str


class CheckpointMoved(TransientError):
    """Somebody else moved a checkpoint, or the rows were swapped: read the checkpoints again, then the events."""


@dataclass(frozen=True, slots=True)
class View:
    """One incarnation of a projection's rows: the live one, or (`live=False`) one that is built beside it."""

    projection: Projection
    incarnation: int
    live: bool = True


class Standing(NamedTuple):
    """A view with its checkpoint in every lane, and the halts that are on record."""

    view: View
    checkpoints: Mapping[int, Checkpoint]
    halts: Mapping[int, FoldHalt]


class ViewTransaction(Protocol):
    """One transaction over the rows of one view and its checkpoints. Every call may raise `TransientError`.

    Those about rows raise `TableMisfit` if their table is not what is declared.
    """

    async def advance(self, steps: Mapping[int, CheckpointMove]) -> None:
        """Move checkpoints by compare-and-set. Comes first: its locks keep others out. Raises `CheckpointMoved`."""
        ...

    async def load(self, keys: Sequence[Key]) -> dict[Key, ReadModelBase]:
        """Return the rows of the keys that exist, locked. `keys` are distinct."""
        ...

    async def write(
        self, new: Sequence[ReadModelBase], changed: Sequence[ReadModelBase], gone: Sequence[Key]
    ) -> None:
        """Insert, update and delete rows set-wise.

        Raises `TransientError` if somebody else inserted a key meanwhile, `DataError` if a value is refused.
        """
        ...

    async def clear_halts(self, partitions: frozenset[int]) -> None:
        """Forget the halts of lanes that go on."""
        ...


class ViewStore(Protocol):
    """Where read models live. Every call may raise `Unavailable`."""

    async def open(self, projection: Projection, aggregate: str, partitions: int) -> Standing:
        """Return the live view; its first call ever records the projection with checkpoints at zero.

        Raises `TableMisfit` if its table is not as declared, `ContractError` if it is on record for another stream.
        """
        ...

    def transaction(self, view: View) -> AbstractAsyncContextManager[ViewTransaction]:
        """Open a transaction; leaving the block commits, an exception rolls back."""
        ...

    async def histories(self, aggregate: str, partitions: Collection[int]) -> Mapping[int, LaneHistory]:
        """Return what the log says of these lanes, as of now; nothing for a lane that there is not."""
        ...

    async def note_foreign(self, aggregate: str, found: Sequence[ForeignRecord]) -> None:
        """Put on record that somebody else wrote into the event topic. The same record is counted once."""
        ...

    async def halt(self, view: View, partition: int, halt: FoldHalt) -> None:
        """Put a halt on record. The time of an equal one that is on record already is kept."""
        ...


# --- rows, a second time ---------------------------------------------------------------------------------------------


class RowDifference(NamedTuple):
    """A row that the live view and its rebuild do not share.

    `key`: its key columns as text. `columns`: column -> (live, rebuilt) as text, None for null, of those that differ;
    empty where one side lacks the row, which `side` then names (`live` or `rebuilt` has it).
    """

    key: tuple[str, ...]
    columns: Mapping[str, tuple[str | None, str | None]]
    side: str | None


class Comparison(NamedTuple):
    """How two sets of rows compare, byte for byte: counts, and the first examples by key."""

    rows: int
    differing: int
    examples: Sequence[RowDifference]


class RebuildTargetLost(TidemillError):
    """The connection that holds the workshop broke: somebody else may open it, and nothing more is done in this one."""

    kind = ErrorCode.REBUILD_LOST

    def __init__(self, projection: Projection, detail: str) -> None:
        """Either the rows were swapped whole, or not at all."""
        super().__init__(
            f"the database connection of the workshop of {projection.name} was lost: {detail}; its rows are whole",
            projection=projection.name,
            detail=detail,
        )


class RebuildTarget(Protocol):
    """A place where one projection's rows are built a second time. Every call may raise `RebuildTargetLost`."""

    @property
    def view(self) -> View:
        """The view under construction: no rows, checkpoints at zero."""
        ...

    async def live(self) -> Mapping[int, Checkpoint]:
        """Return the checkpoints of the live view."""
        ...

    async def take_snapshot(self) -> Mapping[int, Checkpoint]:
        """Copy the live rows and return their checkpoints, both of one moment."""
        ...

    async def compare(self, examples: int) -> Comparison:
        """Compare the snapshot with the rows that were built."""
        ...

    def swap(self) -> AbstractAsyncContextManager[Mapping[int, Checkpoint]]:
        """Hold the live view's checkpoints, which are returned; leaving the block puts the new rows in its place.

        In one transaction, with names, indexes and grants kept; an exception leaves the live view as it was.
        """
        ...


class RebuildTargets(Protocol):
    """Opens workshops."""

    def open(
        self, projection: Projection, aggregate: str, partitions: int, *, lasting: bool
    ) -> AbstractAsyncContextManager[RebuildTarget]:
        """Clear away what a crash left, then prepare an empty view beside the live one.

        Leaving the block removes what was not swapped. `lasting=False`: the rows need not survive a crash.
        Raises `UsageError` if another workshop of the projection is open or the table cannot be swapped.
        """
        ...
