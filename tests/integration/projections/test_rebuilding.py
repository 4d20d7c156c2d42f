"""Rebuild and verify on Kafka and TimescaleDB: what they keep, what they refuse, what a crash leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import asyncpg
import pytest

from tests.support.engine.market import LANES, Market, random_ticks, tick
from tests.support.servers.databases import execute
from tests.support.waiting import eventually
from tidemill.contexts.market_data.read_models import daily_bars, latest_quotes
from tidemill.domain.errors import UsageError
from tidemill.domain.projection import Projection
from tidemill.projections.ports import Comparison, RebuildTargetLost
from tidemill.projections.rebuild import rebuild
from tidemill.projections.replay import ReplayFailed
from tidemill.projections.verify import verify

BOTH = (latest_quotes, daily_bars)

CATALOG = """
select 'column' as kind, attname::text as name, format_type(atttypid, atttypmod) || ' ' || attnotnull as definition
from pg_attribute where attrelid = $1::regclass and attnum > 0
union all select 'index', indexname, indexdef from pg_indexes where schemaname || '.' || tablename = $1::text
union all select 'constraint', conname, pg_get_constraintdef(oid) from pg_constraint where conrelid = $1::regclass
union all select 'table', relname, concat_ws(' ', reloptions, relpersistence, pg_get_userbyid(relowner),
                                             obj_description(oid, 'pg_class')) from pg_class where oid = $1::regclass
