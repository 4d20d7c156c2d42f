"""Rows whose table a newer version has extended, and to whose lanes this version came back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.support.engine.commands import Harness, base, create_lanes
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile, UpdateConnectorProfile
from tidemill.domain.stream import Stream
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.errors import OutOfDate
from tidemill.storage.database.pool import Pool, close_pool, create_pool

PROFILES = Stream.of(replace(connector_profiles, partitions=4))

COLUMNS = """
alter table public.connector_profiles
  add column site text, add column "Odd ""name" interval, add column tags text[] not null default '{}',
  add column initial text generated always as (left(name, 1)) stored, add column number int generated always as identity
"""
ADDED = """
select site, "Odd ""name" = '1 month 2 days 0.000001 s' as odd, tags, initial from public.connector_profiles order by id
"""


def register(profile_id: str, name: str) -> RegisterConnectorProfile:
    return RegisterConnectorProfile(**base(profile_id=profile_id, name=name, profile_data="{}"))


def rename(profile_id: str, name: str) -> UpdateConnectorProfile:
    return UpdateConnectorProfile(**base(profile_id=profile_id, name=name))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, application_name="tidemill-tests", size=8)
    async with made.acquire() as connection:
        await create_lanes(connection, PROFILES)
    yield made
    await close_pool(made)


async def test_what_a_newer_version_added_to_a_row_stays_when_the_row_is_written_anew(pool: Pool) -> None:
    """Lanes may be handed back to this version while the newer one's columns are there, and filled."""
    profiles = Harness(PROFILES, CommandDatabase(pool))
    await profiles.claim()
    await profiles.send(register("p1", "a"), register("p2", "b"))
    await pool.execute(COLUMNS)
    await pool.execute(
        """update public.connector_profiles set site = 'site of ' || id, tags = array[id, 'x,"y'],
           "Odd ""name" = '1 month 2 days 0.000001 s'"""
    )
    records = [
        profiles.topic.record(each) for each in (rename("p1", "b2"), rename("p2", "c"), register("p3", "d"))
    ]
    with pytest.raises(
        OutOfDate
    ):  # of the session that wrote the table as it was; it is left, and the batch tried again
        await profiles.apply(*records)
    await profiles.apply(*records)
    rows = [tuple(row) for row in await pool.fetch(ADDED)]
    assert rows == [
        ("site of p1", True, ["p1", 'x,"y'], "b"),
        ("site of p2", True, ["p2", 'x,"y'], "c"),
        (None, None, [], "d"),
    ]
    assert await pool.fetchval("select max(version) from public.connector_profiles") == 2
