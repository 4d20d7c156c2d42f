"""What is written nowhere but in the registry and beside it is not forgotten unseen: on the way down, or by a drop."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.archive.site import TABLE, Archive
from tidemill.storage.migrations.migrate import downgrade, upgrade
from tidemill.storage.migrations.session import MigrationFailed

TARGETS = ("market_data@base", "market_data_0001", "core_0001", "base")
LATE = """
insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
select range_start + interval '3 days', 'L', 1.5, 'late', gen_random_uuid(), range_start from tm.archive limit 1
"""


async def let_leave(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.settle()
    assert await world.states() == ["dropped"]


@pytest.mark.parametrize("target", TARGETS)
async def test_the_way_down_keeps_what_tells_where_rows_went(world: Archive, target: str) -> None:
    await let_leave(world)
    await world.pool.execute(LATE)
    with pytest.raises(
        MigrationFailed, match=r"1 dropped of public\.market_data, 1 rows in .*migrate down again"
    ):
        await downgrade(world.database, targets=[target])
    assert (await world.states(), await world.late()) == (["dropped"], 1)
    await world.pool.execute("delete from tm.archive")
    with pytest.raises(MigrationFailed, match=r"nowhere else: 1 rows in tm_late\.public__market_data\."):
        await downgrade(world.database, targets=[target])
    await world.pool.execute("delete from tm_late.public__market_data")
    await downgrade(world.database, targets=[target])
    await upgrade(world.database)
    assert (await world.states(), await world.late()) == ([], 0)


async def test_holds_of_a_table_that_is_not_ours_outlive_core(world: Archive) -> None:
    await world.pool.execute(
        "insert into tm.archive_hold (table_name, reason, who) values ('public.other', 'a lawsuit', 'ada')"
    )
    with pytest.raises(MigrationFailed, match=r"core_0002 was refused.*nowhere else: holds\."):
        await downgrade(world.database, targets=["core_0001"])
    await upgrade(world.database)
    assert await world.pool.fetchval("select count(*) from tm.archive_hold") == 1


async def test_what_went_wrong_before_it_left_does_not_bar_the_way(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.pool.execute("update tm.archive set state = 'aborted', closed = false")
    await downgrade(world.database, targets=["market_data_0001"])
    assert await world.hot() == 20


# --- the last statement looks itself ----------------------------------------------------------------------------------


async def test_the_chunk_of_another_table_is_not_dropped(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.round()
    await world.pool.execute("create table public.other (time timestamptz not null)")
    await world.pool.execute("select create_hypertable('public.other', 'time')")
    await world.pool.execute("insert into public.other values ('2010-03-01')")
    await world.pool.execute(
        """
        update tm.archive set chunk = (select format('%I.%I', chunk_schema, chunk_name)
          from timescaledb_information.chunks where hypertable_name = 'other')
        """
    )
    (which,) = await world.slices()
    with pytest.raises(asyncpg.PostgresError, match=r"is no chunk of public\.market_data"):
        await world.pool.execute("call tm.drop_slice($1, $2, 1)", TABLE, which.id.start)
    assert await world.pool.fetchval("select count(*) from public.other") == 1


async def test_late_rows_that_were_not_sealed_do_not_leave(world: Archive) -> None:
    await let_leave(world)
    await world.pool.execute(LATE)
    await world.settle()
    await world.answer()
    await world.round()
    assert await world.states() == ["dropped", "verified"]
    await world.pool.execute(
        "insert into tm_late.public__market_data select * from tm_late.public__market_data"
    )
    (_, which) = await world.slices()
    with pytest.raises(asyncpg.PostgresError, match="has 2 late rows now, 1 were sealed"):
        await world.pool.execute("call tm.drop_slice($1, $2, 2)", TABLE, which.id.start)
    assert await world.late() == 2


# --- names ------------------------------------------------------------------------------------------------------------


async def hypertable(world: Archive, schema: str, name: str) -> str:
    table = f"{schema}.{name}"
    await world.pool.execute(f"create schema if not exists {schema}")
    await world.pool.execute(f"create table {table} (time timestamptz not null)")
    await world.pool.execute(f"select create_hypertable('{table}', 'time')")
    return f"call tm.prepare_late('{table}')"


async def test_no_table_takes_the_late_rows_of_another(world: Archive) -> None:
    first, second = await hypertable(world, "a", "b__c"), await hypertable(world, "a__b", "c")
    await world.pool.execute(first)
    await world.pool.execute("alter table a.b__c add column more int")
    await world.pool.execute(first)
    with pytest.raises(asyncpg.PostgresError, match=r"late rows of a\.b__c, and can take none of a__b\.c"):
        await world.pool.execute(second)


async def test_a_name_that_would_be_cut_is_refused(world: Archive) -> None:
    await world.pool.execute(await hypertable(world, "public", "x" * 55))
    with pytest.raises(asyncpg.PostgresError, match="too long"):
        await world.pool.execute(await hypertable(world, "public", "x" * 56))
