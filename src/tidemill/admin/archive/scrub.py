"""Checking copies: each is read again, and compared with the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tidemill.admin.archive.access import ArchiveAccess, OpenAccess
from tidemill.admin.archive.ports import ArchivedCopies
from tidemill.admin.archive.restore import OpenCopies
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState, SliceId
from tidemill.domain.errors import CopyError
from tidemill.retention.ports import CopyToVerify
from tidemill.retention.slices import Slice
from tidemill.retention.transition_table import difference
from tidemill.runtime.threads import in_thread


@dataclass(frozen=True)
class Scrubbed:
    """A copy that was read again, and all that is wrong with it."""

    slice: SliceId
    event_id: str
    files: int
    size_bytes: int
    row_count: int
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class CopyScrub:
    """Reads copies again."""

    open_access: OpenAccess
    open_copies: OpenCopies
    read_timeout_s: float

    async def scrub(self, table: str | None, on_progress: Callable[[int, int], None]) -> list[Scrubbed]:
        """Read all copies of what left the database again: files by size and sha256, rows by count, times and digest.

        Raises:
            Unavailable: the lake does not answer.
        """
        copies = await self.open_copies()
        async with self.open_access() as access:
            todo = [
                (policy, each) for policy in access.chosen(table) for each in await _archived(access, policy)
            ]
        scrubbed: list[Scrubbed] = []
        for policy, archive_slice in todo:
            on_progress(len(scrubbed), len(todo))
            work = partial(scrub_one, copies, archive_slice, policy.time_column)
            scrubbed.append(await in_thread(work, server="lake", timeout_s=self.read_timeout_s))
        on_progress(len(scrubbed), len(todo))
        return scrubbed


async def _archived(access: ArchiveAccess, policy: Retention) -> list[Slice]:
    facts = await access.store.facts(policy.table_name)
    dropped = {ArchiveState.DROPPED, ArchiveState.RESTORED}
    return [each for each in facts.slices if each.stage in dropped and each.verified is not None]


def scrub_one(copies: ArchivedCopies, archive_slice: Slice, time_column: str) -> Scrubbed:
    """Read one slice's copy again. Raises `Unavailable`."""
    assert archive_slice.verified is not None  # only what has a verified copy is dropped
    copy, expected = archive_slice.verified.copy, archive_slice.verified.found
    wrong: list[str] = []
    try:
        wrong = copies.damaged(copy)
        if not wrong:
            found = copies.measure([CopyToVerify(archive_slice, copy)], time_column)[archive_slice.id]
            if found != expected:
                wrong = [difference(expected, found)]
    except CopyError as error:
        wrong = [error.detail]
    size = sum(file.size_bytes for file in copy.files)
    return Scrubbed(archive_slice.id, copy.event_id, len(copy.files), size, expected.row_count, tuple(wrong))
