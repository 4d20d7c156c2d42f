"""What the database says of itself to callers: tables, sizes, plans; on the real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tidemill.admin.service.rows import TablePlace
from tidemill.domain.errors import ContractError, DataError
from tidemill.storage.admin.service import ServiceDatabase
from tidemill.storage.database.pool import close_pool, create_pool

TICKS = TablePlace("public", "market_data")
PROFILES = TablePlace("public", "connector_profiles")
ABSENT = TablePlace("public", "nowhere")


@pytest.fixture
async def facts(database: str) -> AsyncIterator[ServiceDatabase]:
    pool = await create_pool(database, application_name="tidemill-tests", size=1)
    yield ServiceDatabase(pool)
    await close_pool(pool)


@pytest.fixture
async def operator(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


async def add_ticks(operator: asyncpg.Connection[Any], chunks: int) -> None:
    columns = await operator.fetch(
        "select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute "
        "where attrelid = 'public.market_data'::regclass and attnum > 0 and attnotnull order by attnum"
    )
    values = {"timestamp with time zone": "$1::timestamptz", "uuid": "gen_random_uuid()", "text": "'AAPL'"}
    made = ", ".join(values.get(row["type"], "1") for row in columns)
    names = ", ".join(row["name"] for row in columns)
    for number in range(chunks):
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=400 * number)
        await operator.execute(f"insert into public.market_data ({names}) values ({made})", at)


async def test_a_hypertable_is_described_with_its_newest_chunks_first(
    facts: ServiceDatabase, operator: asyncpg.Connection[Any]
) -> None:
    await add_ticks(operator, 4)
    described = await facts.describe([TICKS, PROFILES, ABSENT], max_chunks=2)
    assert described.keys() == {TICKS, PROFILES}
    ticks = described[TICKS]
    assert ticks.hypertable is not None
    assert (ticks.hypertable.time_column, ticks.hypertable.chunks) == ("time", 4)
    assert ticks.hypertable.last_chunk_created is not None
    assert ticks.hypertable.chunk_interval
    assert len(ticks.chunks) == 2
    newest, older = ticks.chunks
    assert newest.range_start >= older.range_end
    assert newest.range_start <= datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=1_200) < newest.range_end
    assert newest.size_bytes > 0
    assert newest.chunk_name.startswith("_timescaledb_internal.")
    assert {"core", "market_data"} <= ticks.first_applied.keys()
    assert ticks.columns["time"].type == "timestamp with time zone"


async def test_a_plain_table_is_described_with_its_indexes_and_constraints(facts: ServiceDatabase) -> None:
    profiles = (await facts.describe([PROFILES], max_chunks=2))[PROFILES]
    assert profiles.hypertable is None
    assert profiles.chunks == []
    unique = {index.name: index for index in profiles.indexes if index.unique}
    assert list(unique["connector_profiles_active_name"].columns) == ["service_name", "name"]
    assert not unique["connector_profiles_active_name"].plain, "it holds active rows only"
    assert any(one.definition == "PRIMARY KEY (id)" and one.columns == ["id"] for one in profiles.constraints)


async def test_sizes_are_estimated_and_read_no_row(
    facts: ServiceDatabase, operator: asyncpg.Connection[Any]
) -> None:
    await add_ticks(operator, 3)
    before = (await facts.sizes([TICKS, PROFILES, ABSENT]))[TICKS]
    assert before.rows is None, "it was never analysed"
    await operator.execute("analyze public.market_data")
    sizes = await facts.sizes([TICKS, PROFILES, ABSENT])
    assert sizes.keys() == {TICKS, PROFILES}
    assert (sizes[TICKS].rows, sizes[TICKS].chunks) == (3, 3)
    assert sizes[TICKS].bytes > 3 * 8_192
    assert sizes[PROFILES].chunks == 0


async def test_the_server_says_that_timescaledb_is_there(facts: ServiceDatabase) -> None:
    server = await facts.server()
    assert server.timescaledb is not None
    assert server.active >= 1, "the question itself"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select * from public.connector_profiles where id = $1", True),
        ("select * from public.connector_profiles where id = $1 and name = $2 limit $3", True),
        ("select 1", False),
        ("select * from generate_series(1, $1::int)", False),
    ],
)
async def test_a_plan_says_whether_an_index_is_used(
    database: str, operator: asyncpg.Connection[Any], sql: str, expected: bool
) -> None:
    name = await operator.fetchval("select quote_ident(current_database())")
    await operator.execute(f"alter database {name} set enable_seqscan = off")  # the table is empty
    pool = await create_pool(database, application_name="tidemill-tests", size=1)
    assert await ServiceDatabase(pool).uses_index(sql) is expected
    await close_pool(pool)


async def test_a_query_is_planned_and_not_run(
    facts: ServiceDatabase, operator: asyncpg.Connection[Any]
) -> None:
    await operator.execute("create sequence public.runs")
    await facts.uses_index("select nextval('public.runs') where $1::int is null")
    assert await operator.fetchval("select is_called from public.runs") is False


async def test_what_cannot_be_planned_is_refused_and_leaves_nothing(facts: ServiceDatabase) -> None:
    with pytest.raises(ContractError):
        await facts.uses_index("select * from public.nowhere where a = $1")
    with pytest.raises(ContractError):
        await facts.uses_index("selec 1")
    with pytest.raises(DataError):
        await facts.uses_index("select 1 where $1::text = 'a' and 1 / (1 - 1) = 1")
    assert await facts.uses_index("select 1") is False
