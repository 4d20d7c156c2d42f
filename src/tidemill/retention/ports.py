"""The ports of retention: the registry and the rows, in one transaction; and readers of the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tidemill.domain.archive.messages import ArchivalEvent
from tidemill.domain.archive.slices import LakeColumn, Measured, Refusal, SealMode, SliceId
from tidemill.domain.errors import TransientError
from tidemill.domain.lane import Claim
from tidemill.retention.planner import Facts
from tidemill.retention.slices import CopyLocation, Hold, Slice
from tidemill.retention.timescale_jobs import ContinuousAggregate
from tidemill.retention.transition_table import Transition


class Overtaken(TransientError):
    """A slice changed since the step was made: read it again."""


class Busy(TransientError):
    """The rows are in use, and the wait is short: try again later."""


class RequestedSlices(Protocol):
    """The slices of requests, in the transaction of the batch that brings what archivers answer."""

    async def of_event(self, event_id: str) -> list[Slice]:
        """Return the slices that have this request, or had it under an earlier seal."""
        ...

    async def store(self, step: Transition) -> None:
        """Store a step and its row of the trail. Raises `Overtaken` if the slice is not what it was."""
        ...


class ArchiveWork(Protocol):
    """One transaction under the archive's lane. What raises inside rolls all of it back."""

    @property
    def at(self) -> datetime:
        """The server's time."""
        ...

    async def slice(self, slice_id: SliceId) -> Slice | None:
        """Return a slice as it is now, None if the registry does not have it."""
        ...

    async def of_table(self, table: str) -> list[Slice]:
        """Return all slices of a table, oldest range first."""
        ...

    async def of_event(self, event_id: str) -> list[Slice]:
        """Return the slices that have this request, or had it under an earlier seal."""
        ...

    async def dropped_under(self, event_id: str) -> frozenset[SliceId]:
        """Return the slices that were dropped while this was their request, whatever happened since."""
        ...

    async def of_range(self, table: str, start: datetime) -> list[Slice]:
        """Return all generations of a range."""
        ...

    async def holds(self, table: str) -> list[Hold]:
        """Return the holds of a table."""
        ...

    async def add_hold(self, hold: Hold) -> None:
        """Store a hold."""
        ...

    async def remove_holds(self, table: str, start: datetime | None, end: datetime | None) -> list[Hold]:
        """Remove the holds within a span (None: without bound); return them."""
        ...

    async def store(self, step: Transition) -> None:
        """Store a step and its row of the trail; freeze or thaw the chunk with it, where the database can.

        Raises:
            Overtaken: the slice was changed.
            Busy: writers of a chunk that is to be frozen do not end.
        """
        ...

    def announce(self, event: ArchivalEvent) -> None:
        """Publish an event if and only if the transaction commits."""
        ...

    async def await_writers(self, archive_slice: Slice) -> None:
        """Wait for the writers of the slice's rows, without keeping the lock. Raises `Busy`, `Gone`."""
        ...

    async def lock_ranges(self, table: str) -> None:
        """Keep batches out until the transaction ends. Raises `Busy`."""
        ...

    async def lock_rows(self, archive_slice: Slice) -> None:
        """Lock the slice's rows against changes; readers pass. Raises `Busy`, `Gone`."""
        ...

    async def note_writes(self, table: str, before: datetime) -> None:
        """Note which chunks that end by `before` were written to since the last call: their quiet period restarts.

        A chunk that is found for the first time counts as written to just now.
        """
        ...

    async def measure(self, archive_slice: Slice, time_column: str) -> Measured:
        """Measure the slice's rows as this transaction sees them."""
        ...

    async def drop_rows(self, archive_slice: Slice) -> None:
        """Drop the slice's rows: exactly its chunk, or its late rows. Raises `Busy` when readers do not end."""
        ...

    async def adopt_late(self, archive_slice: Slice) -> int:
        """Assign all late rows of the range without a slice to this one; return how many."""
        ...

    async def return_late(self, archive_slice: Slice) -> int:
        """Return late rows to the table when the slice has opened; return how many went into the table.

        If it refuses one, none moves: they stay late, and leave as a separate slice.
        """
        ...

    async def views(self, table: str) -> list[ContinuousAggregate]:
        """Return the continuous aggregates over a table, as they are now."""
        ...

    async def late_unfit(self, table: str) -> str | None:
        """Return why late rows of a table could not be stored unchanged, and what to do; None if they can."""
        ...


class Gone(TransientError):
    """The slice's rows are not where the registry says: another program dropped them."""


class ArchiveStore(Protocol):
    """The database of retention. Every call may raise `TransientError`."""

    def transaction(self, claim: Claim) -> AbstractAsyncContextManager[ArchiveWork]:
        """Open a transaction under the archive's lane. Raises `Fenced`."""
        ...

    async def seal_mode(self) -> SealMode:
        """Return what the database does for a sealed chunk."""
        ...

    async def facts(self, table: str) -> Facts:
        """Return all facts of a table."""
        ...

    async def shape(
        self, archive_slice: Slice, bytes_per_s: int | None = None
    ) -> tuple[tuple[LakeColumn, ...], tuple[Refusal, ...]]:
        """Return the columns of a copy, and what a copy cannot hold: by type, and by the present values.

        `bytes_per_s`: the fastest that rows are read; None: as fast as the server can.
        """
        ...

    async def measure(
        self, archive_slice: Slice, time_column: str, bytes_per_s: int | None = None
    ) -> Measured:
        """Measure a sealed slice's rows, from one snapshot, read no faster than that."""
        ...

    def read_sql(self, archive_slice: Slice) -> str:
        """Return the query that gives exactly the rows and columns of the copy."""
        ...


@dataclass(frozen=True, slots=True)
class CopyToVerify:
    """A slice whose copy is to be read back, and its stated location."""

    slice: Slice
    copy: CopyLocation


class CopyReader(Protocol):
    """Reads copies with Tidemill's own credentials, only below allowed roots. Synchronous: call it from a thread."""

    def measure(
        self, wanted: Sequence[CopyToVerify], time_column: str, bytes_per_s: int | None = None
    ) -> Mapping[SliceId, Measured]:
        """Measure the copies of slices of one event that are at the same place, read no faster than `bytes_per_s`.

        Raises:
            CopyError: the copy is missing, damaged, refused, not of these columns, or another request's.
            Unavailable: the lake does not answer.
        """
        ...
