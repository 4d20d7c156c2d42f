"""A table that is altered under running sessions gets values as its columns are now, and no value is blamed for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table

from tests.support.engine.commands import Harness, base, create_lanes, outcomes
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.errors import DataError, TableMisfit, TransientError
from tidemill.domain.stream import Stream
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import ClosedGenerations
from tidemill.storage.commands.unit_of_work import batch_transaction
from tidemill.storage.database.errors import OutOfDate
from tidemill.storage.database.pool import Pool, close_pool, connection, create_pool

TICKS = Stream.of(replace(market_data, partitions=1))
PROFILES = Stream.of(replace(connector_profiles, partitions=1))


def tick(volume: float) -> RecordMarketData:
    time = datetime(2013, 3, 1, tzinfo=UTC)
    return RecordMarketData(**base(symbol="AAPL", time=time, price=1.5, volume=volume, source="test"))


def register(profile_id: str) -> RegisterConnectorProfile:
    return RegisterConnectorProfile(**base(profile_id=profile_id, name=profile_id, profile_data="{}"))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """One session at a time: each batch finds what the one before has left in it."""
    made = await create_pool(database, application_name="tidemill-tests", size=1)
    async with made.acquire() as borrowed:
        for stream in (TICKS, PROFILES):
            await create_lanes(borrowed, stream)
    yield made
    await close_pool(made)


@pytest.fixture
async def ticks(pool: Pool) -> Harness:
    harness = Harness(TICKS, CommandDatabase(pool))
    await harness.claim()
    return harness


@pytest.fixture
async def profiles(pool: Pool) -> Harness:
    harness = Harness(PROFILES, CommandDatabase(pool))
    await harness.claim()
    return harness


async def rows(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with pool.acquire() as borrowed:
        return [tuple(row) for row in await borrowed.fetch(query)]


NUMBERS = Table("numbers", MetaData(schema="public"), Column("number", BigInteger))


async def put(pool: Pool, ticks: Harness, value: Any) -> None:
    """Copy a value into `numbers` in a batch transaction that has nothing else to write."""
    async with batch_transaction(pool, ClosedGenerations()) as batch:
        await batch.lock(list(ticks.claims.values()))
        await batch.append(NUMBERS, ["number"], [(value,)])
        await batch.append_ledger([])


@pytest.mark.parametrize(("before", "after", "value"), [("bigint", "numeric", 5), ("int", "bigint", 2**40)])
async def test_a_column_that_was_retyped_under_a_session_gets_no_value_in_its_former_form(
    pool: Pool, ticks: Harness, before: str, after: str, value: int
) -> None:
    """The eight bytes of 5 as bigint are read as a zero for a numeric; 2**40 would not even be sent for an int."""
    await rows(pool, f"create table public.numbers (number {before})")
    await put(pool, ticks, 1)
    await rows(pool, f"alter table public.numbers alter column number type {after}")
    with pytest.raises(OutOfDate, match="numbers"):
        await put(pool, ticks, value)
    await put(pool, ticks, value)
    assert await rows(pool, "select number from public.numbers") == [(1,), (value,)]


async def test_a_table_that_was_altered_before_its_first_batch_is_known_as_it_is_then(
    pool: Pool, ticks: Harness
) -> None:
    """That batch failed, and the driver keeps what it learnt in it."""
    await rows(pool, "create table public.numbers (number int check (number > 0))")
    with pytest.raises(DataError, match="23514"):
        await put(pool, ticks, 0)
    await rows(pool, "alter table public.numbers alter column number type bigint")
    with pytest.raises(OutOfDate):
        await put(pool, ticks, 5)
    await put(pool, ticks, 5)


async def test_a_retyped_column_is_no_reason_to_refuse_a_command(pool: Pool, ticks: Harness) -> None:
    assert outcomes(await ticks.send(tick(1.5))) == {"applied": 1}
    await rows(pool, "alter table public.market_data alter column volume type numeric")
    command = tick(2.5)
    with pytest.raises(TransientError):
        await ticks.send(command)
    assert outcomes(await ticks.send(command)) == {"applied": 1}
    assert await rows(pool, "select volume from public.market_data order by 1") == [(1.5,), (2.5,)]


async def test_a_plan_that_is_out_of_date_is_made_anew(pool: Pool, profiles: Harness) -> None:
    assert outcomes(await profiles.send(register("a"))) == {"applied": 1}
    await rows(pool, "alter table public.connector_profiles alter column name type varchar(402)")
    with pytest.raises(OutOfDate, match="cached statement plan"):
        await profiles.send(register("b"))
    assert outcomes(await profiles.send(register("b"))) == {"applied": 1}


async def test_a_plan_that_is_out_of_date_in_a_new_session_too_is_a_matter_of_the_table(pool: Pool) -> None:
    """Nobody waits indefinitely for what does not pass."""

    async def fail() -> None:
        async with connection(pool):
            raise OutOfDate("cached statement plan is invalid")

    async with connection(pool) as borrowed:
        await borrowed.execute("select 1")
    with pytest.raises(OutOfDate):
        await fail()
    with pytest.raises(TableMisfit, match="a new session says the same"):
        await fail()
