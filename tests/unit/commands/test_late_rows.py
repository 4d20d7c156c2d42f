"""Which rows are too late, and for which range, also where closed ranges overlap."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.fakes.commands import MemoryCommandStore
from tidemill.commands.late_rows import split
from tidemill.commands.ports import ClosedRange
from tidemill.contexts.market_data import context, ticks
from tidemill.domain.stream import Stream

TICKS = Stream.of(context)
START = datetime(2010, 1, 7, tzinfo=UTC)
DAY = timedelta(days=1)


def closed(first: float, last: float) -> ClosedRange:
    return ClosedRange(START + first * DAY, START + last * DAY)


WEEK = closed(0, 7)


@pytest.mark.parametrize(
    ("others", "starts"),
    [
        ([], [None, 0, 0, 0, 0, None]),
        ([closed(3, 4)], [None, 0, 3, 0, 0, None]),
        ([closed(0, 1)], [None, 0, 0, 0, 0, None]),
        ([closed(3, 4), closed(5, 8)], [None, 0, 3, 0, 5, 5]),
        ([closed(-1, 4)], [-1, 0, 0, 0, 0, None]),
    ],
    ids=["one", "one within", "one that begins with it", "one that ends later", "one that begins earlier"],
)
async def test_a_row_is_late_if_any_closed_range_contains_it(
    others: list[ClosedRange], starts: list[int | None]
) -> None:
    store = MemoryCommandStore(TICKS)
    store.closed += sorted([WEEK, *others])
    times = [START + day * DAY for day in (-0.5, 0, 3.5, 4.5, 6.5, 7)]
    async with store.unit_of_work() as work:
        found = await split(work, ticks, [(time,) for time in times], 0)
    late = {at: START + start * DAY for at, start in enumerate(starts) if start is not None}
    assert found.late == late
    assert found.on_time == [(time,) for at, time in enumerate(times) if at not in late]
