"""A query ends: in time, with its client, and without keeping a connection."""

from __future__ import annotations

import asyncio
from random import Random

import asyncpg
import pytest

from tests.support.engine.collections import all_collections, insert, random_row
from tests.support.waiting import eventually, next_turn
from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.collections import VisibleCollection
from tidemill.queries.reader import CollectionReader
from tidemill.queries.request import CountMode, CountRequest, PageRequest
from tidemill.storage.database.pool import Pool, PoolLimits, close_pool, create_pool
from tidemill.storage.queries.rows import CollectionDatabase

SAMPLES = all_collections().visible("samples")
BUSY = """
select count(*) from pg_stat_activity
where application_name = 'tidemill-reads' and datname = current_database() and state <> 'idle'
"""


async def asked(store: CollectionDatabase, kind: str, timeout_s: float = 5.0) -> object:
    reader = CollectionReader(store, key=b"k")
    if kind == "document":
        return await reader.document(SAMPLES, ["a"], timeout_s=timeout_s)
    if kind == "count":
        return await reader.count(SAMPLES, CountRequest(mode=CountMode.EXACT, timeout_s=timeout_s))
    return await reader.page(SAMPLES, PageRequest(timeout_s=timeout_s))


KINDS = pytest.mark.parametrize("kind", ["document", "page", "count"])


@KINDS
async def test_a_query_that_takes_too_long_is_refused(
    samples_url: str, store: CollectionDatabase, kind: str
) -> None:
    locking = await asyncpg.connect(samples_url)
    async with locking.transaction():
        await locking.execute("lock table samples in access exclusive mode")
        with pytest.raises(RequestRefused) as refused:
            await asked(store, kind, 0.1)
    await locking.close()
    assert refused.value.request_code is RequestCode.QUERY_TIMEOUT
    assert "samples" not in refused.value.detail
    await asked(store, kind)


@KINDS
async def test_a_query_ends_with_the_task_that_asked_and_the_pool_stays_whole(
    samples_url: str, reading_pool: Pool, store: CollectionDatabase, kind: str
) -> None:
    locking, watching = await asyncpg.connect(samples_url), await asyncpg.connect(samples_url)
    for _ in range(5):  # more often than there are connections
        transaction = locking.transaction()
        await transaction.start()
        await locking.execute("lock table samples in access exclusive mode")
        task = asyncio.create_task(asked(store, kind))
        await eventually(
            lambda: watching.fetchval(f"{BUSY} and wait_event_type = 'Lock'"), what="the query waits"
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # while the lock is still held: the server was told to end it
        await eventually(lambda: _none(watching), what="the server ends the query")
        await transaction.rollback()
    assert reading_pool.get_idle_size() == reading_pool.get_size()
    await locking.close()
    await watching.close()
    for _ in range(3):
        await asked(store, kind)


async def _none(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    return bool(await connection.fetchval(BUSY) == 0)


@KINDS
async def test_without_a_free_connection_a_request_is_refused_soon(
    samples_url: str, reading_pool: Pool, kind: str
) -> None:
    store = CollectionDatabase(reading_pool, reading_pool, acquire_timeout_s=0.01)
    async with reading_pool.acquire(), reading_pool.acquire():
        with pytest.raises(RequestRefused) as refused:
            await asked(store, kind)
    assert refused.value.request_code is RequestCode.OVERLOADED
    assert refused.value.retry_after_s == 1.0
    await asked(store, kind)


async def test_counts_wait_for_connections_of_their_own(samples_url: str, reading_pool: Pool) -> None:
    counting = await create_pool(samples_url, application_name="tidemill-counts", size=1, writes=False)
    store = CollectionDatabase(reading_pool, counting, acquire_timeout_s=0.01)
    async with counting.acquire():
        await asked(store, "page")
        with pytest.raises(RequestRefused):
            await asked(store, "count")
    await close_pool(counting)


@KINDS
async def test_an_unavailable_database_is_said(
    store: CollectionDatabase, reading_pool: Pool, kind: str
) -> None:
    reading_pool.terminate()
    with pytest.raises(RequestRefused) as refused:
        await asked(store, kind)
    assert refused.value.request_code is RequestCode.DATABASE_AWAY


@KINDS
@pytest.mark.parametrize(
    "change",
    [
        "drop table samples",
        "alter table samples drop column rate, drop column version",
        "revoke select on samples from tidemill_reader",
    ],
)
async def test_a_collection_whose_table_is_not_as_declared_is_unavailable_alone(
    samples_url: str, store: CollectionDatabase, kind: str, change: str
) -> None:
    owner = await asyncpg.connect(samples_url)
    if "column" in change and kind == "count":
        change = "drop table samples"  # a count needs no column
    await owner.execute(change)
    await owner.close()
    with pytest.raises(RequestRefused) as refused:
        await asked(store, kind)
    assert refused.value.request_code is RequestCode.DATABASE_AWAY
    assert "tidemill status" in refused.value.detail
    bars: VisibleCollection = all_collections().visible("bars")
    assert (await CollectionReader(store, key=b"k").page(bars, PageRequest())).rows == b"[]"


async def test_a_statement_is_prepared_once_for_a_shape(
    samples_url: str, store: CollectionDatabase, reading_pool: Pool
) -> None:
    await insert(samples_url, SAMPLES, [random_row(Random(1), number) for number in range(3)])
    reader = CollectionReader(store, key=b"k")
    for number in range(3):
        assert await reader.document(SAMPLES, [f"k{number:05d}"], ("id",)) is not None
    async with reading_pool.acquire() as borrowed:
        statements = await borrowed.fetch("select statement from pg_prepared_statements")
    documents = [row[0] for row in statements if "as body" in row[0]]
    assert len(documents) == 1


@pytest.mark.parametrize("cleans", [False, True])
async def test_what_pages_need_is_set_once_for_a_session_unless_it_is_cleaned(
    samples_url: str, cleans: bool
) -> None:
    pool = await create_pool(
        samples_url, application_name="tidemill-reads", size=PoolLimits(1, cleans=cleans)
    )
    statements: list[str] = []
    async with pool.acquire() as borrowed:
        borrowed.add_query_logger(lambda record: statements.append(record.query))
    store = CollectionDatabase(pool, pool)
    for timeout_s in (5.0, 5.0, 4.0, 4.0):
        await asked(store, "page", timeout_s)
    await next_turn()
    settings = [one for one in statements if one.startswith("set statement_timeout")]
    assert [one.split(";")[0] for one in settings] == [
        f"set statement_timeout = {ms}" for ms in ([5000, 5000, 4000, 4000] if cleans else [5000, 4000])
    ]
    assert not any(one.startswith("begin") for one in statements)
    assert len([one for one in statements if one.startswith("select convert_to")]) == 4
    await close_pool(pool)
