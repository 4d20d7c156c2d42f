"""What every `Generations` promises, asked of the fake and of the real one alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.fakes.generations import MemoryGenerations
from tests.support.engine.commands import Harness, base, create_lanes, outcomes
from tidemill.commands.generations import Generations
from tidemill.contexts.market_data import context
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.stream import Stream
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import ClosedGenerations, GenerationStore
from tidemill.storage.database.pool import close_pool, create_pool

STREAM = Stream.of(replace(context, partitions=2))
AT_ONCE, DAYS = timedelta(0), timedelta(days=8)


@dataclass
class Subject:
    """Generations, and the way in whose log they are."""

    generations: Generations
    writer: Harness
    pool: Any = None

    async def jump(self, time: timedelta) -> None:
        """Let the server's clock jump ahead: what it has written down is as much older."""
        if isinstance(self.generations, MemoryGenerations):
            self.generations.jump(time)
        else:
            await self.pool.execute(
                "update tm.generation set opened_at = opened_at - $1::interval, closed_at = closed_at - $1::interval",
                time,
            )

    async def write(self, *commands: RecordMarketData) -> dict[str, int]:
        return dict(outcomes(await self.writer.send(*commands)))

    async def roll(self) -> int | None:
        return await self.generations.roll_if_due(max_age=AT_ONCE, max_ids=1)


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        store = MemoryCommandStore(STREAM)
        memory = Subject(MemoryGenerations(store), Harness(STREAM, store))
        await memory.writer.claim()
        yield memory
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        await create_lanes(connection, STREAM)
    closed = ClosedGenerations()
    real = Subject(GenerationStore(pool, closed), Harness(STREAM, CommandDatabase(pool, closed)), pool)
    await real.writer.claim()
    yield real
    await close_pool(pool)


def tick() -> RecordMarketData:
    at = datetime(2013, 3, 1, tzinfo=UTC)
    return RecordMarketData(**base(symbol="AAPL", time=at, price=1.0, source="test"))


async def test_it_rolls_when_it_is_old_or_full_and_never_empty(subject: Subject) -> None:
    assert await subject.roll() is None, "an empty one is never due"
    await subject.write(tick(), tick())
    roll_if_due = subject.generations.roll_if_due
    assert await roll_if_due(max_age=DAYS, max_ids=3) is None
    assert await roll_if_due(max_age=DAYS, max_ids=2) == 2
    await subject.write(tick())
    assert await roll_if_due(max_age=AT_ONCE, max_ids=100) == 3


async def test_one_with_nothing_but_repeats_rolls_when_it_is_old(subject: Subject) -> None:
    """Its log and outbox would never leave."""
    command, roll_if_due = tick(), subject.generations.roll_if_due
    await subject.write(command)
    assert await roll_if_due(max_age=AT_ONCE, max_ids=100) == 2
    assert await subject.write(command) == {"duplicate": 1}
    assert await roll_if_due(max_age=DAYS, max_ids=1) is None, "it is not full: it holds no new id"
    assert await roll_if_due(max_age=AT_ONCE, max_ids=100) == 3
    assert await roll_if_due(max_age=AT_ONCE, max_ids=100) is None


async def test_a_filter_is_built_once_and_only_of_what_is_closed(subject: Subject) -> None:
    assert await subject.generations.build_filters() == []
    for _ in range(2):
        await subject.write(tick())
        await subject.roll()
    await subject.write(tick())
    assert await subject.generations.build_filters() == [1, 2]
    assert await subject.generations.build_filters() == []


async def test_repeats_are_found_whatever_is_built_and_loaded(subject: Subject) -> None:
    command, generations = tick(), subject.generations
    await subject.write(command)
    await subject.roll()
    assert await subject.write(command) == {"duplicate": 1}
    await generations.load_filters()
    assert await subject.write(command) == {"duplicate": 1}
    await generations.build_filters()
    await generations.load_filters()
    await generations.load_filters()
    assert await subject.write(command, tick()) == {"duplicate": 1, "applied": 1}


async def test_what_closed_before_the_horizon_goes_and_is_not_found_again(subject: Subject) -> None:
    command, generations = tick(), subject.generations
    await subject.write(command)
    assert await generations.drop_expired(AT_ONCE) == [], "the open one stays"
    await subject.roll()
    assert await generations.drop_expired(DAYS) == []
    assert await generations.drop_expired(AT_ONCE) == [1]
    assert await generations.drop_expired(AT_ONCE) == []
    assert await subject.write(command) == {"applied": 1}


async def test_a_clock_that_jumps_ahead_drops_nothing_before_hours_have_agreed_with_it(
    subject: Subject,
) -> None:
    """The ids of the last days would be forgotten, and their repeats applied."""
    command, generations = tick(), subject.generations
    await subject.write(command)
    await subject.roll()
    await subject.jump(2 * DAYS)
    assert await generations.drop_expired(DAYS) == []
    assert await subject.write(command) == {"duplicate": 1}
    await subject.write(tick())
    await subject.roll()
    assert await generations.drop_expired(DAYS) == [], "that the log rolled a moment ago proves nothing"
    await subject.jump(timedelta(hours=7))
    assert await generations.drop_expired(DAYS) == [1]


async def test_a_generation_that_was_opened_in_the_future_rolls(subject: Subject) -> None:
    """Else it would stay open, and grow, until the time has come that the clock once was."""
    await subject.write(tick())
    await subject.jump(-2 * DAYS)
    assert await subject.generations.roll_if_due(max_age=DAYS, max_ids=100) == 2
