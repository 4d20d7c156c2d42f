"""Databases with the tables of `tests.support.engine.collections`, and readers of them as the readers' role."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.engine.collections import create_collections
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.queries.rows import CollectionDatabase


@pytest.fixture
async def samples_url(database: str) -> str:
    await create_collections(database)
    return database


@pytest.fixture
async def reading_pool(samples_url: str) -> AsyncIterator[Pool]:
    pool = await create_pool(
        f"{samples_url}?role=tidemill_reader", application_name="tidemill-reads", size=2, writes=False
    )
    yield pool
    await close_pool(pool)


@pytest.fixture
def store(reading_pool: Pool) -> CollectionDatabase:
    return CollectionDatabase(reading_pool, reading_pool)
