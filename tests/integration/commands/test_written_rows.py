"""How a batch writes its rows: in an order that suits the tables, and in their types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.support.engine.commands import Harness, base, create_lanes
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile, UpdateConnectorProfile
from tidemill.domain.stream import Stream
from tidemill.storage.commands.binary_copy import CopyColumn
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.copied_columns import LOG_COLUMNS, OUTBOX_COLUMNS
from tidemill.storage.database.pool import Pool, close_pool, create_pool

PROFILES = Stream.of(replace(connector_profiles, partitions=4))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, application_name="tidemill-tests", size=2)
    async with made.acquire() as connection:
        await create_lanes(connection, PROFILES)
    yield made
    await close_pool(made)


async def rows(pool: Pool, query: str, *values: Any) -> list[tuple[Any, ...]]:
    async with pool.acquire() as connection:
        return [tuple(row) for row in await connection.fetch(query, *values)]


async def test_rows_are_written_in_the_order_of_their_keys_whatever_that_of_the_records(
    pool: Pool,
) -> None:
    profiles = Harness(PROFILES, CommandDatabase(pool))
    await profiles.claim()
    keys = [f"p{number:02d}" for number in range(12)]

    def register(key: str) -> RegisterConnectorProfile:
        fields = base(profile_id=key, name=f"name of {key}", profile_data="{}")
        return RegisterConnectorProfile(**fields)

    in_the_table = "select id from public.connector_profiles order by ctid"
    await profiles.send(*(register(key) for key in reversed(keys)))
    assert await rows(pool, in_the_table) == [(key,) for key in keys]
    moves = [UpdateConnectorProfile(**base(profile_id=key, profile_data='{"n": 1}')) for key in keys]
    await profiles.send(*reversed(moves))
    assert await rows(pool, in_the_table) == [(key,) for key in keys]


@pytest.mark.parametrize(("table", "columns"), [("log", LOG_COLUMNS), ("outbox", OUTBOX_COLUMNS)])
async def test_rows_are_encoded_by_the_types_of_the_database(
    pool: Pool, table: str, columns: Sequence[CopyColumn]
) -> None:
    of_table = "select attname, typname from pg_attribute a join pg_type t on t.oid = a.atttypid"
    where = f"where attrelid = 'tm.{table}'::regclass and attnum > 0 order by attnum"
    assert await rows(pool, f"{of_table} {where}") == [(column.name, column.type) for column in columns]
