"""Ranges that overlap, on a real database: the table's chunk interval was changed while its old days are archived."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.archive.operator import around, bring, ranges
from tests.support.archive.site import Archive
from tidemill.domain.archive.slices import Source
from tidemill.domain.errors import UsageError

DAY = timedelta(days=1)
WEEK = datetime(2010, 1, 7, tzinfo=UTC)
"""Where chunks of seven days begin, as those of one do."""


async def interval(world: Archive, days: int) -> None:
    await world.pool.execute("select set_chunk_time_interval('public.market_data', $1::interval)", days * DAY)


async def row(world: Archive, day: float) -> None:
    """What a batch does with a row of that day if it is in no closed range, and strangers always."""
    await world.pool.execute(
        "insert into public.market_data (time, symbol, price, source, command_id) "
        "values ($1, 'S', 1.5, 'test', gen_random_uuid())",
        WEEK + day * DAY,
    )


async def late(world: Archive, day: float, start: float) -> None:
    """What a batch does with a row of a closed range."""
    await world.pool.execute(
        "insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start) "
        "values ($1, 'L', 1.5, 'late', gen_random_uuid(), $2)",
        WEEK + day * DAY,
        WEEK + start * DAY,
    )


async def spans(world: Archive) -> list[tuple[float, float, int, str]]:
    return [
        ((each.id.start - WEEK) / DAY, (each.id.end - WEEK) / DAY, each.id.generation, each.state.value)
        for each in await world.slices()
    ]


async def overlapping(world: Archive) -> None:
    """Archive two days, and then the week that both are in."""
    await interval(world, 1)
    await row(world, 0.5)
    await row(world, 3.5)
    await around(world)
    await interval(world, 7)
    await row(world, 2.5)
    await around(world)


async def test_a_longer_chunk_over_days_that_left_leaves_too(world: Archive) -> None:
    await overlapping(world)
    assert await spans(world) == [(0, 1, 1, "dropped"), (0, 7, 2, "dropped"), (3, 4, 1, "dropped")]
    assert await world.hot() == 0


async def test_late_rows_of_ranges_that_begin_together_leave_as_the_longer_one(world: Archive) -> None:
    await overlapping(world)
    await late(world, 0.25, 0)
    await late(world, 5, 0)
    await late(world, 3.25, 3)
    for _ in range(2):
        await around(world)
    assert (await world.hot(), await world.late()) == (0, 0)
    assert [each for each in await spans(world) if each[2] > 1 and each[:3] != (0, 7, 2)] == [
        (0, 7, 3, "dropped"),
        (3, 4, 2, "dropped"),
    ]
    assert {each.source for each in await world.slices() if each.id.generation == 3} == {Source.LATE}


async def test_late_rows_reach_beyond_a_shorter_chunk_that_came_later(world: Archive) -> None:
    await interval(world, 7)
    await row(world, 0.5)
    await around(world)
    await interval(world, 1)
    await row(world, 0.75)
    await around(world)
    await late(world, 5, 0)
    await around(world)
    assert await spans(world) == [(0, 7, 1, "dropped"), (0, 1, 2, "dropped"), (0, 7, 3, "dropped")]


async def test_each_of_the_ranges_comes_back_by_itself(world: Archive) -> None:
    await overlapping(world)
    day, week, _ = await ranges(world)
    done = await bring(world, week)
    assert (done.end, done.row_count) == (WEEK + 7 * DAY, 1)
    again = await ranges(world)
    assert ["restored" in (each.refused or "") for each in again] == [True] * 3
    assert "which overlaps it" in (again[0].refused or "")
    with pytest.raises(UsageError, match="into an existing chunk"):
        await bring(world, day)
    assert await world.hot() == 1
