"""Late rows: their span of the table is sealed, archived or restored, and takes no more rows.

They are diverted in their command's own transaction, and archived later, or their commands are refused, as the
table's policy says. Either way the rest of the batch is written as usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


async def late_among(
    ranges: ClosedRanges, table: TableShape, times: Sequence[datetime]
) -> dict[datetime, datetime | None]:
    """Return time -> the start of the closed range that a row of this time would be late for, None for none."""
    late = (await split(ranges, table, [(time,) for time in times], 0)).late
    return {time: late.get(index) for index, time in enumerate(times)}


def first_late(late: Mapping[int, datetime], owners: Sequence[int]) -> dict[int, datetime]:
    """Return owner -> the start of the closed range of its first late row. `owners`: of each row."""
    starts: dict[int, datetime] = {}
    for index, start in late.items():
        starts.setdefault(owners[index], start)
    return starts


def range_closed(start: datetime) -> Rejected:
    """Refuse a command whose row is late."""
    return Rejected(
        RejectionCode.RANGE_CLOSED,
        f"the table no longer takes rows of the span that begins at {start:%Y-%m-%d %H:%M} UTC: "
        "it is archived, or is being archived",
    )
