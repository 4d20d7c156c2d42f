"""Read models as the readers' role sees them: it may look, and no more, and not indefinitely."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from sqlalchemy import Column, Text

from tests.support.engine.projections import create_tables, days, read_model, stocks
from tidemill.domain.errors import TableMisfit, UsageError
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.read_models.pages import ReadModelDatabase


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    create_tables(database)
    as_reader = f"{database}?role=tidemill_reader"
    pool = await create_pool(as_reader, application_name="tidemill-tests", size=2, writes=False)
    yield pool
    await close_pool(pool)


async def test_a_reader_needs_no_more_than_select(pool: Pool) -> None:
    assert await ReadModelDatabase(pool).read(stocks, [], 10) == []


async def test_a_transaction_cannot_write(pool: Pool) -> None:
    async with pool.acquire() as borrowed, borrowed.transaction(readonly=True):
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await borrowed.execute("create table public.mine ()")


async def test_a_table_without_a_grant_is_refused(pool: Pool) -> None:
    with pytest.raises(TableMisfit, match="days cannot be read: 42501: permission denied for table days"):
        await ReadModelDatabase(pool).read(days, [], 10)


async def test_a_read_model_without_a_table_is_said(pool: Pool) -> None:
    missing = replace(
        stocks,
        table=read_model(
            "nowhere", Column("good", Text, primary_key=True), Column("amount", Text), Column("labels", Text)
        ),
    )
    with pytest.raises(TableMisfit, match=r"stocks cannot be read: 42P01: .*`tidemill status` says"):
        await ReadModelDatabase(pool).read(missing, [], 10)


async def test_an_answer_that_takes_too_long_is_given_up(database: str, pool: Pool) -> None:
    locking = await asyncpg.connect(database)
    async with locking.transaction():
        await locking.execute("lock table stocks in access exclusive mode")
        with pytest.raises(UsageError, match="did not answer within 100 ms"):
            await ReadModelDatabase(pool, timeout_ms=100).read(stocks, [], 10)
    await locking.close()
