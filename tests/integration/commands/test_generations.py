"""Ids stay unique while generations roll under writers that throw the same ids at each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from tests.support.engine.commands import Harness, base, lanes_pool, outcomes
from tests.support.engine.streams import MARKET_DATA, messages_of
from tidemill.contexts.market_data import context
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.errors import GenerationClosed, TransientError
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import ClosedGenerations, GenerationStore
from tidemill.storage.database.pool import Pool
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.outbox.packs import KafkaPacks

STREAM = Stream.of(replace(context, partitions=4, keyed=False))
ROLLS = 15
IDS = 300


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with lanes_pool(database, STREAM) as made:
        yield made


def tick(number: int) -> RecordMarketData:
    """Return the one command of that number: whoever sends it sends the same."""
    facts: dict[str, Any] = {"symbol": "AAPL", "time": datetime(2013, 3, 1, tzinfo=UTC), "source": "test"}
    return RecordMarketData(**base(command_id=str(UUID(int=number, version=4)), price=number, **facts))


async def write(harness: Harness, partition: int, rolling: asyncio.Task[None]) -> int:
    """Send random commands in one lane until the rolls are over; return how many were applied."""
    random, applied = Random(partition), 0
    while not rolling.done():
        commands = [tick(random.randrange(IDS)) for _ in range(10)]
        records = [harness.topic.record(each, partition=partition) for each in commands]
        while True:
            try:
                done = await harness.apply(*records)
            except TransientError:  # two lanes met at an id: as the intake does, once more
                continue
            break
        applied += outcomes(done).get("applied", 0)
    return applied


async def test_no_id_is_stored_twice_while_the_log_rolls(pool: Pool) -> None:
    closed = ClosedGenerations()
    generations = GenerationStore(pool, closed)
    harnesses = [Harness(STREAM, CommandDatabase(pool, closed)) for _ in range(STREAM.partitions)]
    for partition, harness in enumerate(harnesses):
        await harness.claim([partition])

    async def roll() -> None:
        rolls = 0
        while rolls < ROLLS:
            try:
                rolls += await generations.roll_if_due(max_age=timedelta(0), max_ids=1) is not None
            except (GenerationClosed, TransientError):
                continue
            if rolls % 2:
                await generations.build_filters()
                await generations.load_filters()

    rolling = asyncio.create_task(roll())
    applied = await asyncio.gather(*(write(each, at, rolling) for at, each in enumerate(harnesses)))
    await rolling
    stored = await pool.fetch("select command_id from tm.log where command_id is not null")
    assert len(stored) == len({row["command_id"] for row in stored}) == sum(applied)
    assert await pool.fetchval("select count(*) from public.market_data") == sum(applied)
    assert await pool.fetchval("select max(gen) from tm.generation") > ROLLS


async def test_what_is_beyond_the_horizon_is_dropped_and_its_counts_are_kept(pool: Pool) -> None:
    harness = Harness(STREAM, CommandDatabase(pool))
    await harness.claim()
    await harness.send(tick(1), tick(2), tick(2))
    generations = GenerationStore(pool)
    await generations.roll_if_due(max_age=timedelta(0), max_ids=1)
    assert await generations.drop_expired(timedelta(days=8)) == []
    assert await generations.drop_expired(timedelta(0)) == [1]
    assert await generations.drop_expired(timedelta(0)) == []
    totals = await pool.fetchrow("select sum(records), sum(applied), sum(duplicate) from tm.ledger_total")
    assert tuple(totals or ()) == (3, 2, 1)
    assert outcomes(await harness.send(tick(3))) == {"applied": 1}


async def test_the_log_stays_as_long_as_packs_whose_events_are_looked_up_in_it(pool: Pool) -> None:
    codec = await AvroOutcomeCodec.open(MARKET_DATA.topics, messages_of("outcome"), clock=SystemClock())
    harness = Harness(STREAM, CommandDatabase(pool, packs=KafkaPacks(codec)))
    await harness.claim()
    await harness.send(*map(tick, range(1, 5)))
    assert await pool.fetchval("select count(*) from tm.pack") > 0
    generations = GenerationStore(pool)
    await generations.roll_if_due(max_age=timedelta(0), max_ids=1)
    assert await generations.drop_expired(timedelta(0)) == []
    await pool.execute("delete from tm.pack")
    assert await generations.drop_expired(timedelta(0)) == [1]


async def test_nothing_rolls_before_it_is_due(pool: Pool) -> None:
    generations = GenerationStore(pool)
    assert await generations.roll_if_due(max_age=timedelta(0), max_ids=1) is None, "an empty one is never old"
    harness = Harness(STREAM, CommandDatabase(pool))
    await harness.claim()
    await harness.send(tick(1))
    assert await generations.roll_if_due(max_age=timedelta(days=1), max_ids=100) is None
    assert await generations.roll_if_due(max_age=timedelta(days=1), max_ids=1) == 2
