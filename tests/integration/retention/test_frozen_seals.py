"""A sealed chunk where TimescaleDB can freeze it (its Community edition), and where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.support.archive.site import TABLE, Archive
from tests.support.servers.databases import fetch
from tests.support.waiting import HANGING_S, eventually
from tidemill.admin.archive.restore import Restorer
from tidemill.domain.archive.slices import SealMode
from tidemill.domain.errors import TransientError
from tidemill.domain.lane import Claim
from tidemill.lakehouse.copy_reader import LakeCopies
from tidemill.lakehouse.reader import LakeReader
from tidemill.retention import operator_actions, transitions
from tidemill.retention.operator_actions import Operator
from tidemill.retention.planner import plan
from tidemill.retention.restore_plan import ranges_back
from tidemill.retention.transition_table import Moved, Transition
from tidemill.storage.migrations.migrate import downgrade, upgrade
from tidemill.storage.retention.restore_work import RestoreDatabase

ADA = Operator("ada", "a law suit")
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)
IN_2010 = datetime(2010, 1, 12, tzinfo=UTC)
INSERT = """
insert into public.market_data (time, symbol, price, source, command_id) values ($1, 'X', 1, 'past', gen_random_uuid())
"""
WAITING = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.fixture
async def external_writer(database: str, world: Archive) -> AsyncIterator[asyncpg.Connection]:
    """Somebody who writes past us; his session has seen the chunk, and prepared its statement, before the seal."""
    await world.fill(2010)
    connection = await asyncpg.connect(database, timeout=HANGING_S, command_timeout=HANGING_S)
    await connection.execute(INSERT, IN_2010)
    yield connection
    await connection.close()


async def refused(external_writer: asyncpg.Connection) -> None:
    """Make sure that no row gets in, by INSERT or by COPY."""
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="frozen chunk"):
        await external_writer.execute(INSERT, IN_2010)
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="frozen chunk"):
        await external_writer.copy_records_to_table(
            "market_data", records=[(IN_2010, "Y", "past")], columns=["time", "symbol", "source"]
        )


async def around(world: Archive) -> None:
    await world.settle()
    await world.answer()
    await world.settle()


async def bring(world: Archive) -> str:
    """Bring the only range back; return its chunk."""
    (back,) = ranges_back(await world.store.facts(TABLE), FIRST, LAST)

    async def claim() -> Claim:
        assert world.claim is not None
        return world.claim

    way = Restorer(RestoreDatabase(world.pool), LakeCopies(LakeReader([str(world.lake)])), claim, "ada")
    restored = await way.bring(world.policy, back, MONTH, lambda _: None)
    assert restored.chunk is not None
    return restored.chunk


async def late_row(world: Archive) -> None:
    """What a batch does with a row for a closed range."""
    await world.pool.execute("""
        insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
        select range_start + interval '3 days', 'L', 1.5, 'late', gen_random_uuid(), range_start from tm.archive limit 1
    """)


# --- on every edition -------------------------------------------------------------------------------------------------


async def test_what_is_sealed_is_frozen_where_that_can_be_done(
    world: Archive, timescaledb_edition: str
) -> None:
    can = timescaledb_edition == "timescale"
    assert await world.store.seal_mode() is (SealMode.FREEZE if can else SealMode.LOCK)
    await world.fill(2010, 2025)
    await world.settle()
    assert await world.frozen() == ([each.chunk for each in await world.slices()] if can else [])


async def test_the_freeze_follows_the_registry_whoever_calls_it(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    (which,) = await world.slices()
    place = (TABLE, which.id.start, which.id.generation)
    before = await world.frozen()
    await world.pool.execute("call tm.freeze_slice($1, $2, $3)", *place)
    assert await world.frozen() == before
    await world.pool.execute("call tm.freeze_slice($1, $2, 99)", *place[:2])
    await world.pool.execute("update tm.archive set state = 'aborted', closed = false")
    await world.pool.execute("call tm.freeze_slice($1, $2, $3)", *place)
    assert await world.frozen() == []


# --- where it can be done ---------------------------------------------------------------------------------------------


@pytest.mark.community
async def test_no_row_of_an_external_writer_gets_into_a_sealed_chunk(
    world: Archive, external_writer: asyncpg.Connection
) -> None:
    await world.settle()
    rows = await world.hot()
    await refused(external_writer)
    await world.answer()
    await refused(external_writer)
    assert await external_writer.fetchval("select count(*) from public.market_data") == rows, (
        "who reads may go on"
    )
    await world.settle()
    assert (await world.states(), await world.hot()) == (["dropped"], 0)
    await external_writer.execute(INSERT, IN_2010)
    await around(world)
    assert (await world.states(), await world.hot()) == (["dropped", "dropped"], 0), "a generation of its own"


@pytest.mark.community
async def test_an_external_writer_who_waits_for_the_seal_comes_too_late(
    world: Archive, external_writer: asyncpg.Connection, database: str
) -> None:
    """He saw the chunk open, and gets his lock on it when it is sealed."""
    assert world.claim is not None
    now = world.clock.now()
    (candidate,) = plan(world.policy, await world.store.facts(TABLE), as_of=now, now=now).seal
    columns, _ = await world.store.shape(candidate.slice(now))
    async with world.store.transaction(world.claim) as work:
        chosen = step_of(transitions.choose(candidate.slice(now), work.at))
        await work.store(chosen)
        await work.lock_ranges(TABLE)
        await work.lock_rows(chosen.after)
        await work.store(step_of(transitions.seal(chosen.after, work.at, columns=columns, holds=())))
        writing = asyncio.create_task(external_writer.execute(INSERT, IN_2010))
        await eventually(lambda: fetch(database, WAITING), what="the stranger waits for the chunk")
    with pytest.raises(asyncpg.PostgresError, match="frozen chunk"):
        await writing
    assert await world.hot() == 21


def step_of(moved: Moved) -> Transition:
    assert isinstance(moved, Transition), moved
    return moved


@pytest.mark.community
@pytest.mark.parametrize("how", ["given up", "released"])
async def test_an_open_range_takes_rows_again_and_late_ones_go_back(
    world: Archive, external_writer: asyncpg.Connection, how: str
) -> None:
    await world.settle()
    await late_row(world)
    rows = await world.hot()
    if how == "released":
        (which,) = await world.slices()
        assert world.claim is not None
        assert (await operator_actions.release(world.store, world.claim, which.id, ADA)).returned == 1
    else:
        world.policy = replace(world.policy, enabled=False)
        await world.let_pass(timedelta(hours=25))
        await world.settle()
    assert (await world.states(), await world.frozen()) == (["aborted"], [])
    await external_writer.execute(INSERT, IN_2010)
    assert (await world.hot(), await world.late()) == (rows + 2, 0)


@pytest.mark.community
async def test_a_drop_that_readers_hold_up_leaves_the_chunk_frozen(
    world: Archive, external_writer: asyncpg.Connection
) -> None:
    await world.settle()
    await world.answer()
    async with world.pool.acquire() as reader, reader.transaction():
        await reader.fetch("select count(*) from public.market_data")
        await world.settle()
        assert await world.states() == ["verified"]
        await refused(external_writer)
    await world.settle()
    assert (await world.states(), await world.hot()) == (["dropped"], 0)


@pytest.mark.community
async def test_what_somebody_thawed_is_frozen_with_its_next_seal(
    world: Archive, external_writer: asyncpg.Connection
) -> None:
    """So is what was sealed by a version, or on an edition, that did not freeze."""
    await world.settle()
    await world.answer()
    await world.thaw()
    await external_writer.execute(INSERT, IN_2010)
    await world.settle()
    assert await world.states() == ["requested"], "sealed anew: the digest finds what no freeze kept out"
    await refused(external_writer)
    await around(world)
    assert (await world.states(), await world.hot()) == (["dropped"], 0)


@pytest.mark.community
async def test_a_hold_keeps_out_rows_and_the_retention_of_timescaledb(
    world: Archive, external_writer: asyncpg.Connection
) -> None:
    await world.settle()
    assert world.claim is not None
    await operator_actions.hold(world.store, world.claim, TABLE, (None, None), ADA)
    rows = await world.hot()
    await refused(external_writer)
    assert (
        await external_writer.fetch(
            "select drop_chunks('public.market_data', older_than => '2020-01-01'::timestamptz)"
        )
        == []
    )
    assert await world.hot() == rows


@pytest.mark.community
async def test_restored_rows_are_frozen_and_leave_again(
    world: Archive, external_writer: asyncpg.Connection, database: str
) -> None:
    await around(world)
    chunk = await bring(world)
    assert await world.frozen() == [chunk]
    await refused(external_writer)
    await world.let_pass(MONTH)
    await world.settle()
    assert (await world.states(), await world.hot(), await world.frozen()) == (["dropped"], 0, [])


@pytest.mark.community
async def test_of_two_who_bring_a_range_back_one_is_told_to_look_again(
    world: Archive, external_writer: asyncpg.Connection
) -> None:
    await around(world)
    found = await asyncio.gather(bring(world), bring(world), return_exceptions=True)
    (late,) = [each for each in found if isinstance(each, BaseException)]
    assert isinstance(late, TransientError), late
    assert await world.hot() == 21


@pytest.mark.community
async def test_a_compressed_chunk_is_frozen_and_leaves_like_any_other(
    world: Archive, external_writer: asyncpg.Connection
) -> None:
    await world.pool.execute("alter table public.market_data set (timescaledb.compress)")
    await world.pool.execute("select compress_chunk(each) from show_chunks('public.market_data') each")
    await world.settle()
    await refused(external_writer)
    await world.answer()
    await world.settle()
    assert (await world.states(), await world.hot()) == (["dropped"], 0)


@pytest.mark.community
async def test_a_version_that_does_not_freeze_finds_nothing_frozen(
    database: str, world: Archive, external_writer: asyncpg.Connection
) -> None:
    await world.settle()
    await world.answer()
    await downgrade(database, targets=["core_0002"])
    await external_writer.execute(INSERT, IN_2010)
    await upgrade(database)
    await world.own()  # a lane that the version before served is compared again
    await world.settle()
    await refused(external_writer)
    await around(world)
    assert (await world.states(), await world.hot()) == (["dropped"], 0)
