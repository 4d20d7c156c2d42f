"""The hourly aggregate of telemetry, which needs TimescaleDB's Community edition, beside the archive of its rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.retention.test_many_rows import LONG_AGO, command, context_of, harness_of, policy
from tests.support.archive.operator import around
from tests.support.archive.site import Archive, archive
from tests.support.engine.commands import create_lanes
from tidemill.api import LateRule
from tidemill.contexts.telemetry_events import context as telemetry_events
from tidemill.domain.stream import Stream
from tidemill.storage.migrations.migrate import upgrade

pytestmark = pytest.mark.community

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
OLD = [LONG_AGO + index * MINUTE for index in range(200)]
JOB = (
    "select job_id from timescaledb_information.jobs where proc_name = 'policy_refresh_continuous_aggregate'"
)
HOURLY = """
select bucket, source, name, events, numbers, total, lowest, highest from telemetry_events_hourly order by bucket
"""
FROM_ROWS = """
select time_bucket('1 hour', time) as bucket, source, name, count(*) as events, count(value) as numbers,
  sum(value) as total, min(value) as lowest, max(value) as highest from telemetry_events group by 1, 2, 3 order by 1
"""
OLDER = "call refresh_continuous_aggregate('telemetry_events_hourly', null, now() - interval '1 hour')"
"""What an operator calls once for rows that are older than the aggregate."""


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Archive]:
    """An archive of telemetry whose migration made the aggregate. Jobs run when a test says so."""
    async with archive(database, tmp_path / "lake", policy(LateRule.DIVERT)) as made:
        await made.pool.fetchval("select _timescaledb_functions.stop_background_workers()")
        await upgrade(database, contexts={"telemetry_events": None}, features=telemetry_events.community)
        async with made.pool.acquire() as connection:
            await create_lanes(connection, Stream.of(context_of(LateRule.DIVERT)))
        yield made


async def refresh(world: Archive) -> None:
    """Run the policy's job here and now."""
    await world.pool.execute(f"call run_job({await world.pool.fetchval(JOB)})")


async def hourly(world: Archive) -> list[tuple[Any, ...]]:
    """Return the sums as a reader sees them."""
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("set local role tidemill_reader")
        return [tuple(row) for row in await connection.fetch(HOURLY)]


async def from_rows(world: Archive) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await world.pool.fetch(FROM_ROWS)]


async def test_a_refresh_sums_the_hours_that_ended_and_leaves_the_present_one(world: Archive) -> None:
    harness, now = await harness_of(world, LateRule.DIVERT), world.clock.now()
    await harness.send(command(*(now - index * MINUTE for index in range(240))))
    rows = await from_rows(world)
    await refresh(world)
    sums = await hourly(world)
    assert 1 <= len(sums) <= 2, "of four hours the present one, the one before and the oldest wait"
    assert set(sums) < set(rows)


async def test_the_sums_of_rows_that_left_stay_through_refreshes_and_late_rows(
    world: Archive,
) -> None:
    harness, now = await harness_of(world, LateRule.DIVERT), world.clock.now()
    await harness.send(command(*OLD, *(now - index * MINUTE for index in range(240))))
    await world.pool.execute(OLDER)
    rows = await from_rows(world)
    old = [row for row in await hourly(world) if row[0] < LONG_AGO + DAY]
    assert old == [row for row in rows if row[0] < LONG_AGO + DAY]
    assert sum(row[3] for row in old) == len(OLD)

    await world.settle()
    await harness.send(command(LONG_AGO))
    await world.answer()
    await around(world)
    assert await world.states() == ["dropped", "dropped"]
    await refresh(world)
    assert [row for row in await hourly(world) if row[0] < LONG_AGO + DAY] == old