union all select 'grant', attname, attacl::text from pg_attribute where attrelid = $1::regclass and attacl is not null
union all select 'grant', '', item::text from pg_class, unnest(relacl) item where oid = $1::regclass
order by 1, 2, 3
"""


TERMINATE = """
select pg_terminate_backend(pid) from pg_locks
where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
"""


def quiet(done: int, total: int) -> None:
    """Nobody watches."""


async def fill(market: Market, number: int = 300) -> None:
    """Have both read models up to date with some ticks in every lane."""
    for lane in range(LANES):
        await market.tell(lane, *random_ticks(Random(lane), number))
    async with market.running() as running:
        for projection in BOTH:
            await running.reaches(market.ends(), projection.name)


async def catalog(market: Market, table: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await market.pool.fetch(CATALOG, table)]


async def leftovers(market: Market) -> list[str]:
    """What is in the shadow schema, and checkpoints of incarnations that are not live."""
    tables = await market.pool.fetch("select tablename from pg_tables where schemaname = 'tm_shadow'")
    checkpoints = await market.pool.fetch(
        "select distinct c.projection from tm.checkpoint c join tm.projection p using (projection) "
        "where c.incarnation <> p.incarnation"
    )
    return [row[0] for row in [*tables, *checkpoints]]


async def rebuilt(market: Market, projection: Projection = daily_bars) -> int:
    return (await rebuild(market.stream, projection, market.parts(), quiet)).events


async def verified(market: Market, projection: Projection = daily_bars) -> Comparison:
    return await verify(market.stream, projection, market.parts(), quiet)


async def test_a_rebuild_gives_the_same_rows_and_keeps_all_that_belongs_to_the_table(market: Market) -> None:
    await market.pool.execute("alter table daily_bars set (fillfactor = 71, autovacuum_enabled = off)")
    await market.pool.execute('create unique index "Odd Name" on daily_bars (id) where ticks > 0')
    await market.pool.execute("alter table daily_bars add constraint sane check (high >= low)")
    await market.pool.execute("comment on table daily_bars is 'one row per day'")
    await market.pool.execute("grant select on daily_bars to public")
    await market.pool.execute("grant update (ticks) on daily_bars to tidemill_reader with grant option")
    await fill(market)
    rows, before = await market.rows("daily_bars order by id"), await catalog(market, "public.daily_bars")
    shown: list[tuple[int, int]] = []
    events, corrected = await rebuild(
        market.stream, daily_bars, market.parts(), lambda done, total: shown.append((done, total))
    )
    assert corrected is None
    assert events == LANES * 300
    assert shown[-1] == (events, events)
    assert await market.rows("daily_bars order by id") == rows
    assert await catalog(market, "public.daily_bars") == before
    assert await leftovers(market) == []
    (state,) = await market.rows("tm.projection where projection = 'daily-bars'")
    assert state["incarnation"] == 2
    assert state["rebuilt_at"] is not None


async def test_the_projector_works_on_during_a_rebuild_and_after_it(market: Market) -> None:
    await fill(market)
    random = Random(9)
    async with market.running(max_events=50) as running:
        building = asyncio.create_task(rebuilt(market))
        while not building.done():
            for lane in range(LANES):
                await market.tell(lane, *random_ticks(random, 20))
        await building
        await market.tell(0, tick("AAPL", 3))
        for projection in BOTH:
            await running.reaches(market.ends(), projection.name)
    for projection in BOTH:
        assert (await verified(market, projection)).differing == 0


async def test_readers_see_whole_rows_throughout(market: Market, database: str) -> None:
    await fill(market)
    reader = await asyncpg.connect(database)
    counted = "select count(*), sum(ticks) from daily_bars"
    before = await reader.fetchrow(counted)
    building = asyncio.create_task(rebuilt(market))
    while not building.done():
        assert await reader.fetchrow(counted) == before
    await building
    assert await reader.fetchrow(counted) == before
    await reader.close()


async def test_verify_passes_after_any_shuffle_and_fails_after_one_cell_was_changed(market: Market) -> None:
    random = Random(2)
    async with market.running(max_events=30) as running:
        for _ in range(20):
            await market.tell(random.randrange(LANES), *random_ticks(random, random.randrange(1, 30)))
        for projection in BOTH:
            await running.reaches(market.ends(), projection.name)
    for projection in BOTH:
        comparison = await verified(market, projection)
        assert comparison.rows > 0
        assert comparison.differing == 0
    await market.pool.execute(
        "update daily_bars set high = high + 1 where id = (select min(id) from daily_bars)"
    )
    comparison = await verified(market)
    assert comparison.differing == 1
    (example,) = comparison.examples
    assert example.columns.keys() == {"high"}
    live, built = example.columns["high"]
    assert float(live or 0) == float(built or 0) + 1
    (state,) = await market.rows("tm.projection where projection = 'latest-quotes'")
    assert state["verified_at"] is not None
    assert await leftovers(market) == []
    await rebuilt(market)  # mends it
    assert (await verified(market)).differing == 0


@pytest.mark.parametrize(
    "change",
    [
        "delete from daily_bars where id = (select min(id) from daily_bars)",
        "update daily_bars set volume = volume + 0.000000001 where id = (select min(id) from daily_bars)",
        "update daily_bars set low = '-0' where id = (select min(id) from daily_bars)",
        "update daily_bars set version = version + 1 where id = (select min(id) from daily_bars)",
        "update daily_bars set symbol = 'NONE' where id = (select min(id) from daily_bars)",
    ],
)
async def test_any_change_by_hand_is_found(market: Market, change: str) -> None:
    await fill(market, 30)
    await market.pool.execute(change)
    comparison = await verified(market)
    renamed = "symbol" in change
    assert comparison.differing == len(comparison.examples) == (2 if renamed else 1)


async def test_verify_while_events_flow(market: Market) -> None:
    await fill(market)
    random = Random(5)
    async with market.running(max_events=20) as running:
        checking = asyncio.create_task(verified(market))
        while not checking.done():
            await market.tell(random.randrange(LANES), *random_ticks(random, 5))
        assert (await checking).differing == 0
        await running.reaches(market.ends(), daily_bars.name)


Act = Callable[[Market], Awaitable[Any]]


@pytest.mark.parametrize("act", [rebuilt, verified])
async def test_two_at_once(market: Market, act: Act) -> None:
    await fill(market, 10)
    outcomes = await asyncio.gather(act(market), act(market), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, UsageError)]
    assert len(refused) == 1
    assert "being rebuilt or verified by another process" in str(refused[0])


@pytest.mark.parametrize("act", [rebuilt, verified])
async def test_the_pool_gets_its_connection_back_as_it_was(market: Market, act: Act) -> None:
    await fill(market, 10)
    await act(market)
    await market.pool.execute("create view bars as select * from daily_bars")
    with pytest.raises(UsageError):
        await rebuilt(market)
    # the whole server's are shown, and other databases have tests of their own
    ours = "database = (select oid from pg_database where datname = current_database())"
    assert await market.rows(f"pg_locks where locktype = 'advisory' and {ours}") == []
    async with contextlib.AsyncExitStack() as held:
        borrowed = [await held.enter_async_context(market.pool.acquire()) for _ in range(8)]
        assert {await each.fetchval("show statement_timeout") for each in borrowed} == {"30s"}


@pytest.mark.parametrize("act", [rebuilt, verified])
async def test_a_crash_leaves_the_live_rows_and_the_next_run_cleans_up(
    market: Market, database: str, act: Act
) -> None:
    await fill(market, 50)
    before = await market.rows("daily_bars order by id")
    crashes = iter([TERMINATE])

    def crash(done: int, total: int) -> None:
        for statement in crashes:
            execute(database, statement)

    operation = rebuild if act is rebuilt else verify
    with pytest.raises(RebuildTargetLost, match="run it again"):
        await operation(market.stream, daily_bars, market.parts(), crash)
    assert await leftovers(market) != []
    assert await market.rows("daily_bars order by id") == before
    await act(market)
    assert await leftovers(market) == []
    assert (await verified(market)).differing == 0


async def test_a_reader_that_holds_the_table_delays_the_swap(market: Market, database: str) -> None:
    await fill(market, 10)
    reader = await asyncpg.connect(database)
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("select * from daily_bars")
    building = asyncio.create_task(rebuilt(market))

    waiting = "select exists (select from pg_locks where not granted)"
    await eventually(lambda: market.pool.fetchval(waiting), what="the swap waits for the reader")
    assert not building.done()
    await transaction.rollback()
    assert await building == LANES * 10
    await reader.close()


@pytest.mark.parametrize(
    ("obstacle", "named"),
    [
        ("create view bars as select * from daily_bars", "view bars"),
        ("create function f() returns trigger language plpgsql as 'begin return new; end'", None),
        ("alter table daily_bars enable row level security", "row security"),
        (
            "create table notes (s text, d date, foreign key (s, d) references daily_bars)",
            "foreign key notes_s_d_fkey",
        ),
        ("create publication all_bars for table daily_bars", "publication all_bars"),
        ("create table child () inherits (daily_bars)", "it is not a plain table"),
        ("alter table daily_bars add column serial_number serial", "sequence daily_bars_serial_number_seq"),
        (
            "select create_hypertable('daily_bars', 'day', migrate_data => true)",
            "trigger ts_insert_blocker",
        ),
    ],
)
async def test_a_table_that_would_lose_something_is_not_rebuilt(
    market: Market, obstacle: str, named: str | None
) -> None:
    await market.pool.execute(obstacle)
    if named is None:
        await market.pool.execute("create trigger audit before insert on daily_bars execute function f()")
        named = "trigger audit"
    with pytest.raises(UsageError, match=f"public.daily_bars would lose .*{named}"):
        await rebuilt(market)
    assert await leftovers(market) == []
    if "serial" not in obstacle:
        assert (await verified(market)).differing == 0  # to look is allowed


async def test_events_that_were_trimmed_cannot_be_replayed(market: Market) -> None:
    await fill(market, 10)
    from aiokafka import TopicPartition
    from aiokafka.admin import RecordsToDelete

    from tidemill.transport.kafka.client.client import admin_client
    from tidemill.transport.kafka.client.close import hard_close

    admin = admin_client(market.connection)
    await admin.start()
    await admin.delete_records({TopicPartition(market.stream.topics.events, 2): RecordsToDelete(4)})
    await hard_close(admin, 5)
    with pytest.raises(ReplayFailed, match="partition 2 at offset 0"):
        await rebuilt(market)


async def test_the_service_role_is_told_that_it_cannot(market: Market, database: str) -> None:
    await fill(market, 5)
    from tidemill.storage.database.pool import close_pool, create_pool

    mine, market.pool = (
        market.pool,
        await create_pool(f"{database}?role=tidemill_service", application_name="tidemill-tests", size=4),
    )
    with pytest.raises(UsageError, match="42501"):
        await rebuilt(market)
    await close_pool(market.pool)
    market.pool = mine
