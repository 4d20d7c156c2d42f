"""The ports of read models: events in order, rows with a checkpoint, and a place to rebuild rows."""

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
from tidemill.projections.event_columns import EventColumns
from tidemill.projections.history import LaneHistory

# --- events ----------------------------------------------------------------------------------------------------------


class EventRecord(NamedTuple):
    """An event record's frame: the part that is checked before its body is decoded."""

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
        """Return the events, in order. Raises `ContractError` for a type or body that this version cannot read."""
        ...

    def decode_columns(
        self, records: Sequence[EventRecord], wanted: Collection[type[EventBase]]
    ) -> EventColumns | None:
        """Return the same events of one lane, at least one, field by field, if they are of one of the wanted classes.

        None if not, or if one of them cannot be read: `decode` says why.
        """
        ...


class ForeignRecord(NamedTuple):
    """A record in the event topic that is not an event: `detail` names the missing header.

    Or the first of a batch that cannot be unpacked, which the relay never writes.
    """

    partition: int
    offset: int
    detail: str


class EventSourceFault(Exception):
    """A partition cannot be read further, and is paused until a `seek`; the others continue."""

    def __init__(self, partition: int, offset: int, detail: str) -> None:
        """`offset` is the position at which the partition is stuck."""
        super().__init__(f"partition {partition} at offset {offset}: {detail}")
        self.partition = partition
        self.offset = offset
        self.detail = detail


class EventsOutOfRange(EventSourceFault):
    """The topic does not have `offset`: it was trimmed, or created again."""


class EventsUnfetchable(EventSourceFault):
    """The record at `offset` cannot be unpacked, and may have been an event: it is damaged."""


class EventSource(Protocol):
    """The event topic of one stream, read_committed, all partitions assigned by hand."""

    async def start(self, offsets: Mapping[int, int]) -> None:
        """Read every partition from its offset (0 where none is given).

        Raises `Unavailable`: close it, then it may be started again.
        """
        ...

    async def poll(self) -> Mapping[int, Sequence[EventRecord]]:
        """Return the records that arrived, by partition, in offset order; waits a moment if none did.

        A batch that a client wrote so that it cannot be unpacked is left out, and is `foreign`.

        Raises `EventSourceFault`; `Unavailable` if the client must be replaced. Cancelling it loses nothing that a
        `seek` does not read again.
        """
        ...

    def foreign(self) -> Sequence[ForeignRecord]:
        """Return what polls have left out since the last call: records that are not events. Some, if there are many."""
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
    """A read model's progress in a lane: the last sequence folded, and the offset after that event's record."""

    sequence: int
    next_offset: int


class CheckpointMove(NamedTuple):
    """A checkpoint's move: it must be at sequence `before`."""

    before: int
    sequence: int
    next_offset: int


class FoldHalt(NamedTuple):
    """Why a read model is halted in a lane: it expects event `expected`. `code` is one of `halts.HALTS`.

    `got`: for a gap, the sequence that came instead; else the event that is next.
    """

    code: str
    expected: int
    got: int
    detail: str


class CheckpointMoved(TransientError):
    """Another process moved a checkpoint, or the rows were swapped: read the checkpoints again, then the events."""


@dataclass(frozen=True, slots=True)
class View:
    """One incarnation of a projection's rows: the live one, or (`live=False`) one that is built beside it."""

    projection: Projection
    incarnation: int
    live: bool = True


class Standing(NamedTuple):
    """A read model with its checkpoint in every lane, and its stored halts."""

    view: View
    checkpoints: Mapping[int, Checkpoint]
    halts: Mapping[int, FoldHalt]


class ViewTransaction(Protocol):
    """One transaction over the rows of one read model and its checkpoints. Every call may raise `TransientError`.

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

        Raises `TransientError` if another process inserted a key meanwhile, `DataError` if a value is refused.
        """
        ...

    async def clear_halts(self, partitions: frozenset[int]) -> None:
        """Delete the halts of lanes that continue."""
        ...


class ViewStore(Protocol):
    """Where read models are stored. Every call may raise `Unavailable`."""

    async def open(self, projection: Projection, aggregate: str, partitions: int) -> Standing:
        """Return the live read model; its first call records the projection with checkpoints at zero.

        Raises `TableMisfit` if its table is not as declared, `ContractError` if it is recorded for another stream.
        """
        ...

    def transaction(self, view: View) -> AbstractAsyncContextManager[ViewTransaction]:
        """Open a transaction; leaving the block commits, an exception rolls back."""
        ...

    async def histories(self, aggregate: str, partitions: Collection[int]) -> Mapping[int, LaneHistory]:
        """Return the log's history of these lanes, as of now; nothing for a lane that does not exist."""
        ...

    async def note_foreign(self, aggregate: str, found: Sequence[ForeignRecord]) -> None:
        """Record that another program wrote into the event topic. The same record is counted once."""
        ...

    async def halt(self, view: View, partition: int, halt: FoldHalt) -> None:
        """Record a halt. The time of an equal one that is recorded already is kept."""
        ...


# --- rows, a second time ---------------------------------------------------------------------------------------------


class RowDifference(NamedTuple):
    """A row that differs between the live read model and its rebuild.

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
    """The connection of the rebuild broke: another process may start one, and this one does nothing more."""

    kind = ErrorCode.REBUILD_LOST

    def __init__(self, projection: Projection, detail: str) -> None:
        """The rows were either swapped completely, or not at all."""
        super().__init__(
            f"the database connection of the rebuild of {projection.name} was lost: {detail}; its rows are whole",
            projection=projection.name,
            detail=detail,
        )


class RebuildTarget(Protocol):
    """A place where one projection's rows are rebuilt. Every call may raise `RebuildTargetLost`."""

    @property
    def view(self) -> View:
        """The read model under construction: no rows, checkpoints at zero."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether the rows must be those of exactly the events that the live ones were made of, and of no later one."""
        ...

    @property
    def corrected(self) -> Comparison | None:
        """What the swap found to differ, and corrected row by row; None if it replaced the table."""
        ...

    async def live(self) -> Mapping[int, Checkpoint]:
        """Return the checkpoints of the live read model."""
        ...

    async def take_snapshot(self) -> Mapping[int, Checkpoint]:
        """Copy the live rows and return their checkpoints, both of one moment."""
        ...

    async def compare(self, examples: int) -> Comparison:
        """Compare the snapshot with the rebuilt rows."""
        ...

    def swap(self) -> AbstractAsyncContextManager[Mapping[int, Checkpoint]]:
        """Lock and return the live read model's checkpoints; leaving the block puts the new rows in place of its own.

        In one transaction, with names, indexes and grants kept; an exception leaves the live read model unchanged.
        Raises `UsageError` if a lane must be attended to first.
        """
        ...


class RebuildTargets(Protocol):
    """Opens rebuild targets."""

    def open(
        self, projection: Projection, aggregate: str, partitions: int, *, lasting: bool
    ) -> AbstractAsyncContextManager[RebuildTarget]:
        """Remove what a crash left, then prepare an empty read model beside the live one.

        Leaving the block removes what was not swapped. `lasting=False`: the rows need not survive a crash.
        Raises `UsageError` if another rebuild of the projection runs or the table cannot be swapped.
        """
        ...
