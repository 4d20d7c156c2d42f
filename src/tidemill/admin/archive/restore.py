"""Restoring ranges from the lake, verified against what left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from tidemill.admin.archive.access import OpenAccess, operator
from tidemill.admin.archive.ports import ArchivedCopies, OnRows, RestoreStore, RestoreWork
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState, CopyPart, Source
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import ContractError, CopyError, DataError, TidemillError, UsageError
from tidemill.domain.lane import Claim
from tidemill.retention import operator_transitions
from tidemill.retention.ports import CopyToVerify, Overtaken
from tidemill.retention.restore_plan import Alterations, RestorableRange, ranges_back
from tidemill.retention.slices import Slice
from tidemill.retention.transition_table import TransitionRefused
from tidemill.retention.worker import READ_TIMEOUT_S
from tidemill.runtime.threads import in_thread

T = TypeVar("T")

OpenCopies = Callable[[], Awaitable[ArchivedCopies]]
"""Opens the lake for reading. May raise `UsageError`."""


@dataclass(frozen=True)
class Restored:
    """The result for a range. `chunk` and `until`: None if it was not restored, then `trouble` says why."""

    table: str
    start: datetime
    end: datetime
    row_count: int
    chunk: str | None = None
    until: datetime | None = None
    trouble: str | None = None


@dataclass(frozen=True)
class ArchiveRestore:
    """Restores archived ranges."""

    open_access: OpenAccess
    open_copies: OpenCopies
    read_timeout_s: float

    async def restorable(self, table: str, first: datetime, last: datetime) -> list[RestorableRange]:
        """Return what a restore of that span would do.

        Raises:
            UsageError: nothing of that span was archived.
        """
        if last <= first:
            raise UsageError("--to must be later than --from")
        async with self.open_access() as access:
            name = access.policy(table).table_name
            found = ranges_back(await access.store.facts(name), first, last)
        if not found:
            raise UsageError(
                f"nothing of {name} in that span was archived", code=ErrorCode.UNKNOWN_SLICE, table=name
            )
        return found

    async def restore(
        self, ranges: Sequence[RestorableRange], keep: timedelta, on_rows: OnRows
    ) -> list[Restored]:
        """Restore ranges one by one, each in its own transaction; a failed one does not stop the others."""
        copies, who = await self.open_copies(), operator("restore").who
        async with self.open_access() as access:
            restorer = Restorer(access.restores, copies, access.claim, who, self.read_timeout_s)
            restored = []
            for back in ranges:
                try:
                    restored.append(await restorer.bring(access.policy(back.table), back, keep, on_rows))
                except TidemillError as error:
                    restored.append(
                        Restored(back.table, back.start, back.end, back.row_count, trouble=str(error))
                    )
        return restored


class _NotWhatLeft(UsageError):
    """The restored rows are not those that left."""


class Restorer:
    """Restores ranges. `claim` gives the present claim of the archive's lane."""

    def __init__(
        self,
        store: RestoreStore,
        copies: ArchivedCopies,
        claim: Callable[[], Awaitable[Claim]],
        who: str,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """`store`: of a login that may write to the table and to the registry."""
        self._store = store
        self._copies = copies
        self._claim = claim
        self._who = who
        self._read_timeout_s = read_timeout_s

    async def bring(
        self, policy: Retention, back: RestorableRange, keep: timedelta, on_rows: OnRows
    ) -> Restored:
        """COPY a range's rows into the table, verify that they are those that left, and mark them, in one transaction.

        Batches divert rows of the range before, during and after this, so they need not be locked out.

        Raises:
            UsageError: it cannot be restored, or the restored rows are not those that left; nothing was changed.
            CopyError: a file is missing or damaged; nothing was changed.
            DataError: the table refuses a row; nothing was changed.
            TransientError: another transaction interfered; nothing was changed.
        """
        if back.refused is not None:
            raise UsageError(back.refused)
        wanted = [CopyToVerify(each, each.verified.copy) for each in back.slices if each.verified is not None]
        now = await self._store.column_types(back.table)
        altered = Alterations.between(wanted[0].slice.columns, now)
        if altered.gone:
            raise UsageError(str(altered))
        await self._demand_whole(wanted)
        try:
            return await self._brought(policy, back, wanted, keep, on_rows)
        except (ContractError, DataError, _NotWhatLeft) as error:
            if altered:
                raise UsageError(str(altered)) from error
            raise

    async def _brought(
        self,
        policy: Retention,
        back: RestorableRange,
        wanted: Sequence[CopyToVerify],
        keep: timedelta,
        on_rows: OnRows,
    ) -> Restored:
        async with self._store.work() as rows:
            await _unchanged(rows, back)  # and once more under the lane's lock
            await _demand_room(rows, back)
            for each in wanted:
                opened = await self._read(partial(self._copies.parts, each, policy.time_column))
                parts, read_s = _counted(opened, on_rows), self._read_timeout_s
                await rows.copy_in(back.table, each.slice.columns, parts, read_timeout_s=read_s)
            chunk = await _only_chunk(rows, back)
            there = replace(back.slices[0], source=Source.CHUNK, chunk=chunk)
            found = await rows.measure(there, policy.time_column)
            now = await rows.lock(await self._claim())  # now: the lane continues while rows are copied
            until = now + keep
            for archive_slice in await _unchanged(rows, back):
                beside = [each for each in back.slices if each.id != archive_slice.id]
                moved = operator_transitions.restore(
                    archive_slice, now, found=found, until=until, chunk=chunk, who=self._who, beside=beside
                )
                if isinstance(moved, TransitionRefused):
                    raise _NotWhatLeft(f"{moved.message}; nothing was changed")
                await rows.store(moved)
        return Restored(back.table, back.start, back.end, found.row_count, chunk, until)

    async def _demand_whole(self, wanted: Sequence[CopyToVerify]) -> None:
        """Check every file before the first row moves."""
        for each in wanted:
            wrong = await self._read(partial(self._copies.damaged, each.copy))
            if wrong:
                raise CopyError(each.copy.location or each.copy.files[0].path, "; ".join(wrong))

    async def _read(self, work: Callable[[], T]) -> T:
        return await in_thread(work, server="lake", timeout_s=self._read_timeout_s)


def _counted(parts: Iterator[CopyPart], on_rows: OnRows) -> Iterator[CopyPart]:
    for part in parts:
        yield part
        on_rows(part.row_count)


async def _demand_room(rows: RestoreWork, back: RestorableRange) -> None:
    """Refuse if rows of the range would go into another range's chunk, which may be sealed, and frozen."""
    slice_id = back.slices[0].id
    others = [
        each
        for each in await rows.chunks_of(slice_id)
        if (each.start, each.end) != (slice_id.start, slice_id.end)
    ]
    if others:
        there = ", ".join(f"{each.start.isoformat()} .. {each.end.isoformat()}" for each in others)
        raise UsageError(
            f"the range {slice_id.start.isoformat()} .. {slice_id.end.isoformat()} would go into an existing "
            f"chunk: {there}. Restore it after that chunk has left (`tidemill retention status {back.table}`), or read "
            "the copy from the lake; nothing was changed"
        )


async def _only_chunk(rows: RestoreWork, back: RestorableRange) -> str:
    """Return the chunk that the rows created. It must equal the range, because it leaves as a whole."""
    slice_id = back.slices[0].id
    chunks = await rows.chunks_of(slice_id)
    if [(each.start, each.end) for each in chunks] == [(slice_id.start, slice_id.end)]:
        return chunks[0].chunk
    if len({(each.start, each.end) for each in chunks}) < len(chunks):
        raise UsageError(
            f"{back.table} has a second partitioning column: the range {slice_id.start.isoformat()} "
            "would come back as several chunks, which is not supported. Read the copy from the lake; nothing was "
            "changed"
        )
    made = ", ".join(f"{each.start.isoformat()} .. {each.end.isoformat()}" for each in chunks)
    days = (slice_id.end - slice_id.start) / timedelta(days=1)
    raise UsageError(
        f"the range {slice_id.start.isoformat()} .. {slice_id.end.isoformat()} would come back as {made}: the table's "
        f"chunk interval was changed since. Set it to {days:g} days while you restore (set_chunk_time_interval), or "
        "read the copy from the lake; nothing was changed"
    )


async def _unchanged(rows: RestoreWork, back: RestorableRange) -> list[Slice]:
    """Return the range's slices as they are now. Raises `Overtaken` if they are not what was planned for."""
    now = [each for each in await rows.of_range(back.table, back.start) if each.id.end == back.end]
    dropped = [each for each in now if each.state is ArchiveState.DROPPED]
    if dropped != list(back.slices) or any(each.stage is ArchiveState.RESTORED for each in now):
        raise Overtaken(f"the range {back.start.isoformat()} of {back.table} changed meanwhile: try again")
    return dropped
