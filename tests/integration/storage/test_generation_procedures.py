"""Generations of log, outbox and ledger: prepared beside readers, rolled with the books carried, dropped with care."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tidemill.storage.migrations.connection import Driver

LANE = """
insert into tm.lane (aggregate, partition, partitions, command_topic, event_topic, outcome_topic, dead_letter_topic)
values ('x', 0, 1, 'c', 'e', 'o', 'd') returning lane
"""
BATCH = """
insert into tm.batch values ($1, $2, $3, 1, 0, $4, $5::bigint, $5 - 1, 7, $5, $5, 99, 3, 2, 1, 0, 3, now(), null)
"""
OUTBOX = """
insert into tm.outbox (lane, gen, position, item, sequence, at, seconds, record_offset, chain)
select $1, $2, position, 0, 0, now(), 0, 0, 0 from generate_series(1, 6) as position
"""


async def only_row(connection: Driver, query: str) -> dict[str, Any]:
    (row,) = await connection.fetch(query)
    return dict(row)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Driver]:
    connection = await asyncpg.connect(database, server_settings={"lock_timeout": "1500"})
    yield connection
    await connection.close()


@pytest.fixture
async def lane_id(connection: Driver) -> int:
    """A lane with two batches of six records in generation 1."""
    lane: int = await connection.fetchval(LANE)
    await connection.execute(BATCH, lane, 1, 1, 0, 6)
    await connection.execute(BATCH, lane, 1, 2, 6, 12)
    return lane


async def test_a_generation_is_prepared_while_others_read_and_write(
    database: str, connection: Driver
) -> None:
    other = await asyncpg.connect(database)
    try:
        await other.execute("begin; select from tm.log; select from tm.outbox; select from tm.batch")
        await other.execute("insert into tm.log values (1, 1, 1, gen_random_uuid(), 0, 'a', 0, 0, now())")
        await connection.execute("call tm.prepare_generation(3)")
        await connection.execute("call tm.prepare_generation(3)")
    finally:
        await other.close()
    await connection.execute("insert into tm.log values (1, 3, 1, gen_random_uuid(), 0, 'a', 0, 0, now())")
    indexes = "select count(*) from pg_index where indrelid = $1::text::regclass"
    for part in ("log", "outbox", "batch"):
        made, first = [await connection.fetchval(indexes, f"tm.{part}_{gen}") for gen in (3, 1)]
        assert made == first, part


async def test_rolling_carries_the_numbering(connection: Driver, lane_id: int) -> None:
    before = await only_row(connection, "select * from tm.batch where batch = 2")
    await connection.execute("call tm.roll_generation(1, 2)")
    carried = await only_row(connection, "select * from tm.batch where gen = 2")
    counted = {"applied", "rejected", "duplicate", "parked", "events"}
    changed = {name for name in before if before[name] != carried[name]}
    assert changed == {"gen", "from_offset", "reason", "applied", "rejected", "duplicate", "events"}
    assert (carried["from_offset"], carried["reason"]) == (before["to_offset"], "carried")
    assert all(carried[name] == 0 for name in counted)
    assert await connection.fetchval("select gen from tm.generation where closed_at is null") == 2
    with pytest.raises(asyncpg.PostgresError, match="generation 1 is not open") as late:
        await connection.execute("call tm.roll_generation(1, 3)")
    assert late.value.sqlstate == "TM001"


async def test_a_log_may_roll_more_often_than_a_smallint_counts(connection: Driver, lane_id: int) -> None:
    await connection.execute("call tm.roll_generation(1, 32768)")
    await connection.execute(BATCH, lane_id, 32768, 3, 12, 18)
    await connection.execute("call tm.roll_generation(32768, 2147483646)")
    await connection.execute("call tm.drop_generation(32768, 'batch')")
    assert await connection.fetchval("select max(gen) from tm.batch") == 2147483646


async def test_an_open_generation_is_not_dropped(connection: Driver, lane_id: int) -> None:
    for part in ("log", "outbox", "batch"):
        with pytest.raises(asyncpg.PostgresError, match="is not closed"):
            await connection.execute("call tm.drop_generation(1, $1)", part)
    with pytest.raises(asyncpg.PostgresError, match="has no part lane"):
        await connection.execute("call tm.drop_generation(1, 'lane')")


async def test_what_is_not_published_is_not_dropped(connection: Driver, lane_id: int) -> None:
    await connection.execute(OUTBOX, lane_id, 1)
    await connection.execute("call tm.roll_generation(1, 2)")
    drop = "call tm.drop_generation(1, 'outbox')"
    with pytest.raises(asyncpg.PostgresError, match="rows of 1 lanes"):
        await connection.execute(drop)
    await connection.execute("insert into tm.published values ($1, 5, 0)", lane_id)
    with pytest.raises(asyncpg.PostgresError, match="not known to be published"):
        await connection.execute(drop)
    await connection.execute("update tm.published set position = 6")
    await connection.execute(drop)
    await connection.execute(drop)
    assert await connection.fetchval("select to_regclass('tm.outbox_1')") is None


async def test_totals_outlive_the_ledger_and_the_last_part_takes_the_generation(
    connection: Driver, lane_id: int
) -> None:
    await connection.execute("call tm.roll_generation(1, 2)")
    await connection.execute(BATCH, lane_id, 2, 3, 12, 18)
    await connection.execute("call tm.roll_generation(2, 3)")
    for gen in (1, 2):
        for part in ("log", "batch", "outbox"):
            await connection.execute("call tm.drop_generation($1, $2)", gen, part)
    assert await only_row(connection, "select * from tm.ledger_total") == {
        "lane": lane_id, "records": 18, "applied": 9, "rejected": 6, "duplicate": 3, "parked": 0, "events": 9,
        "rows": None,
    }  # fmt: skip
    assert [row["gen"] for row in await connection.fetch("select gen from tm.generation")] == [3]
    assert await connection.fetchval("select to_offset from tm.batch") == 18


async def test_totals_count_one_row_for_each_command_whose_rows_were_not_counted(
    connection: Driver, lane_id: int
) -> None:
    await connection.execute("call tm.roll_generation(1, 2)")
    await connection.execute(BATCH, lane_id, 2, 3, 12, 18)
    await connection.execute("update tm.batch set rows = 500 where gen = 2 and applied > 0")
    await connection.execute("call tm.roll_generation(2, 3)")
    await connection.execute(BATCH, lane_id, 3, 4, 18, 24)
    await connection.execute("call tm.roll_generation(3, 4)")
    totals = []
    for gen in (1, 2, 3):
        await connection.execute("call tm.drop_generation($1, 'batch')", gen)
        totals.append(await only_row(connection, "select applied, rows from tm.ledger_total"))
    first, second, third = (dict(row) for row in totals)
    assert first["rows"] is None, "one each, as everything that was stored before"
    assert second["rows"] == first["applied"] + 500
    assert third["rows"] == second["rows"] + third["applied"] - second["applied"]


async def test_a_drop_gives_way_to_a_long_reader(database: str, connection: Driver, lane_id: int) -> None:
    await connection.execute("call tm.roll_generation(1, 2)")
    await connection.execute("set lock_timeout = 0")
    reader = await asyncpg.connect(database)
    try:
        await reader.execute("begin; select from tm.log")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await connection.execute("call tm.drop_generation(1, 'log')")
    finally:
        await reader.close()
    await connection.execute("call tm.drop_generation(1, 'log')")
