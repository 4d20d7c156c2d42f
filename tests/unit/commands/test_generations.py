"""The keeper of generations, and the filters it has built."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.fakes.generations import MemoryGenerations
from tests.support.engine.commands import Harness, base, outcomes
from tests.support.waiting import HANGING_S, eventually
from tidemill.commands.generations import GenerationPolicy, GenerationRoller
from tidemill.contexts.market_data import context
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.errors import GenerationClosed, Unavailable
from tidemill.domain.stream import Stream
from tidemill.storage.commands.id_filter import IdFilter, hashes, pack

STREAM = Stream.of(replace(context, partitions=1))


def tick() -> RecordMarketData:
    at = datetime(2013, 3, 1, tzinfo=UTC)
    return RecordMarketData(**base(symbol="AAPL", time=at, price=1.0, source="test"))


def scripted(*faults: Exception) -> MemoryGenerations:
    return MemoryGenerations(MemoryCommandStore(), faults)


def keeper(generations: MemoryGenerations) -> GenerationRoller:
    return GenerationRoller(generations, GenerationPolicy(every=timedelta(milliseconds=5)))


async def test_it_rolls_builds_and_drops_until_it_is_stopped() -> None:
    generations = scripted()
    kept = keeper(generations)
    await kept.start()
    running = asyncio.create_task(kept.run())
    await eventually(lambda: generations.asked["drop_expired"] > 2, what="three rounds")
    await kept.stop()
    await asyncio.wait_for(running, HANGING_S)
    assert len(generations.asked) == 4
    assert len(set(generations.asked.values())) == 1
    assert kept.health().ok


async def test_it_rolls_what_is_full_and_drops_what_is_beyond_the_horizon() -> None:
    ticks = Harness(STREAM, MemoryCommandStore(STREAM))
    await ticks.claim()
    generations = MemoryGenerations(ticks.store)  # type: ignore[arg-type]  # it is that fake
    kept = GenerationRoller(generations, GenerationPolicy(horizon=timedelta(0), max_ids=1))
    command = tick()
    assert outcomes(await ticks.send(command)) == {"applied": 1}
    await kept.keep()
    assert ticks.store.gen == 2  # type: ignore[attr-defined]
    assert outcomes(await ticks.send(command)) == {"applied": 1}, "the first one was dropped at once"


async def test_a_roll_that_another_process_did_first_and_a_database_that_is_away_are_lived_through() -> None:
    generations = scripted(GenerationClosed("by another"), Unavailable("database", "away"))
    kept = keeper(generations)
    running = asyncio.create_task(kept.run())
    await eventually(
        lambda: generations.asked["roll_if_due"] > 2, what="a look that nothing is in the way of"
    )
    await kept.stop()
    await asyncio.wait_for(running, HANGING_S)
    assert kept.health().ok


async def test_a_filter_that_cannot_be_built_keeps_nothing_that_has_expired() -> None:
    """Log, ledger and the look-ups without a filter would grow until somebody looks."""
    ticks = Harness(STREAM, MemoryCommandStore(STREAM))
    await ticks.claim()
    generations = MemoryGenerations(ticks.store)  # type: ignore[arg-type]  # it is that fake
    generations.build_faults.append(Unavailable("database", "canceling statement due to statement timeout"))
    kept = GenerationRoller(generations, GenerationPolicy(horizon=timedelta(0), max_ids=1))
    await ticks.send(tick())
    with pytest.raises(Unavailable, match="statement timeout"):
        await kept.keep()
    assert ticks.store.tables.log.keys() == {2}, "rolled, and dropped"  # type: ignore[attr-defined]


async def test_its_health_says_what_is_in_the_way() -> None:
    generations = scripted(*(Unavailable("database", "away") for _ in range(1000)))
    kept = keeper(generations)
    running = asyncio.create_task(kept.run())
    await eventually(lambda: not kept.health().ok, what="trouble")
    assert "database" in kept.health().detail["trouble"]
    await kept.stop()
    await asyncio.wait_for(running, HANGING_S)


def test_a_filter_never_denies_an_id_it_was_built_of_and_rarely_claims_another() -> None:
    ids = [str(uuid4()) for _ in range(20_000)]
    packed = pack(ids)
    built = IdFilter.from_bytes(IdFilter.build(len(ids), [packed[:160_000], packed[160_000:]]).to_bytes())
    assert built.maybe(hashes(packed)).all()
    strangers = hashes(pack([str(uuid4()) for _ in range(20_000)]))
    assert np.mean(built.maybe(strangers)) < 0.02


def test_a_filter_of_nothing_knows_nothing() -> None:
    built = IdFilter.build(0, [])
    assert not built.maybe(hashes(pack([str(uuid4())]))).any()
