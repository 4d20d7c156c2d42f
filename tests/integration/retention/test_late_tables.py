"""The place for late rows: it has the hypertable's own rules, is demanded before a seal, and loses no row."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.support.archive.operator import ADA, around, late_row, owned
from tests.support.archive.site import TABLE, Archive
from tests.support.engine.commands import Harness, base, create_lanes, outcomes
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.archive.policy import LateRule
from tidemill.domain.errors import TransientError
from tidemill.domain.stream import Stream
from tidemill.retention import operator_actions
from tidemill.retention.planner import plan
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.errors import OutOfDate

TICKS = Stream.of(replace(market_data, partitions=1))
LATE = "tm_late.public__market_data"
PREPARE = f"call tm.prepare_late('{TABLE}')"
OLD = datetime(2010, 1, 12, tzinfo=UTC)
DATABASE_ONLY = (
    "add column seen_at timestamptz not null default now(), add column note text default 'kept', "
    "add column cents bigint generated always as ((price * 100)::bigint) stored, add check (price < 1000)"
)


async def harness(world: Archive) -> Harness:
    async with world.pool.acquire() as connection:
        await create_lanes(connection, TICKS)
    made = Harness(TICKS, CommandDatabase(world.pool))
    await made.claim()
    return made


def tick(price: float = 1.5, symbol: str = "L") -> RecordMarketData:
    return RecordMarketData(**base(symbol=symbol, time=OLD, price=price, source="tests"))


async def alter(world: Archive, alteration: str) -> None:
    await world.pool.execute(f"alter table {TABLE} {alteration}")


async def lacks(world: Archive) -> str | None:
    return (await world.store.facts(TABLE)).late_unfit


async def test_nothing_is_sealed_without_a_place_for_late_rows(world: Archive) -> None:
    await world.fill(2010)
    await world.pool.execute(f"drop table {LATE}")
    done = await world.round()
    assert (await world.states(), await world.hot(), done.moved) == ([], 20, False)
    (problem,) = done.problems
    assert f"cannot be kept in {LATE}: it does not exist" in problem
    assert PREPARE in problem
    waiting = plan(
        world.policy, await world.store.facts(TABLE), as_of=world.clock.now(), now=world.clock.now()
    ).waiting
    assert {each.code for each in waiting} == {"LATE_TABLE"}
    await world.pool.execute(PREPARE)
    await around(world)
    assert set(await world.states()) == {"dropped"}


async def test_what_is_sealed_goes_on_without_it(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.pool.execute(f"drop table {LATE}")
    await world.answer()
    for _ in range(3):
        await world.round()
    assert set(await world.states()) == {"dropped"}


async def test_a_table_that_refuses_late_rows_needs_no_place_for_them(world: Archive) -> None:
    world.policy = replace(world.policy, late=LateRule.REJECT)
    await world.fill(2010)
    await world.pool.execute(f"drop table {LATE}")
    assert not (await world.round()).problems
    await world.settle()
    assert set(await world.states()) == {"requested"}


@pytest.mark.parametrize(
    "alteration",
    [
        "add column note text",
        "alter column source type varchar(500)",
        "alter column volume set default 3",
        "alter column volume set not null",
        "drop column source",
        "add check (price < 1000)",
        DATABASE_ONLY,
    ],
)
async def test_an_altered_table_is_not_sealed_until_late_rows_fit_again(
    world: Archive, alteration: str
) -> None:
    assert await lacks(world) is None
    await alter(world, alteration)
    assert PREPARE in (await lacks(world) or "")
    await world.pool.execute(PREPARE)
    assert await lacks(world) is None
    await world.pool.execute(PREPARE)
    assert await lacks(world) is None


async def test_it_is_looked_at_again_at_the_moment_of_the_seal(world: Archive) -> None:
    await world.fill(2010)
    facts = await world.store.facts(TABLE)
    async with world.store.transaction(owned(world)) as work:
        assert await work.late_unfit(TABLE) is facts.late_unfit is None
        await alter(world, "add column note text")
        assert "column note is missing" in (await work.late_unfit(TABLE) or "")


async def test_a_late_row_is_what_it_would_have_been_in_the_table(world: Archive) -> None:
    await alter(world, DATABASE_ONLY)
    await world.pool.execute(PREPARE)
    await world.fill(2010)
    await around(world)
    ticks = await harness(world)
    done = await ticks.send(tick(), tick(price=5000.0))
    assert outcomes(done) == {"applied": 1, "rejected": 1}, "a check of the table is one for late rows too"
    (row,) = await world.pool.fetch(f"select note, cents, seen_at is not null from {LATE}")
    assert tuple(row) == ("kept", 150, True)
    await around(world)
    assert set(await world.states()) == {"dropped"}


async def test_a_late_row_without_a_place_makes_its_batch_wait_and_is_not_lost(world: Archive) -> None:
    await world.fill(2010)
    await around(world)
    ticks = await harness(world)
    await world.pool.execute(f"drop table {LATE}")
    record = ticks.topic.record(tick())
    with pytest.raises(TransientError, match="have the login that migrates run"):
        await ticks.apply(record)
    await world.pool.execute(PREPARE)
    assert outcomes(await ticks.apply(record)) == {"applied": 1}
    assert await world.late() == 1


async def test_a_row_that_only_the_late_table_refuses_is_not_refused(world: Archive) -> None:
    await world.fill(2010)
    await around(world)
    ticks = await harness(world)
    await world.pool.execute(f"alter table {LATE} alter column symbol type varchar(2)")
    record = ticks.topic.record(tick(symbol="LONG"))
    with pytest.raises(TransientError, match="column symbol is character varying"):
        await ticks.apply(record)
    await world.pool.execute(PREPARE)
    with pytest.raises(OutOfDate):  # of the session that wrote the table as it was; it is left
        await ticks.apply(record)
    assert outcomes(await ticks.apply(record)) == {"applied": 1}


async def released(world: Archive) -> int:
    """Have a late row come for a sealed range, and give its slices up; return how many rows went back."""
    back = 0
    for which in await world.slices():
        back += (await operator_actions.release(world.store, owned(world), which.id, ADA)).returned
    assert not any(each.is_closed for each in await world.slices())
    return back


async def test_late_rows_go_back_into_a_table_with_generated_columns(world: Archive) -> None:
    await alter(world, f"{DATABASE_ONLY}, add column number bigint generated always as identity")
    await world.pool.execute(PREPARE)
    await world.fill(2010)
    await world.settle()
    await late_row(world)
    assert await released(world) == 1
    (row,) = await world.pool.fetch(
        f"select note, cents, (select count(distinct number) from {TABLE}) from {TABLE} where symbol = 'L'"
    )
    assert (row["note"], row["cents"] is not None, row["count"]) == ("kept", True, 21)


async def test_a_column_that_came_since_does_not_keep_late_rows_from_going_back(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await late_row(world)
    await world.thaw()
    await alter(world, "add column note text default 'kept'")
    assert await released(world) == 1
    assert await world.pool.fetchval(f"select note from {TABLE} where symbol = 'L'") == "kept"


async def test_a_range_opens_though_the_table_refuses_its_late_rows(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await late_row(world)
    await world.thaw()
    await alter(world, "add check (symbol <> 'L')")
    await world.pool.execute(PREPARE)
    assert await released(world) == 0
    assert (await world.hot(), await world.late()) == (20, 1)
    await around(world)
    await around(world)
    assert (await world.hot(), await world.late()) == (0, 0), "it left as a slice of its own"
