"""The chunks of a hypertable in memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from tidemill.commands.ports import ClosedRange
from tidemill.commands.superseded_ports import TablePart
from tidemill.domain.table_shape import TableShape, leading_time

_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_CHUNK = timedelta(days=180)


def chunk_start(time: datetime) -> datetime:
    """Return when the chunk begins that has an instant."""
    return _FIRST + (time - _FIRST) // _CHUNK * _CHUNK


def parts_of(table: TableShape, rows: Iterable[tuple[Any, ...]]) -> list[TablePart]:
    """Return the chunks that have these rows, oldest first; the table itself if it has no time."""
    if leading_time(table) is None:
        return [TablePart(table.name)]
    starts = sorted({chunk_start(row[0]) for row in rows})
    return [TablePart(f"{table.name} {start}", start, start + _CHUNK) for start in starts]


def overlaps_one(part: TablePart, ranges: Iterable[ClosedRange]) -> bool:
    """Tell whether a part shares time with a range."""
    if part.start is None or part.end is None:
        return False
    return any(each.start < part.end and each.end > part.start for each in ranges)
