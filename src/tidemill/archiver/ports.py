"""What the archiver needs from outside: where requests come from, where answers go, rows to read, a lake to write to.

Requests and answers are asynchronous; reader and lake are synchronous and are called from a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent
from tidemill.domain.archive.slices import LakeColumn, LakeFile, LakePlace, Measured, SliceId
from tidemill.domain.errors import Unreadable


class Incoming(NamedTuple):
    """A record of the event topic and what it holds; of what cannot be read, why."""

    partition: int
    offset: int
    event: ArchivalEvent | Unreadable


class Requests(Protocol):
    """The archive's event topic, read as a member of a consumer group: at least once, in order."""

    async def start(self) -> None:
        """Join the group. Raises `Unavailable`."""
        ...

    async def next(self) -> Incoming | None:
        """Return the next record, None if none came within a moment. Raises `Unavailable`: make a new one.

        Membership is kept up meanwhile, however long the caller works on a record.
        """
        ...

    def ours(self, incoming: Incoming) -> bool:
        """Tell whether the record is still this member's to answer: its partition was not given to another one."""
        ...

    async def done(self, incoming: Incoming) -> None:
        """Never deliver this record or an earlier one again. Raises `Unavailable`: it may be delivered again."""
        ...

    async def close(self) -> None:
        """Leave the group, within a deadline."""
        ...


class Confirmations(Protocol):
    """The confirmation topic."""

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        ...

    async def send(self, confirmation: ArchivalConfirmation) -> None:
        """Return when all in-sync replicas have it. May be called again after any exception.

        Raises:
            Unavailable: it may have arrived.
            UsageError: the topic does not take a record as large as that.
        """
        ...

    async def close(self) -> None:
        """End within a deadline; nothing is delivered afterwards."""
        ...


class Batch(Protocol):
    """Some rows, of which the archiver knows only how large they are in memory."""

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        ...


class ChunkReader(Protocol):
    """Reads rows from the database, with a login that may only read."""

    def read(self, read_sql: str, batch_bytes: int | None = None) -> Generator[Batch, None, None]:
        """Yield the rows of a query, of one snapshot, in batches. Close it to end early.

        `batch_bytes`: about how large batches may become; None leaves it to the reader.

        Raises:
            Unavailable: the database is away, or went away.
            ContractError: it refuses the query.
        """
        ...


class WrittenCopy(Protocol):
    """A complete copy of one slice."""

    @property
    def columns(self) -> tuple[LakeColumn, ...]:
        """Its columns, in order."""
        ...

    @property
    def measured(self) -> Measured:
        """What is true of its rows."""
        ...

    @property
    def files(self) -> tuple[LakeFile, ...]:
        """The files that hold them, and no other rows."""
        ...


class Lake(Protocol):
    """Where copies go. All names follow from slice and event, so that work done twice leaves one copy.

    Every call may raise `Unavailable`; then nothing is known about what it did.
    """

    def find(self, slice_: SliceId, event_id: str) -> WrittenCopy | None:
        """Return the complete copy that there is for this event, whatever rows it has.

        Raises `CopyError` if what there is cannot be made out: `write` replaces it.
        """
        ...

    def write(
        self,
        slice_: SliceId,
        event_id: str,
        columns: Sequence[LakeColumn],
        time_column: str,
        batches: Iterable[Batch],
        demand: Callable[[Measured], None] | None = None,
    ) -> WrittenCopy:
        """Write one copy, or return the complete one of the same rows that is there. Replaces what a try left in part.

        `demand` is asked before anything is in place: what it raises, and what raises inside `batches`, leaves all as
        it was.

        Raises:
            ValueError: rows that this lake cannot hold exactly.
            CopyStands: there is a copy of other rows; it is as it was.
        """
        ...

    def publish(
        self, table: str, event_id: str, copies: Mapping[SliceId, WrittenCopy], superseded: Sequence[str]
    ) -> LakePlace:
        """Make complete copies what readers of the table see; repeating it changes nothing.

        `superseded`: earlier events of which copies of *these* slices, and of no others, are to be seen no more.
        """
        ...
