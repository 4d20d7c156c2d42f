"""What waited for a lock sees what was committed meanwhile, whatever the database's default isolation is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.archive.site import TABLE, Archive, archive
from tests.support.servers.databases import execute
from tests.support.waiting import eventually
from tidemill.storage.database.pool import close_pool, create_pool

Level = Literal["repeatable_read", "serializable"]
LEVELS: tuple[Level, ...] = ("repeatable_read", "serializable")
WAITING = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
ROW = """
insert into public.market_data (time, symbol, price, source, command_id)
values ('2010-03-01 00:00+00', 'X', 1, 'stranger', gen_random_uuid())
"""


def spelt(level: Level) -> str:
    return level.replace("_", " ")


def set_default(database: str, level: Level) -> None:
    name = urlsplit(database).path.removeprefix("/")
    execute(database, f"alter database \"{name}\" set default_transaction_isolation = '{spelt(level)}'")


async def write_while_the_drop_waits(world: Archive) -> None:
    """Commit an external row when the drop's transaction has begun and waits for the stranger."""
    external_writer = await asyncpg.connect(world.database)
    try:
        async with external_writer.transaction(isolation="read_committed"):
            await external_writer.execute(ROW)
            going = asyncio.create_task(world.round())
            await eventually(
                lambda: external_writer.fetchval(WAITING), what="the drop waits for the stranger"
            )
        await going
    finally:
        await external_writer.close()


@pytest.mark.parametrize("level", LEVELS)
async def test_a_row_that_is_committed_while_a_drop_waits_stays(
    database: str, tmp_path: Path, level: Level
) -> None:
    set_default(database, level)
    async with archive(database, tmp_path / "lake") as world:
        await world.fill(2010)
        await world.settle()
        await world.answer()
        await world.round()
        assert await world.states() == ["verified"]
        await world.thaw()
        await write_while_the_drop_waits(world)
        assert (await world.states(), await world.hot()) == (["sealed"], 21)
        await world.settle()
        await world.answer()
        await world.settle()
        assert (await world.states(), await world.hot()) == (["dropped"], 0)


@pytest.mark.parametrize("level", LEVELS)
async def test_every_pool_of_ours_sees_what_is_committed(database: str, level: Level) -> None:
    set_default(database, level)
    pool = await create_pool(database, application_name="test", size=1)
    async with pool.acquire() as borrowed, borrowed.transaction():
        assert await borrowed.fetchval("show transaction_isolation") == "read committed"
    await close_pool(pool)


@pytest.mark.parametrize("level", LEVELS)
async def test_an_older_snapshot_is_refused_where_it_would_lose_rows(world: Archive, level: Level) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.round()
    (which,) = await world.slices()
    async with world.pool.acquire() as borrowed:
        with pytest.raises(asyncpg.PostgresError, match=f"to be dropped under {spelt(level)}") as dropping:
            async with borrowed.transaction(isolation=level):
                await borrowed.execute("call tm.drop_slice($1, $2, 1)", TABLE, which.id.start)
        with pytest.raises(asyncpg.PostgresError, match=f"asked for under {spelt(level)}") as asking:
            async with borrowed.transaction(isolation=level):
                await borrowed.fetch("select * from tm.closed_ranges($1, now(), now())", TABLE)
    assert {dropping.value.sqlstate, asking.value.sqlstate} == {"TM008"}
    assert (await world.states(), await world.hot()) == (["verified"], 20)
