"""The ports of the archiver: its requests, its answers, rows to read, a lake to write to.

Requests and answers are asynchronous; reader and lake are synchronous and are called from a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent
from tidemill.domain.archive.slices import LakeColumn, LakeFile, LakePlace, Measured, SliceId
from tidemill.domain.errors import Unreadable


class Incoming(NamedTuple):
    """A record of the event topic and its content; for an unreadable one, the reason."""

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

        Membership is kept meanwhile, however long the caller works on a record.
        """
        ...

    def ours(self, incoming: Incoming) -> bool:
        """Tell whether this member may still answer the record: its partition was not assigned to another one."""
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
            UsageError: the topic does not take a record of that size.
        """
        ...

    async def close(self) -> None:
        """End within a deadline; nothing is delivered afterwards."""
        ...


class Batch(Protocol):
    """Some rows; the archiver knows only their size in memory."""

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
            Unavailable: the database is or became unavailable.
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
        """The measurement of its rows."""
        ...

    @property
    def files(self) -> tuple[LakeFile, ...]:
        """The files that hold them, and no other rows."""
        ...


class Lake(Protocol):
    """Where copies go. All names are derived from slice and event, so that repeated work leaves one copy.

    Every call may raise `Unavailable`; then nothing is known about what it did.
    """

    def find(self, slice_: SliceId, event_id: str) -> WrittenCopy | None:
        """Return the complete copy for this event, whatever rows it has.

        Raises `CopyError` if it cannot be identified: `write` replaces it.
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
        """Write one copy, or return the complete one of the same rows that exists. Replaces an incomplete one.

        `demand` is called before anything is in place: what it raises, and what raises inside `batches`, leaves all
        unchanged.

        Raises:
            ValueError: rows that this lake cannot hold exactly.
            CopyStands: there is a copy of other rows; it is unchanged.
        """
        ...

    def publish(
        self, table: str, event_id: str, copies: Mapping[SliceId, WrittenCopy], superseded: Sequence[str]
    ) -> LakePlace:
        """Make complete copies visible to readers of the table; idempotent.

        `superseded`: earlier events of which copies of *these* slices, and of no others, become invisible.
        """
        ...
