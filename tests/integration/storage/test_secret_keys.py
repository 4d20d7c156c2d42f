"""Erasure and rotation beside a batch that uses the keys: the first waits for it, the second does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.engine.secret_contexts import BOTH, NEW, OLD, OLD_ONLY
from tests.support.servers.databases import fetch
from tests.support.waiting import eventually
from tidemill.security.data_keys import DataKey, SecretKeyRow
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.security.data_keys import DataKeyTransaction
from tidemill.storage.security.secret_keys import SecretKeyDatabase

BLOCKED = """
select from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and query like '%tm.secret_key%'
"""
ROW = OLD_ONLY.wrap(DataKey.fresh(1), "doors", "d1")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await create_pool(database, application_name="tidemill-tests", size=4)
    async with pool.acquire() as borrowed, borrowed.transaction():
        await DataKeyTransaction(borrowed).add(OLD, [ROW])
    yield pool
    await close_pool(pool)


def rewrapped(rows: list[SecretKeyRow]) -> list[SecretKeyRow]:
    return [BOTH.wrap(BOTH.unwrap(row), row.collection, row.key) for row in rows]


async def test_an_erasure_waits_for_a_batch_that_uses_the_key_and_a_rotation_does_not(
    pool: Pool, database: str
) -> None:
    keys = SecretKeyDatabase(pool)
    async with pool.acquire() as borrowed, borrowed.transaction():
        assert await DataKeyTransaction(borrowed).load("doors", ["d1"]) == [ROW]
        _, changed = await keys.rewrap(NEW, None, 10, rewrapped)  # type: ignore[arg-type]  # a list is enough
        assert changed == 1
        erasure = asyncio.create_task(keys.erase("doors", "d1"))
        await eventually(lambda: fetch(database, BLOCKED), what="the erasure to wait")
        assert not erasure.done()
    assert await erasure == 1
    assert [row.wrapped for row in await keys.stored("doors", "d1")] == [None]


async def test_a_batch_that_waited_for_an_erasure_sees_it(pool: Pool, database: str) -> None:
    async with pool.acquire() as erasing:
        transaction = erasing.transaction()
        await transaction.start()
        await erasing.execute("select from tm.secret_key for update")
        await erasing.execute("update tm.secret_key set wrapped = null, erased_at = clock_timestamp()")
        async with pool.acquire() as borrowed, borrowed.transaction():
            loading = asyncio.create_task(DataKeyTransaction(borrowed).load("doors", ["d1"]))
            await eventually(lambda: fetch(database, BLOCKED), what="the batch to wait")
            await transaction.commit()
            assert [row.wrapped for row in await loading] == [None]


async def test_a_master_key_in_use_by_a_batch_is_not_removed_under_it(pool: Pool, database: str) -> None:
    keys = SecretKeyDatabase(pool)
    await keys.rewrap(NEW, None, 10, rewrapped)  # type: ignore[arg-type]  # a list is enough
    async with pool.acquire() as borrowed, borrowed.transaction():
        row = OLD_ONLY.wrap(DataKey.fresh(1), "doors", "d2")
        await DataKeyTransaction(borrowed).add(OLD, [row])
        removal = asyncio.create_task(keys.drop_unused_masters("new"))
        waits = BLOCKED.replace("tm.secret_key", "tm.secret_master")
        await eventually(lambda: fetch(database, waits), what="the removal to wait")
    assert await removal == []
    assert sorted(await keys.masters()) == ["new", "old"]
