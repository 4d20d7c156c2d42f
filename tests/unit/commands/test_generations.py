"""The keeper of generations, and the filters it has built."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import numpy as np

from tests.support.waiting import eventually
from tidemill.commands.generations import GenerationKeeper, GenerationPolicy
from tidemill.domain.errors import GenerationClosed, Unavailable
from tidemill.storage.filters import IdFilter, hashes, pack


class Scripted:
    """Generations that raise what the test says, then roll once."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.rolls = 0
        self.built = 0
        self.loaded = 0
        self.dropped = 0

    async def roll_if_due(self, *, max_age: timedelta, max_ids: int) -> int | None:
        if self.faults:
            raise self.faults.pop(0)
        self.rolls += 1
        return 2 if self.rolls == 1 else None

    async def build_filters(self) -> list[int]:
        self.built += 1
        return [1]

    async def load_filters(self) -> None:
        self.loaded += 1

    async def drop_expired(self, horizon: timedelta) -> list[int]:
        self.dropped += 1
        return [1]


def keeper(scripted: Scripted) -> GenerationKeeper:
    return GenerationKeeper(scripted, GenerationPolicy(every=timedelta(milliseconds=5)))


async def test_it_rolls_builds_and_drops_until_it_is_stopped() -> None:
    scripted = Scripted()
    kept = keeper(scripted)
    await kept.start()
    running = asyncio.create_task(kept.run())
    await eventually(lambda: scripted.dropped > 2, what="three rounds")
    await kept.stop()
    await asyncio.wait_for(running, 2)
    assert scripted.rolls == scripted.built == scripted.loaded == scripted.dropped
    assert kept.health().ok


async def test_a_roll_that_another_process_did_first_and_a_database_that_is_away_are_lived_through() -> None:
    scripted = Scripted(GenerationClosed("by another"), Unavailable("database", "away"))
    kept = keeper(scripted)
    running = asyncio.create_task(kept.run())
    await eventually(lambda: scripted.rolls > 0, what="a roll")
    await kept.stop()
    await asyncio.wait_for(running, 2)
    assert kept.health().ok


async def test_its_health_says_what_is_in_the_way() -> None:
    scripted = Scripted(*(Unavailable("database", "away") for _ in range(1000)))
    kept = keeper(scripted)
    running = asyncio.create_task(kept.run())
    await eventually(lambda: not kept.health().ok, what="trouble")
    assert "database" in kept.health().detail["trouble"]
    await kept.stop()
    await asyncio.wait_for(running, 2)


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
