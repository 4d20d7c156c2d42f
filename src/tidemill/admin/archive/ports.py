"""The ports of an operator's work on the archive, in addition to those of retention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from tidemill.domain.archive.slices import CopyPart, LakeColumn, Measured, SliceId
from tidemill.domain.lane import Claim
from tidemill.retention.planner import ChunkFacts
from tidemill.retention.ports import ArchiveStore, CopyReader, CopyToVerify
from tidemill.retention.slices import CopyLocation, Slice
from tidemill.retention.transition_table import Transition


class ArchiveInspector(ArchiveStore, Protocol):
    """The operator's view of the archive in the database. Every call may raise `TransientError`."""

    async def trail(self, slice_id: SliceId) -> list[dict[str, Any]]:
        """Return what was done to a slice, oldest first."""
        ...

    async def is_connected(self, application_name: str) -> bool:
        """Return whether a process of that name has a connection to this database."""
        ...


class RestoreWork(Protocol):
    """One transaction in which a range comes back. What raises inside rolls all of it back."""

    async def of_range(self, table: str, start: datetime) -> list[Slice]:
        """Return all generations of a range."""
        ...

    async def chunks_of(self, slice_id: SliceId) -> list[ChunkFacts]:
        """Return the chunks that share time with a slice's range, as this transaction sees them."""
        ...

    async def copy_in(
        self, table: str, columns: Sequence[LakeColumn], parts: Iterator[CopyPart], *, read_timeout_s: float
    ) -> None:
        """COPY `parts` into a table; `read_timeout_s` is for each part.

        Raises:
            Unavailable: the lake did not give a part in time. ContractError, DataError: the table refuses a row.
        """
        ...

    async def measure(self, archive_slice: Slice, time_column: str) -> Measured:
        """Measure the slice's rows as this transaction sees them."""
        ...

    async def lock(self, claim: Claim) -> datetime:
        """Lock the archive's lane until the end; return the server's time. Raises `Fenced`."""
        ...

    async def store(self, step: Transition) -> None:
        """Store a step and its row of the trail. Raises `Overtaken` if the slice was changed."""
        ...


class RestoreStore(Protocol):
    """The database, for a range that is restored. Every call may raise `TransientError`."""

    async def column_types(self, table: str) -> Mapping[str, str]:
        """Return the type of each column of `schema.table`. Raises `ContractError` if there is no such table."""
        ...

    def work(self) -> AbstractAsyncContextManager[RestoreWork]:
        """Open a transaction, which locks no lane yet."""
        ...


class ArchivedCopies(CopyReader, Protocol):
    """Copies in the lake, read with Tidemill's own credentials. Synchronous: call it from a thread."""

    def damaged(self, copy: CopyLocation) -> list[str]:
        """Return what is wrong with the files of a copy, empty if they are as they were confirmed."""
        ...

    def parts(self, wanted: CopyToVerify, time_column: str) -> Iterator[CopyPart]:
        """Yield the rows of a slice's copy as COPY takes them. Raises as `measure`, from the first part on."""
        ...


OnRows = Callable[[int], None]
"""Called, from another thread, with the number of further rows."""
