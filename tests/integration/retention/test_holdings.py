"""Every row is somewhere once, as the audit and the metrics count it, whoever deletes or adds one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.archive.site import POLICY, TABLE, Archive
from tidemill.admin.archive.status import archive_status
from tidemill.admin.rows import Holdings, TableRows
from tidemill.contexts.market_data import ticks
from tidemill.storage.admin.archived_rows import HoldingsDatabase, hold_chunks
from tidemill.storage.admin.inspection import OperationsDatabase


async def rows(world: Archive) -> TableRows:
    return (await OperationsDatabase(world.pool).audit_rows([ticks])).rows[TABLE]


async def holdings(world: Archive) -> Holdings:
    (found,) = await HoldingsDatabase(world.pool).holdings([TABLE])
    return found


async def archived(world: Archive) -> None:
    """Twenty rows that left, twenty that stay."""
    await world.fill(2010, 2026)
    await world.settle()
    await world.answer()
    await world.settle()


async def test_rows_that_left_are_counted_by_the_registry(world: Archive) -> None:
    await world.fill(2010, 2026)
    assert await rows(world) == TableRows(in_table=40)
    await world.settle()
    assert await rows(world) == TableRows(in_table=40), "a request moves nothing"
    await world.answer()
    await world.settle()
    assert await rows(world) == TableRows(in_table=20, archived=20)


async def test_late_rows_are_counted_until_they_left(world: Archive) -> None:
    await archived(world)
    await world.pool.execute(
        """
        insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
        select min_time, 'LATE', 1, 'test', gen_random_uuid(), range_start from tm.archive
        """
    )
    assert await rows(world) == TableRows(in_table=20, archived=20, diverted=1)
    assert (await holdings(world)).diverted_rows == 1
    await world.settle()
    await world.answer()
    await world.settle()
    assert await rows(world) == TableRows(in_table=20, archived=21)


@pytest.mark.parametrize(
    "change",
    [
        "delete from public.market_data where ctid = (select ctid from public.market_data limit 1)",
        "delete from tm.archive",
        "update tm.archive set row_count = row_count - 1",
        "insert into public.market_data select * from public.market_data limit 1",
    ],
)
async def test_what_is_changed_by_hand_shows(world: Archive, change: str) -> None:
    await archived(world)
    before = (await rows(world)).total
    await world.pool.execute(change)
    assert (await rows(world)).total != before == 40


async def test_nothing_is_dropped_while_rows_are_counted(world: Archive) -> None:
    """A drop takes rows from every snapshot: who counts in one keeps it out, and it goes on afterwards."""
    await world.fill(2010)
    await world.settle()
    await world.answer()
    async with (
        world.pool.acquire() as counting,
        counting.transaction(isolation="repeatable_read", readonly=True),
    ):
        await hold_chunks(counting, [ticks])
        await world.settle()
        assert await counting.fetchval("select count(*) from public.market_data") == 20
        assert set(await world.states()) == {"verified"}
    await world.settle()
    assert set(await world.states()) == {"dropped"}


async def test_the_status_says_how_far_each_slice_is(world: Archive) -> None:
    now = world.clock.now()
    await world.fill(2010, 2026)
    policies = {TABLE: POLICY}
    (before,) = archive_status(policies, [await holdings(world)], now)
    assert (before.slices, before.diverted, before.oldest_seal) == ({}, 0, None)
    assert before.overdue_since is not None
    assert now - before.overdue_since > timedelta(days=5_000)
    await world.settle()
    (asked,) = archive_status(policies, [await holdings(world)], now)
    assert asked.slices == {"requested": 1}
    assert asked.oldest_seal is not None
    assert abs(asked.oldest_seal - now) < timedelta(minutes=5)
    await world.answer()
    await world.settle()
    found = await holdings(world)
    (after,) = archive_status(policies, [found], now)
    assert (after.slices, after.oldest_seal, after.overdue_since) == ({"dropped": 1}, None, None)
    assert found.hot_bytes > 0
    assert 1_000 < found.lake_bytes < 100_000
    assert found.mismatches == 0
