"""What `TableCatalog`, `ServerInspector`, `PlanReader` and `PoolReader` promise, of the fakes and the real ones alike.

Their module is `tidemill.admin.service.ports`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from tests.fakes.service import MemoryPlans, MemoryPools, MemoryServer, MemoryTables, pool_status, table_facts
from tidemill.admin.service.pool_config import PoolConfig
from tidemill.admin.service.ports import PlanReader, PoolReader, ServerInspector, TableCatalog
from tidemill.admin.service.rows import ChunkRow, TablePlace, TableSize
from tidemill.domain.errors import ContractError
from tidemill.storage.admin.service import ServiceDatabase
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.database.work_pool import PoolServer, WorkPool, WorkPools

GOODS = TablePlace("public", "goods")
ABSENT = TablePlace("public", "nowhere")
READ = "select name from public.goods where good = $1"
ALL = "select * from generate_series(1, $1::int)"
WRONG = "select name from public.nowhere where good = $1"


@dataclass
class Subject:
    tables: TableCatalog
    server: ServerInspector
    plans: PlanReader
    pools: PoolReader


def in_memory() -> Subject:
    facts = table_facts(good="integer", name="text", at="timestamp with time zone")
    chunk = ChunkRow(
        "_timescaledb_internal.a", facts.first_applied["core"], facts.first_applied["core"], False, 1
    )
    return Subject(
        MemoryTables({GOODS: facts._replace(chunks=[chunk] * 3)}, {GOODS: TableSize(0, 8_192, 3)}),
        MemoryServer(),
        MemoryPlans({READ}, {WRONG: ContractError("there is no such table")}),
        MemoryPools([pool_status("read", size=1), pool_status("count", size=1)]),
    )


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield in_memory()
        return
    url = request.getfixturevalue("database")
    operator = await asyncpg.connect(url)
    await operator.execute(
        "create table public.goods (good int, name text, at timestamptz not null, primary key (good, at));"
        "select create_hypertable('public.goods', 'at', chunk_time_interval => interval '1 day');"
        "insert into public.goods select 1, 'tea', timestamptz '2026-01-01' + n * interval '1 day'"
        " from generate_series(1, 3) n"
    )
    name = await operator.fetchval("select quote_ident(current_database())")
    await operator.execute(f"alter database {name} set enable_seqscan = off")  # else none pays for three rows
    await operator.close()
    pool = await create_pool(url, application_name="tidemill-tests", size=1)
    server, database = PoolServer(url=url), ServiceDatabase(pool)
    pools = WorkPools({name: WorkPool(server, PoolConfig(name=name, size=1)) for name in ("read", "count")})
    yield Subject(database, database, database, pools)
    await close_pool(pool)


async def test_only_what_exists_is_described(subject: Subject) -> None:
    described = await subject.tables.describe([GOODS, ABSENT], max_chunks=2)
    assert described.keys() == {GOODS}
    columns = described[GOODS].columns
    assert {name: column.type for name, column in columns.items()} == {
        "good": "integer",
        "name": "text",
        "at": "timestamp with time zone",
    }
    assert described[GOODS].first_applied


async def test_no_more_chunks_than_asked_for(subject: Subject) -> None:
    for most in (0, 2, 9):
        described = await subject.tables.describe([GOODS], max_chunks=most)
        assert len(described[GOODS].chunks) == min(most, 3)


async def test_only_what_exists_has_a_size(subject: Subject) -> None:
    sizes = await subject.tables.sizes([ABSENT, GOODS])
    assert sizes.keys() == {GOODS}
    assert (sizes[GOODS].bytes > 0, sizes[GOODS].chunks) == (True, 3)
    assert await subject.tables.sizes([]) == {}


async def test_the_server_says_what_it_is(subject: Subject) -> None:
    server = await subject.server.server()
    assert server.database
    assert server.timescaledb is not None
    assert server.active >= 1


async def test_a_plan_is_looked_at_for_any_values(subject: Subject) -> None:
    assert await subject.plans.uses_index(READ) is True
    assert await subject.plans.uses_index(ALL) is False
    with pytest.raises(ContractError):
        await subject.plans.uses_index(WRONG)
    assert await subject.plans.uses_index(READ) is True


async def test_pools_are_in_one_order(subject: Subject) -> None:
    assert [pool.name for pool in subject.pools.statuses()] == ["read", "count"]
    names = [one.service_name for one in subject.pools.configurations()]
    assert [name.rpartition(" ")[2] for name in names] == ["read", "count"]
    assert [one.pool_size for one in subject.pools.configurations()] == [1, 1]
