"""Databases are made once, however many ask at the same moment, and dropped with whoever is connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.servers.databases import database_of, fetch
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill_devkit.databases import create_database, databases_beginning, drop_database
from tidemill_devkit.stack import Stack


@pytest.fixture
async def pool(stack: Stack) -> AsyncIterator[Pool]:
    made = await create_pool(stack.database_url, application_name="tidemill tests", size=4)
    yield made
    await close_pool(made)


async def test_of_several_who_ask_at_once_one_makes_it(
    stack: Stack, pool: Pool, unique_name: Callable[[str], str]
) -> None:
    name = unique_name('data "base"').replace("-", "_")
    try:
        made = await asyncio.gather(*(create_database(pool, name) for _ in range(4)))
        assert sorted(made) == [False, False, False, True]
        assert await create_database(pool, name) is False
        assert await databases_beginning(pool, name) == [name]
    finally:
        await drop_database(pool, name)
    assert await databases_beginning(pool, name) == []


async def test_a_database_is_dropped_under_its_users(
    stack: Stack, pool: Pool, unique_name: Callable[[str], str]
) -> None:
    name = unique_name("database").replace("-", "_")
    assert await create_database(pool, name)
    user = await create_pool(database_of(stack.database_url, name), application_name="tidemill user", size=1)
    await drop_database(pool, name)
    assert fetch(stack.database_url, "select 1 from pg_database where datname = $1", name) == []
    await close_pool(user)
