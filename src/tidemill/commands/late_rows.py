"""Late rows: their span of the table is sealed, archived or restored, and takes no more rows.

They are diverted in their command's own transaction, and archived later, or their commands are refused, as the
table's policy says. Either way the rest of the batch is written as usual.
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
    """Rows of a table by destination. `late`: index in the rows -> start of its closed range.

    Closed ranges may overlap: of several that contain it, this is the one that begins last.
    """

    on_time: list[Row]
    late: dict[int, datetime]


async def split(ranges: ClosedRanges, table: TableShape, rows: Sequence[Row], time_at: int) -> SplitRows:
    """Ask which of `rows` (at least one) are late, by their column number `time_at`."""
    times = [row[time_at] for row in rows]
    closed = await ranges.closed_ranges(table, min(times), max(times))
    if not closed:
        return SplitRows(list(rows), {})
    spans = Ranges((each.start, each.end, each.start) for each in closed)
    found = {index: next(spans.at(time), None) for index, time in enumerate(times)}
    late = {index: start for index, start in found.items() if start is not None}
    return SplitRows([row for index, row in enumerate(rows) if index not in late], late)


def range_closed(start: datetime) -> Rejected:
    """Refuse a command whose row is late."""
    return Rejected(
        RejectionCode.RANGE_CLOSED,
        f"the table no longer takes rows of the span that begins at {start:%Y-%m-%d %H:%M} UTC: "
        "it is archived, or is being archived",
    )
