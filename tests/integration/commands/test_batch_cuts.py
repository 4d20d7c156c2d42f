"""As the unit test of the same name, on the real database: fewer streams, real constraints."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.engine.commands import FakeRecord, Harness, base, create_lanes
from tests.support.engine.profile_streams import STREAM, contests, cut, groupings, play, sizes, streams
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile
from tidemill.domain.errors import TransientError
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool

_FACTS = """
select
  (select jsonb_agg(to_jsonb(p) - 'created_at' - 'updated_at' order by id) from public.connector_profiles p),
  (select jsonb_agg(jsonb_build_array(lane, sequence, event_type, command_id, item, chain, payload)
                    order by lane, sequence)
   from tm.outbox where event_type is not null),
  (select jsonb_agg(jsonb_build_array(lane, position, command_id, digest, outcome, code, repeats)
                    order by lane, position)
   from tm.log),
  (select jsonb_agg(jsonb_build_array(lane, position, record_offset, code) order by lane, position) from tm.parked)
"""
_CLEAN = """
truncate public.connector_profiles, tm.log, tm.outbox, tm.parked, tm.batch, tm.published, tm.lane
  restart identity cascade
"""


async def run(url: str, batches: Sequence[Sequence[FakeRecord]]) -> tuple[Any, Any]:
    """Apply batches on an empty database, return the facts and what was seen."""
    pool = await create_pool(url, application_name="tidemill-tests", size=2)
    try:
        async with pool.acquire() as connection:
            await connection.execute(_CLEAN)
            await create_lanes(connection, STREAM)
        harness = Harness(STREAM, CommandDatabase(pool))
        await harness.claim()
        seen = await play(harness, batches)
        return [tuple(row) for row in await pool.fetch(_FACTS)], seen
    finally:
        await close_pool(pool)


@pytest.fixture(scope="module")
def shared_database(new_database: Callable[[], AbstractContextManager[str]]) -> Any:
    with new_database() as url:
        yield url


SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=12, suppress_health_check=SHARED)
@given(records=streams(), cuts=sizes)
def test_cutting_and_grouping_change_nothing(
    shared_database: str, records: list[FakeRecord], cuts: list[int]
) -> None:
    batches = cut(records, cuts)
    in_order = [
        [record] for batch in batches for record in sorted(batch, key=lambda r: (r.partition, r.offset))
    ]
    assert asyncio.run(run(shared_database, batches)) == asyncio.run(run(shared_database, in_order))


@settings(max_examples=8, suppress_health_check=SHARED)
@given(records=streams(contested=False), data=st.data())
def test_grouping_lanes_changes_nothing_where_none_contests_a_name(
    shared_database: str, records: list[FakeRecord], data: st.DataObject
) -> None:
    one, other = (data.draw(groupings(records)) for _ in range(2))
    assert asyncio.run(run(shared_database, one)) == asyncio.run(run(shared_database, other))


@settings(max_examples=8, suppress_health_check=SHARED)
@given(contest=contests(), data=st.data())
def test_of_lanes_that_contest_a_name_exactly_one_wins_however_they_are_grouped(
    shared_database: str, contest: tuple[list[FakeRecord], set[tuple[int, int]]], data: st.DataObject
) -> None:
    records, asking = contest
    _, seen = asyncio.run(run(shared_database, data.draw(groupings(records))))
    codes = [seen[at][2] for at in asking]
    assert sorted(codes, key=str) == ["NAME_TAKEN"] * (len(asking) - 1) + [None]


async def test_of_two_lanes_that_contest_a_name_exactly_one_wins(database: str) -> None:
    pool = await create_pool(database, application_name="tidemill-tests", size=8)
    async with pool.acquire() as connection:
        await create_lanes(connection, STREAM)
    harness = Harness(STREAM, CommandDatabase(pool))
    await harness.claim()
    keys = [f"k{number}" for number in range(40)]
    records = [
        harness.topic.record(
            RegisterConnectorProfile(**base(profile_id=key, name="wanted", profile_data="{}"))
        )
        for key in keys
    ]
    by_lane = [[each for each in records if each.partition == lane] for lane in range(STREAM.partitions)]

    async def lane(batch: list[FakeRecord]) -> list[str | None]:
        while True:
            with contextlib.suppress(
                TransientError
            ):  # another lane took the name meanwhile: as the intake does
                done = await harness.apply(*batch)
                return [row.code for _, row in done.outcomes]

    codes = [code for answers in await asyncio.gather(*map(lane, by_lane)) for code in answers]
    await close_pool(pool)
    assert codes.count(None) == 1
    assert codes.count("NAME_TAKEN") == len(keys) - 1
