"""Claims on the real database: who is ended for a lane, and which claims count as ones without progress."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.support.engine.commands import Harness, base, create_lanes
from tests.support.waiting import eventually
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.errors import TransientError
from tidemill.domain.stream import Stream
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, create_pool

TICKS = Stream.of(replace(market_data, partitions=4))
PROFILES = Stream.of(replace(connector_profiles, partitions=4))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, application_name="tidemill-tests", size=8)
    async with made.acquire() as connection:
        for stream in (TICKS, PROFILES):
            await create_lanes(connection, stream)
    yield made
    await close_pool(made)


async def rows(pool: Pool, query: str, *values: Any) -> list[tuple[Any, ...]]:
    async with pool.acquire() as connection:
        return [tuple(row) for row in await connection.fetch(query, *values)]


async def test_a_claim_ends_the_backend_of_an_owner_that_holds_its_lane(database: str, pool: Pool) -> None:
    """A worker that is frozen in the middle of COPY holds its locks through every time-out of PostgreSQL."""
    frozen = await asyncpg.connect(database, server_settings={"application_name": "frozen-owner"})
    await CommandDatabase(pool).claim(TICKS.aggregate, [0], "frozen-owner")
    await frozen.execute("begin")
    await frozen.execute(
        "select 1 from tm.lane where aggregate = $1 and partition = 0 for update".replace(
            "$1", "'market-data'"
        )
    )
    (claim,) = await CommandDatabase(pool, owner_wait_s=0.2).claim(TICKS.aggregate, [0], "next-owner")
    assert claim.epoch == 2
    await eventually(frozen.is_closed, what="the frozen owner's connection ends")
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError)):
        await frozen.execute("commit")
    await frozen.close()


async def test_a_claim_ends_the_backend_of_any_owner_that_holds_its_lane(database: str, pool: Pool) -> None:
    """A writer beside the owner owns lanes of another stream: frozen, it would hold these indefinitely."""
    frozen = await asyncpg.connect(database, server_settings={"application_name": "owner-of-profiles"})
    await CommandDatabase(pool).claim(PROFILES.aggregate, [3], "owner-of-profiles")
    await frozen.execute("begin")
    await frozen.execute("select 1 from tm.lane where aggregate = 'market-data' and partition = 0 for update")
    (claim,) = await CommandDatabase(pool, owner_wait_s=0.2).claim(TICKS.aggregate, [0], "next-owner")
    assert claim.epoch == 1
    await eventually(frozen.is_closed, what="the frozen owner's connection ends")


async def test_an_external_writer_that_holds_a_lane_is_named_and_not_ended(database: str, pool: Pool) -> None:
    external_writer = await asyncpg.connect(database, server_settings={"application_name": "a person"})
    await external_writer.execute("begin")
    await external_writer.execute(
        "select 1 from tm.lane where aggregate = 'market-data' and partition = 0 for update"
    )
    with pytest.raises(TransientError, match="locked by a person"):
        await CommandDatabase(pool, owner_wait_s=0.2).claim(TICKS.aggregate, [0], "next-owner")
    await external_writer.execute("commit")
    await external_writer.close()


async def test_claims_without_progress_are_counted_and_a_clean_release_is_not(pool: Pool) -> None:
    store = CommandDatabase(pool)
    for _ in range(3):
        (claim,) = await store.claim(TICKS.aggregate, [1], str(uuid4()))
        assert not claim.cautious
    (claim,) = await store.claim(TICKS.aggregate, [1], "x")
    assert claim.cautious
    await store.release([claim])
    (claim,) = await store.claim(TICKS.aggregate, [1], "y")
    assert not claim.cautious
    assert [
        await store.count_attempt(claim, 7),
        await store.count_attempt(claim, 7),
        await store.count_attempt(claim, 8),
    ] == [
        1,
        2,
        1,
    ]


async def test_no_number_of_claims_without_progress_is_too_large_for_its_column(pool: Pool) -> None:
    store = CommandDatabase(pool)
    await store.claim(TICKS.aggregate, [1], "gone")
    await rows(pool, "update tm.lane set barren = 32767 where owner = 'gone'")
    (claim,) = await store.claim(TICKS.aggregate, [1], "next")
    assert claim.cautious
    assert await rows(pool, "select barren from tm.lane where owner = 'next'") == [(3,)]


AN_OLD_CLAIM = """
update tm.lane l set epoch = epoch + 1, owner = gen_random_uuid(), barren = $2,
  claimed_batch = (select max(batch) from tm.batch b where b.lane = l.lane)
where aggregate = 'market-data' and partition = $1
"""
"""What a process of 0.1.0 does, which knows nothing of `claimed_offset`."""


async def test_a_process_of_the_version_before_claims_beside_ours(pool: Pool) -> None:
    """It leaves an offset of an earlier claim of ours, or none: neither hides that nothing was consumed."""
    store = CommandDatabase(pool)
    ticks = Harness(TICKS, store)
    time = datetime(2013, 3, 1, tzinfo=UTC)
    command = RecordMarketData(**base(symbol="AAPL", time=time, price=1.5, source="test"))
    partition = ticks.topic.place(command)["partition"]
    await rows(pool, AN_OLD_CLAIM, partition, 2)
    (claim,) = await store.claim(TICKS.aggregate, [partition], "ours")
    assert claim.cautious
    ticks.claims[claim.lane.id] = claim
    await ticks.send(command)
    await rows(pool, AN_OLD_CLAIM, partition, 2)
    (claim,) = await store.claim(TICKS.aggregate, [partition], "ours again")
    assert claim.cautious
    ticks.claims[claim.lane.id] = claim
    await ticks.send(command)
    (claim,) = await store.claim(TICKS.aggregate, [partition], "and again")
    assert not claim.cautious
