"""What a process knows of closed generations: never fewer than there are, and filters of no other history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.engine.commands import Harness, base, create_lanes
from tidemill.contexts.market_data import context
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.errors import Unavailable
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import _SQL, ClosedGenerations, ClosedSet, GenerationStore
from tidemill.storage.commands.unit_of_work import BatchTransaction
from tidemill.storage.database.pool import Pool, close_pool, create_pool

STREAM = Stream.of(replace(context, partitions=2))
UNKNOWN_IDS = [str(uuid4()) for _ in range(1000)]


class World:
    """One process's knowledge, and the means to make history."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.closed = ClosedGenerations()
        self.generations = GenerationStore(pool, self.closed)
        self.writer = Harness(STREAM, CommandDatabase(pool))

    async def write(self) -> str:
        """Apply one command; return its id."""
        facts: dict[str, Any] = {"symbol": "AAPL", "time": datetime(2013, 3, 1, tzinfo=UTC), "price": 1.0}
        command = RecordMarketData(**base(source="test", **facts))
        await self.writer.send(command)
        return command.command_id

    async def roll(self) -> None:
        assert await self.generations.roll_if_due(max_age=timedelta(0), max_ids=0) is not None

    async def load(self) -> None:
        await self.generations.build_filters()
        await self.generations.load_filters()

    async def beside(self) -> ClosedSet:
        """Return the closed generations as a batch would see them now."""
        async with self.pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "select gen, opened_at from tm.generation where closed_at is null"
            )
            assert row is not None
            return await self.closed.beside(connection, row["gen"], row["opened_at"])


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    pool = await create_pool(database, application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        await create_lanes(connection, STREAM)
    made = World(pool)
    await made.writer.claim()
    yield made
    await close_pool(pool)


def asked(known: ClosedSet, *more: str) -> dict[int, int]:
    """Return generation -> how many of a thousand new ids, and of `more`, its index must be asked for."""
    return {gen: len(ids) for gen, ids in known.candidates([*UNKNOWN_IDS, *more]).items()}


async def test_without_a_filter_every_id_is_asked_for_and_with_one_nearly_none(world: World) -> None:
    assert asked(await world.beside()) == {}
    old = await world.write()
    await world.roll()
    seen = await world.beside()
    assert asked(seen) == {1: 1000}
    await world.load()
    assert old in seen.candidates([*UNKNOWN_IDS, old])[1], "the filter reaches the set that batches hold"
    assert asked(seen, old)[1] < 50


async def test_a_generation_that_was_just_closed_is_asked_at_once(world: World) -> None:
    for gen in (1, 2, 3):
        await world.write()
        await world.roll()
        await world.load() if gen == 1 else None
        assert asked(await world.beside()).keys() == set(range(1, gen + 1))


async def test_a_set_stays_as_its_batch_has_seen_it(world: World) -> None:
    await world.write()
    before = await world.beside()
    await world.roll()
    after = await world.beside()
    assert (asked(before), asked(after)) == ({}, {1: 1000})


async def test_knowledge_from_before_a_roll_takes_nothing_away(world: World) -> None:
    await world.write()
    await world.roll()
    async with world.pool.acquire() as late, late.transaction(isolation="repeatable_read"):
        assert await late.fetchval("select count(*) from tm.generation") == 2
        await world.write()
        await world.roll()
        await world.load()
        seen = await world.beside()
        await world.closed.load(late)
        assert asked(await world.closed.beside(late, 2, SystemClock().now())).keys() == {1}
    assert asked(seen).keys() == asked(await world.beside()).keys() == {1, 2}
    assert max(asked(await world.beside()).values()) < 50


async def test_a_restored_database_is_not_judged_by_the_filters_of_its_other_future(world: World) -> None:
    await world.write()
    await world.roll()
    await world.load()
    await world.beside()
    await world.pool.execute("update tm.generation set closed_at = now(), filter = null where gen = 1")
    await world.pool.execute("update tm.generation set opened_at = now() where gen = 2")
    assert asked(await world.beside()) == {1: 1000}


async def test_what_was_dropped_is_forgotten(world: World) -> None:
    for _ in range(3):
        await world.write()
        await world.roll()
    await world.load()
    assert await world.generations.drop_expired(timedelta(0)) == [1, 2, 3]
    await world.pool.execute("update tm.published set position = 1000")
    await world.pool.execute("call tm.drop_generation(1, 'outbox')")
    await world.load()
    await world.write()
    await world.roll()
    assert asked(await world.beside()).keys() == {2, 3, 4}
    assert {gen for gen, _ in world.closed._known} == {2, 3, 4}


async def test_building_a_filter_leaves_the_event_loop_free(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def build(*_: object) -> bytes:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            seen.append(True)
        return bytes(32)

    monkeypatch.setattr("tidemill.storage.commands.generations._filter_bytes", build)
    await world.write()
    await world.roll()
    assert await world.generations.build_filters() == [1]
    assert seen == [True]


async def test_all_generations_are_asked_by_one_statement(world: World) -> None:
    """Else a batch makes a round trip for each, and these become more with the horizon."""
    known = []
    for _ in range(3):
        known.append(await world.write())
        await world.roll()
    known.append(await world.write())
    statements: list[str] = []
    async with world.pool.acquire() as connection, connection.transaction():
        batch = BatchTransaction(connection, world.closed)
        await batch.lock(list(world.writer.claims.values()))
        with connection.query_logger(lambda query: statements.append(query.query)):
            found = await batch.find([*UNKNOWN_IDS, *known], open_too=True)
            assert await batch.find([], open_too=True) == {}
    assert found.keys() == set(known)
    assert len(statements) == 1


async def test_reading_all_ids_is_given_more_time_than_other_statements(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold or throttled disk must not keep a filter from ever being built."""
    seen: list[bytes] = []
    allowed = "current_setting('statement_timeout')"
    asking = {"packed_ids": f"select convert_to({allowed}, 'UTF8') as packed where $1::int > 0"}
    monkeypatch.setattr("tidemill.storage.commands.generations._SQL", {**_SQL, **asking})

    def build(_: int, packed: list[bytes]) -> bytes:
        seen.extend(packed)
        return bytes(32)

    monkeypatch.setattr("tidemill.storage.commands.generations._filter_bytes", build)
    await world.write()
    await world.roll()
    assert await world.generations.build_filters() == [1]
    assert seen == [b"5min"]
    assert {await world.pool.fetchval(f"select {allowed}") for _ in range(4)} == {"30s"}


async def test_a_filter_that_cannot_be_built_keeps_no_other_from_being_built(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(ids: int, _: object) -> bytes:
        if ids == 1:
            raise Unavailable("database", "canceling statement due to statement timeout")
        return bytes(32)

    monkeypatch.setattr("tidemill.storage.commands.generations._filter_bytes", build)
    await world.write()
    await world.roll()
    for _ in range(2):
        await world.write()
    await world.roll()
    with pytest.raises(Unavailable, match="statement timeout"):
        await world.generations.build_filters()
    rows = await world.pool.fetch("select gen from tm.generation where filter is not null")
    assert [row["gen"] for row in rows] == [2]
