"""The quiet period of a chunk, and what the catalogue tells of it: how large it is, and whether it is compressed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from tests.support.archive.operator import END, MONTH, around
from tests.support.archive.site import TABLE, Archive
from tests.support.waiting import HANGING_S
from tidemill.retention.planner import plan
from tidemill.runtime.clock import SystemClock
from tidemill.storage.retention.archive import SliceRows

ROW = """
insert into public.market_data (time, symbol, price, source, command_id)
values ('2010-01-12+00', 'X', 1, 'past', gen_random_uuid())
"""
OLDER = "update tm.archive_activity set since = since - $1::interval"


async def write(world: Archive, statement: str) -> None:
    """Do something to the rows, and have it counted before this returns."""
    connection = await asyncpg.connect(world.database, timeout=HANGING_S, command_timeout=HANGING_S)
    await connection.execute(statement)
    await connection.execute("select pg_stat_force_next_flush()")
    await connection.close()


async def codes(world: Archive) -> list[str]:
    now = SystemClock().now()
    facts = await world.store.facts(TABLE)
    return [each.code for each in plan(world.policy, facts, as_of=now, now=now).waiting]


@pytest.fixture
async def written(world: Archive) -> Archive:
    """One chunk that a keeper saw for the first time, a month minus a minute ago."""
    world.policy = replace(world.policy, quiet=MONTH)
    await write(world, ROW)
    assert await codes(world) == ["UNSEEN"]
    assert not (await world.round()).moved
    assert await codes(world) == ["WRITTEN"]
    await world.pool.execute(OLDER, MONTH - timedelta(minutes=1))
    return world


async def test_a_chunk_is_sealed_when_nobody_wrote_to_it_for_its_quiet_period(written: Archive) -> None:
    assert not (await written.round()).moved
    await written.pool.execute(OLDER, timedelta(minutes=1))
    await around(written)
    assert await written.states() == ["dropped"]
    await written.round()
    assert await written.pool.fetchval("select count(*) from tm.archive_activity") == 0, (
        "forgotten with its chunk"
    )


@pytest.mark.parametrize(
    "statement",
    [
        ROW,
        "update public.market_data set price = price + 1",
        "delete from public.market_data where symbol = 'X'",
        "select pg_stat_reset()",
    ],
)
async def test_a_write_or_lost_counts_begin_the_period_anew(written: Archive, statement: str) -> None:
    await write(written, statement)
    await written.pool.execute(OLDER, timedelta(minutes=1))
    assert not (await written.round()).moved
    assert await codes(written) == ["WRITTEN"]
    await written.pool.execute(OLDER, MONTH)
    assert (await written.round()).moved


async def test_only_chunks_that_are_old_enough_are_watched(written: Archive) -> None:
    await written.fill(SystemClock().now().year - 1)
    await written.round()
    assert await written.pool.fetchval("select count(*) from tm.archive_activity") == 1


async def test_without_a_quiet_period_nothing_is_counted(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    assert await world.states() == ["requested"]
    assert await world.pool.fetchval("select count(*) from tm.archive_activity") == 0


async def note(world: Archive, role: str) -> None:
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"set local role {role}")
        await SliceRows(connection).note_writes(TABLE, END)


async def test_retention_notes_writes_and_the_service_does_not(written: Archive) -> None:
    await note(written, "tidemill_retention")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await note(written, "tidemill_service")


# --- what the catalogue tells ----------------------------------------------------------------------------------------


async def test_a_chunk_is_as_large_as_its_rows_without_their_indexes(world: Archive) -> None:
    await world.fill(2010)
    (chunk,) = (await world.store.facts(TABLE)).chunks
    assert not chunk.compressed
    rows = await world.pool.fetchval("select pg_table_size($1::text::regclass)", chunk.chunk)
    all_of_it = await world.pool.fetchval("select pg_total_relation_size($1::text::regclass)", chunk.chunk)
    assert 0 < chunk.size_bytes == rows < all_of_it


@pytest.mark.community
async def test_a_compressed_chunk_counts_its_compressed_rows_and_says_so(world: Archive) -> None:
    await world.fill(2010)
    (before,) = (await world.store.facts(TABLE)).chunks[:1]
    await world.pool.execute("alter table public.market_data set (timescaledb.compress)")
    await world.pool.execute("select compress_chunk(each) from show_chunks('public.market_data') each")
    (chunk,) = (await world.store.facts(TABLE)).chunks[:1]
    assert (before.compressed, chunk.compressed) == (False, True)
    own = await world.pool.fetchval("select pg_table_size($1::text::regclass)", chunk.chunk)
    assert chunk.size_bytes > own
    await world.settle()
    (request, *_) = await world.requests()
    assert request.chunks[0].compressed
    assert request.chunks[0].size_bytes == chunk.size_bytes
