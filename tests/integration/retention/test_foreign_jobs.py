"""What the catalogue tells of TimescaleDB's own jobs: refreshes of continuous aggregates, and drops without a copy.

The Apache edition makes neither, so there the catalogue's rows are written by hand: it reads them like any others.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.archive.operator import around
from tests.support.archive.site import TABLE, Archive
from tidemill.retention.planner import plan
from tidemill.retention.timescale_jobs import ContinuousAggregate, DropJob
from tidemill.storage.retention.work import ArchiveTransaction

NO_JOB = """
create table public.by_hour_rows (bucket timestamptz not null, n bigint);
select create_hypertable('public.by_hour_rows', by_range('bucket'));
create view public.by_hour as select * from public.by_hour_rows;
insert into _timescaledb_catalog.continuous_agg (mat_hypertable_id, raw_hypertable_id, user_view_schema, user_view_name,
    partial_view_schema, partial_view_name, direct_view_schema, direct_view_name)
  select m.id, r.id, 'public', 'by_hour', 'public', 'by_hour', 'public', 'by_hour'
  from _timescaledb_catalog.hypertable m, _timescaledb_catalog.hypertable r
  where m.table_name = 'by_hour_rows' and r.table_name = 'market_data';
"""
JOB = """
insert into _timescaledb_config.bgw_job (application_name, schedule_interval, max_runtime, max_retries, retry_period,
    proc_schema, proc_name, scheduled, hypertable_id, config)
  select 'planted', '1 day', '0', 1, '1 day', '_timescaledb_functions', $1, false, id, $3::text::jsonb
  from _timescaledb_catalog.hypertable where table_name = $2
"""
VIEW = """
create materialized view public.by_hour with (timescaledb.continuous) as
select time_bucket('1 hour', time) as bucket, count(*) from public.market_data group by 1 with no data
"""
BOUND = """
select add_continuous_aggregate_policy('public.by_hour', start_offset => interval '30 days',
  end_offset => interval '1 hour', schedule_interval => interval '1 hour', initial_start => now() + interval '1 year')
"""
REFRESH = "policy_refresh_continuous_aggregate"


@pytest.fixture
def _by_hand(timescaledb_edition: str) -> None:
    if timescaledb_edition != "apache":
        pytest.skip("writes the catalogue by hand, as only the Apache edition bears it")


async def plant(world: Archive, name: str, table: str, config: str) -> None:
    await world.pool.execute(JOB, name, table, config)


async def views(world: Archive) -> tuple[ContinuousAggregate, ...]:
    return (await world.store.facts(TABLE)).views


async def test_a_table_without_views_and_jobs_has_none(world: Archive) -> None:
    facts = await world.store.facts(TABLE)
    assert (facts.views, facts.drop_jobs) == ((), ())


@pytest.mark.usefixtures("_by_hand")
async def test_a_view_keeps_chunks_until_a_policy_bounds_its_refreshes(world: Archive) -> None:
    await world.fill(2010)
    await world.pool.execute(NO_JOB)
    assert await views(world) == (ContinuousAggregate("public.by_hour", None),)
    found = await world.round()
    assert not found.moved
    assert "public.by_hour" in found.problems[0]
    await plant(world, REFRESH, "by_hour_rows", '{"start_offset": "30 days", "end_offset": "1 hour"}')
    assert await views(world) == (ContinuousAggregate("public.by_hour", timedelta(days=30)),)
    await around(world)
    assert await world.states() == ["dropped"]


async def assert_put_off(world: Archive) -> None:
    """A verified chunk stays as it is, and the reason names the view."""
    for _ in range(2):
        found = await world.round()
        assert not found.moved
        (problem,) = [each for each in found.problems if "VIEW_REFRESHED" in each]
        assert "the continuous aggregate public.by_hour would lose it" in problem
    assert await world.states() == ["verified"]
    facts = await world.store.facts(TABLE)
    (waits,) = plan(world.policy, facts, as_of=world.clock.now(), now=world.clock.now()).waiting
    assert waits.code == "VIEW_REFRESHED"


async def verified(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.round()
    assert await world.states() == ["verified"]


@pytest.mark.usefixtures("_by_hand")
async def test_a_view_that_is_made_behind_the_seal_puts_the_drop_off(world: Archive) -> None:
    await verified(world)
    await world.pool.execute(NO_JOB)
    await assert_put_off(world)
    await world.let_pass(timedelta(hours=2))
    await assert_put_off(world)  # the copy is not read again and again for that
    await plant(world, REFRESH, "by_hour_rows", '{"start_offset": "30 days", "end_offset": "1 hour"}')
    await world.settle()
    assert await world.states() == ["dropped"]


@pytest.mark.usefixtures("_by_hand")
async def test_a_view_that_is_made_while_the_chunk_is_measured_puts_the_drop_off(
    world: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verified(world)
    measure = ArchiveTransaction.measure

    async def slow(work: ArchiveTransaction, *told: Any) -> Any:
        await world.pool.execute(NO_JOB)
        return await measure(work, *told)

    monkeypatch.setattr(ArchiveTransaction, "measure", slow)
    found = await world.round()
    assert "VIEW_REFRESHED" in found.problems[0]
    assert await world.states() == ["verified"]


@pytest.mark.usefixtures("_by_hand")
async def test_one_policy_of_several_without_a_start_leaves_a_view_unbounded(world: Archive) -> None:
    await world.pool.execute(NO_JOB)
    await plant(world, REFRESH, "by_hour_rows", '{"start_offset": "1 day"}')
    await plant(world, REFRESH, "by_hour_rows", '{"start_offset": "2 days"}')
    assert await views(world) == (ContinuousAggregate("public.by_hour", timedelta(days=2)),)
    await plant(world, REFRESH, "by_hour_rows", '{"start_offset": null}')
    assert await views(world) == (ContinuousAggregate("public.by_hour", None),)


@pytest.mark.usefixtures("_by_hand")
async def test_a_drop_policy_of_timescaledb_is_seen(world: Archive) -> None:
    await plant(world, "policy_retention", "market_data", '{"drop_after": "30 days"}')
    await plant(world, "policy_reorder", "market_data", "{}")
    ((job_id, after),) = await world.pool.fetch(
        "select id, config->>'drop_after' from _timescaledb_config.bgw_job where proc_name = 'policy_retention'"
    )
    assert (await world.store.facts(TABLE)).drop_jobs == (DropJob(job_id, after),)


@pytest.mark.community
async def test_a_true_view_that_is_made_behind_the_seal_puts_the_drop_off(world: Archive) -> None:
    await verified(world)
    await world.pool.execute(VIEW)
    await assert_put_off(world)
    await world.pool.execute(BOUND)
    await world.settle()
    assert await world.states() == ["dropped"]


@pytest.mark.community
async def test_the_edition_that_makes_them_tells_the_same(world: Archive) -> None:
    await world.pool.execute(VIEW)
    assert await views(world) == (ContinuousAggregate("public.by_hour", None),)
    await world.pool.execute(BOUND)
    assert await views(world) == (ContinuousAggregate("public.by_hour", timedelta(days=30)),)
    await world.pool.execute("""
        select add_retention_policy('public.market_data', interval '30 days',
          initial_start => now() + interval '1 year')
    """)
    (job,) = (await world.store.facts(TABLE)).drop_jobs
    assert job.after == "30 days"
