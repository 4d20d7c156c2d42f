"""A server that changes its edition of TimescaleDB by its setting, as an operator does who moves to the other one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from tests.support.archive.operator import CONTENT, around, bring, ranges
from tests.support.archive.site import TABLE, Archive, archive
from tests.support.servers.databases import execute
from tests.support.waiting import HANGING_S, eventually
from tidemill.admin.setup.revisions import MigrationStep
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.telemetry_events import context as telemetry_events
from tidemill.contexts.time_series import context as time_series
from tidemill.domain.archive.slices import SealMode
from tidemill.domain.community import lacking
from tidemill.storage.migrations.community import EditionDatabase
from tidemill.storage.migrations.migrate import upgrade

pytestmark = [pytest.mark.community, pytest.mark.breaks_servers]

CONTEXTS = (market_data, telemetry_events, time_series)
DECLARED = {context.aggregate: context.community for context in CONTEXTS}
FEATURES = [feature for features in DECLARED.values() for feature in features]
OWN = {context.name: None for context in CONTEXTS}
JOB = """
select job_id from timescaledb_information.jobs
where proc_name = 'policy_compression' and hypertable_name = 'market_data'
"""
Become = Callable[[str], Awaitable[None]]


@pytest.fixture
async def become(breakable_database: str) -> AsyncIterator[Become]:
    """Makes the server of `breakable_database` one of the edition `apache` or `timescale`."""

    async def seen() -> str:
        connection = await asyncpg.connect(breakable_database, timeout=HANGING_S, command_timeout=HANGING_S)
        try:
            return str(await connection.fetchval("show timescaledb.license"))
        finally:
            await connection.close()

    async def change(edition: str) -> None:
        setting = f"alter system set timescaledb.license = '{edition}'"
        execute(breakable_database, setting, "select pg_reload_conf()")

        async def is_changed() -> bool:
            return await seen() == edition

        await eventually(is_changed, what=f"new sessions are of the {edition} edition")

    yield change
    execute(breakable_database, "alter system reset timescaledb.license", "select pg_reload_conf()")


async def names_lacking(world: Archive) -> list[str]:
    """Return the features that `tidemill status` shows as missing."""
    edition = await EditionDatabase(world.pool).features()
    return [missing.feature for missing in lacking(DECLARED, edition)]


async def run_policy(world: Archive) -> None:
    await world.pool.execute(f"call run_job({await world.pool.fetchval(JOB)})")


async def test_a_database_gets_the_features_at_its_next_migration_and_keeps_what_was_sealed(
    breakable_database: str, become: Become, tmp_path: Path
) -> None:
    await become("apache")
    assert await upgrade(breakable_database, contexts=OWN, features=FEATURES) == []
    async with archive(breakable_database, tmp_path / "lake") as world:
        assert await names_lacking(world) == [feature.name for feature in FEATURES]
        await world.fill(2010)
        await world.settle()
        content = await world.pool.fetchval(CONTENT)
        assert (await world.store.seal_mode(), await world.frozen()) == (SealMode.LOCK, [])

        await become("timescale")
        steps = await upgrade(breakable_database, contexts=OWN, features=FEATURES)
        assert steps == [MigrationStep("community", feature.name, "up") for feature in FEATURES]
        assert await names_lacking(world) == []
        await run_policy(world)
        (chunk,) = (await world.store.facts(TABLE)).chunks
        assert chunk.compressed, "what is sealed, but not frozen, is compressed under the seal"
        await world.answer()
        await world.settle()
        assert (await world.states(), await world.hot()) == (["dropped"], 0), "the digest is the same"
        for back in await ranges(world):
            await bring(world, back)
        assert await world.pool.fetchval(CONTENT) == content


async def test_a_database_that_goes_back_to_apache_is_said_to_lack_them_again(
    breakable_database: str, become: Become, tmp_path: Path
) -> None:
    await become("timescale")
    await upgrade(breakable_database, contexts=OWN, features=FEATURES)
    async with archive(breakable_database, tmp_path / "lake") as world:
        await become("apache")
        assert await names_lacking(world) == [feature.name for feature in FEATURES]
        await world.fill(2010)
        await around(world)
        assert (await world.states(), await world.hot()) == (["dropped"], 0)
    assert await upgrade(breakable_database, contexts=OWN, features=FEATURES) == []
