"""What a migration adds on TimescaleDB's Community edition, and what happens on the Apache edition."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.servers.databases import execute, fetch
from tidemill.admin.setup.revisions import MigrationStep
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.telemetry_events import context as telemetry_events
from tidemill.contexts.telemetry_events import telemetry_events as events
from tidemill.contexts.time_series import context as time_series
from tidemill.storage.database.community_sql import has_table, statements_of
from tidemill.storage.database.pool import create_pool
from tidemill.storage.migrations.community import EditionDatabase
from tidemill.storage.migrations.migrate import downgrade, upgrade

FEATURES = (*market_data.community, *telemetry_events.community, *time_series.community)
CONTEXTS = {"market_data": None, "telemetry_events": None, "time_series": None}
JOBS = "select proc_name, schedule_interval::text from timescaledb_information.jobs where hypertable_name is not null"


@pytest.fixture
def apache(timescaledb_edition: str) -> None:
    if timescaledb_edition != "apache":
        pytest.skip("shows what the Apache edition refuses")


@pytest.mark.usefixtures("apache")
async def test_the_apache_edition_is_migrated_without_any_of_it(database: str) -> None:
    assert await upgrade(database, contexts=CONTEXTS, features=FEATURES) == []
    pool = await create_pool(f"{database}?role=tidemill_service", application_name="tidemill-tests", size=1)
    try:
        found = await EditionDatabase(pool).features()
    finally:
        await pool.close()
    assert (found.is_community, found.present) == (False, frozenset())


@pytest.mark.usefixtures("apache")
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_the_apache_edition_understands_the_first_statement_and_refuses_it_for_its_license(
    database: str, feature: object
) -> None:
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="license"):
        execute(database, statements_of(feature)[0])


def test_a_table_that_is_not_there_gets_nothing(database: str) -> None:
    assert fetch(database, has_table(events))[0][0] is True
    execute(database, "drop table public.telemetry_events cascade")
    assert fetch(database, has_table(events))[0][0] is False


@pytest.mark.community
async def test_a_database_that_lacks_it_gets_it_at_its_next_migration_and_once(database: str) -> None:
    """The fixture's migration knows of no features, as one on the Apache edition that adds none."""
    steps = await upgrade(database, contexts=CONTEXTS, features=FEATURES)
    assert steps == [MigrationStep("community", feature.name, "up") for feature in FEATURES]
    assert await upgrade(database, contexts=CONTEXTS, features=FEATURES) == []
    jobs = {row["proc_name"] for row in fetch(database, JOBS)}
    assert {"policy_compression", "policy_refresh_continuous_aggregate"} <= jobs


@pytest.mark.community
async def test_hourly_sums_stay_when_the_rows_leave(database: str) -> None:
    await upgrade(database, contexts=CONTEXTS, features=FEATURES)
    execute(
        database,
        "insert into telemetry_events (time, source, name, value, attributes, command_id) "
        "select now() - interval '30 days', 'boiler', 'heat', n, '{}', gen_random_uuid() from generate_series(1, 4) n",
        "call refresh_continuous_aggregate('telemetry_events_hourly', null, now() - interval '1 hour')",
        "select _timescaledb_functions.drop_chunk(chunk) from show_chunks('telemetry_events') chunk",
        "call refresh_continuous_aggregate('telemetry_events_hourly', now() - interval '3 hours', "
        "now() - interval '1 hour')",
    )
    sums = fetch(database, "select sum(events) as events, sum(total) as total from telemetry_events_hourly")
    assert (sums[0]["events"], sums[0]["total"]) == (4, 10.0)


@pytest.mark.community
async def test_the_way_back_drops_the_aggregate_before_its_table(database: str) -> None:
    await upgrade(database, contexts=CONTEXTS, features=FEATURES)
    await downgrade(database, targets=["telemetry_events@base"], contexts=CONTEXTS)
    assert fetch(database, "select to_regclass('public.telemetry_events_hourly') as view")[0]["view"] is None
