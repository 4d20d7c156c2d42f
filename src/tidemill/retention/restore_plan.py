"""What can be restored from the lake, and what prevents it: range by range. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tidemill.domain.archive.ranges import Ranges
from tidemill.domain.archive.slices import ArchiveState, LakeColumn, SliceId
from tidemill.retention.explanations import moment
from tidemill.retention.planner import Facts
from tidemill.retention.slices import Slice, overlaps

_S = ArchiveState


@dataclass(frozen=True, slots=True)
class RestorableRange:
    """A range to be restored, with all its generations. `refused`: why it cannot, and what to do."""

    table: str
    start: datetime
    end: datetime
    slices: tuple[Slice, ...]
    refused: str | None = None

    @property
    def row_count(self) -> int:
        """Return how many rows are restored."""
        return sum(each.verified.found.row_count for each in self.slices if each.verified)

    @property
    def size_bytes(self) -> int:
        """Return how many bytes are read from the lake; 0 if the archiver did not report it."""
        return sum(
            file.size_bytes for each in self.slices if each.verified for file in each.verified.copy.files
        )

    @property
    def files(self) -> int:
        """Return how many files are read; 0 if the archiver did not report it."""
        return sum(len(each.verified.copy.files) for each in self.slices if each.verified)


def ranges_back(facts: Facts, first: datetime, last: datetime) -> list[RestorableRange]:
    """Return the archived ranges of a table that overlap `first <= time < last`, oldest first."""
    by_range: dict[tuple[datetime, datetime], list[Slice]] = {}
    for archive_slice in sorted(facts.slices, key=lambda each: each.id):
        if archive_slice.id.end > first and archive_slice.id.start < last:
            by_range.setdefault((archive_slice.id.start, archive_slice.id.end), []).append(archive_slice)
    around = Ranges((each.id.start, each.id.end, each) for each in facts.slices)
    return [
        _back(facts, slices, around)
        for slices in by_range.values()
        if any(each.stage in {_S.DROPPED, _S.RESTORED} for each in slices)
    ]


def _back(facts: Facts, slices: list[Slice], around: Ranges[Slice]) -> RestorableRange:
    archive_slice = slices[0].id
    dropped = tuple(each for each in slices if each.state is _S.DROPPED)
    others = sorted(around.sharing(archive_slice.start, archive_slice.end), key=lambda each: each.id)
    return RestorableRange(
        archive_slice.table,
        archive_slice.start,
        archive_slice.end,
        dropped,
        _obstacle(facts, archive_slice, others, dropped),
    )


def _obstacle(facts: Facts, slice_id: SliceId, slices: list[Slice], dropped: tuple[Slice, ...]) -> str | None:
    """Return what prevents restoring a range; `slices`: all that overlap it, its own included."""
    for each in slices:
        own = (each.id.start, each.id.end) == (slice_id.start, slice_id.end)
        if each.stage is _S.RESTORED:
            called = "it" if own else f"{each.id}, which overlaps it,"
            return f"{called} is restored already, until {moment(each.restore_until)}"
        if each.is_closed and each.state is not _S.DROPPED:
            called = f"its generation {each.id.generation}" if own else f"{each.id}, which overlaps it,"
            asked = f"tidemill retention why-not-dropped {each.id.table} {each.id.start.isoformat()}"
            return f"{called} is {each.state}: wait until that is over; `{asked}` shows what it waits for"
    chunk = next((chunk for chunk in facts.chunks if overlaps(slice_id, chunk.start, chunk.end)), None)
    if chunk is not None:
        return (
            f"an external writer has written rows into it since it was dropped: chunk {chunk.chunk}. They leave as its "
            "next generation; restore the range after that, or delete the rows and drop the chunk by hand"
        )
    if not any(each.verified and each.verified.found.row_count for each in dropped):
        return "it has no rows"
    if len({each.columns for each in dropped}) > 1:
        return (
            "the table's columns changed between its generations, so that their rows cannot be verified together: "
            "read the copies from the lake"
        )
    return None


@dataclass(frozen=True, slots=True)
class Alterations:
    """The differences between a table's columns and those of a copy. `retyped`: with both types."""

    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def between(cls, copied: Sequence[LakeColumn], now: Mapping[str, str]) -> Alterations:
        """`now`: the table's columns with their types, as PostgreSQL writes them."""
        was = {column.name: column.pg_type for column in copied}
        return cls(
            gone=tuple(name for name in was if name not in now),
            new=tuple(name for name in now if name not in was),
            retyped=tuple(
                (name, was[name], now[name]) for name in was if now.get(name, was[name]) != was[name]
            ),
        )

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.gone or self.new or self.retyped)

    def __str__(self) -> str:
        """Return the differences, and what to do while rows are restored."""
        differences = [f"it no longer has {name} (add it again, or rename it back)" for name in self.gone]
        differences += [
            f"{name} is new (restored rows have no value for it: drop its default or NOT NULL)"
            for name in self.new
        ]
        differences += [
            f"{name} was {before}, and is now {after} (change it back)"
            for name, before, after in self.retyped
        ]
        return (
            f"the table has other columns than the copy, which is intact: {'; '.join(differences)}. Do so while you "
            "restore, or read the copy from the lake; nothing was changed"
        )
