"""Rows that come too late: their span of the table is sealed, archived or brought back, and takes no more.

They are diverted in their command's own transaction, to be archived in turn, or their commands are refused, as the
table's policy says. Either way the rest of the batch goes where it belongs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tidemill.commands.ports import ClosedRanges
from tidemill.domain.archive.ranges import Ranges
from tidemill.domain.decision import Rejected
from tidemill.domain.rejections import RejectionCode
from tidemill.domain.table_shape import TableShape

Row = tuple[Any, ...]


class SplitRows(NamedTuple):
    """Rows of a table by where they go. `late`: index in the rows -> start of the closed range it is for.

    Of several that contain it, for closed ranges may overlap, that is the one that begins last.
    """

    on_time: list[Row]
    late: dict[int, datetime]


async def split(ranges: ClosedRanges, table: TableShape, rows: Sequence[Row], time_at: int) -> SplitRows:
    """Ask which of `rows` (at least one) are too late, by their column number `time_at`."""
    times = [row[time_at] for row in rows]
    closed = await ranges.closed_ranges(table, min(times), max(times))
    if not closed:
        return SplitRows(list(rows), {})
    spans = Ranges((each.start, each.end, each.start) for each in closed)
    found = {index: next(spans.at(time), None) for index, time in enumerate(times)}
    late = {index: start for index, start in found.items() if start is not None}
    return SplitRows([row for index, row in enumerate(rows) if index not in late], late)


def range_closed(start: datetime) -> Rejected:
    """Refuse a command whose row nobody may take any more."""
    return Rejected(
        RejectionCode.RANGE_CLOSED,
        f"the table takes no rows of the span that begins at {start:%Y-%m-%d %H:%M} UTC any more: "
        "it is being archived, or was",
    )
