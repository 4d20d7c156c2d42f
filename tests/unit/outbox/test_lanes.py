"""Many lanes at once: what they share, what it costs to be idle, and chaos."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.engine.outbox import Scribe, lane_of
from tests.support.engine.relays import LANE, World
from tests.support.seeds import sample
from tests.support.waiting import HANGING_S, eventually, next_turn
from tidemill.outbox.lanes import LaneRelays, RelaySettings
from tidemill.outbox.ports import ForeignTail, Published
from tidemill.outbox.relay import RelayState
from tidemill.runtime.telemetry.metrics import REGISTRY


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    work = asyncio.create_task(world.relays.run())
    yield world
    await world.relays.stop()
    await work


def with_lanes(world: World, lanes: int) -> LaneRelays:
    """Pretend that so many lanes were taken."""
    relays: Any = dict.fromkeys(range(lanes))
    world.relays._relays = relays
    return world.relays


@pytest.mark.parametrize(("lanes", "share"), [(0, 4000), (1, 4000), (8, 4000), (64, 500), (1000, 250)])
def test_many_lanes_share_what_is_in_memory(lanes: int, share: int) -> None:
    defaults = RelaySettings()
    world = World(
        max_positions=defaults.max_positions,
        min_positions=defaults.min_positions,
        positions_in_all=defaults.positions_in_all,
    )
    assert with_lanes(world, lanes)._share() == share


@pytest.mark.parametrize(
    ("streams", "lanes", "most"),
    [(1, 1, 1 << 20), (1, 64, 512 << 10), (16, 1, 1 << 20), (16, 8, 256 << 10), (16, 64, 128 << 10)],
)
def test_what_all_lanes_of_all_streams_read_at_once_fits_into_memory(
    streams: int, lanes: int, most: int
) -> None:
    settings = RelaySettings().shared_by(streams)
    world = World(
        bytes_in_all=settings.bytes_in_all,
        max_bytes=settings.max_bytes,
        min_bytes=settings.min_bytes,
    )
    assert with_lanes(world, lanes)._share_of_bytes() == most
    assert settings.positions_in_all == RelaySettings().positions_in_all // streams


async def test_idle_lanes_are_asked_about_together() -> None:
    lanes = [lane_of(number, number - 1, partitions=64) for number in range(1, 65)]
    async with running(World()) as world:
        await world.take(*lanes)
        await eventually(lambda: all(each.waiting for each in world.relays._relays.values()), what="all idle")
        reads = world.outbox.reads
        asked: list[Mapping[int, int]] = []
        pending = world.outbox.pending

        async def counted(positions: Mapping[int, int]) -> dict[int, int]:
            asked.append(positions)
            return await pending(positions)

        world.outbox.pending = counted  # type: ignore[method-assign]
        await eventually(lambda: len(asked) > 3, what="some looks")
        assert world.outbox.reads == reads
        assert all(len(positions) == 64 for positions in asked)


async def test_hints_of_many_lanes_are_stored_together() -> None:
    lanes = [lane_of(number, number - 1) for number in range(1, 5)]
    world = World()
    stored: list[Mapping[int, Published]] = []
    mark = world.outbox.mark

    async def counted(marks: Mapping[int, Published]) -> None:
        stored.append(marks)
        await mark(marks)

    world.outbox.mark = counted  # type: ignore[method-assign]
    world.outbox.store(*(Scribe(lane).applied(3).batch() for lane in lanes))
    await world.take(*lanes)
    for lane in lanes:
        await world.published(3, lane)
    await eventually(lambda: all(each.waiting for each in world.relays._relays.values()), what="all sent")
    await world.relays._mark()
    await world.relays._mark()
    await world.relays.stop()
    assert [sorted(marks) for marks in stored] == [[1, 2, 3, 4]]
    assert {lane: hint.position for lane, hint in world.outbox.hints.items()} == {1: 3, 2: 3, 3: 3, 4: 3}


def shown() -> float | None:
    return REGISTRY.get_sample_value("tidemill_unpublished_positions", {"aggregate": LANE.aggregate})


async def test_a_halted_lane_keeps_its_backlog_and_a_lost_one_has_none_here() -> None:
    async with running(World()) as world:
        world.topics.start_faults.append(ForeignTail(LANE.topics.events, 0, 17))
        world.outbox.store(Scribe(LANE).applied(7).batch())
        world.outbox.hints[LANE.id] = Published(2, 2, "")
        await world.take(LANE)
        await world.halted("FOREIGN_TAIL")
        await eventually(lambda: shown() == 5, what="what the hint leaves")
        await world.relays.drop([LANE.id])
        assert shown() == 0


async def test_the_backlog_is_shown() -> None:
    async with running(World()) as world:
        world.topics.gate.clear()
        world.outbox.store(Scribe(LANE).applied(7).batch())
        await world.take(LANE)
        await eventually(lambda: shown() == 7, what="the backlog")
        world.topics.gate.set()
        await eventually(lambda: shown() == 0, what="no backlog")


async def test_a_release_that_is_cut_off_leaves_no_relay_behind() -> None:
    """A revocation has a deadline; a relay that ended failing and stayed would keep the process ill for good."""
    async with running(World(stop_within_s=HANGING_S)) as world:
        world.topics.gate.clear()
        world.outbox.store(Scribe(LANE).applied(3).batch())
        await world.take(LANE)
        (relay,) = world.relays._relays.values()
        await eventually(lambda: relay._sending is not None and relay._sending.publishing, what="sending")
        relay.failures = 5
        assert not world.relays.health().ok
        releasing = asyncio.create_task(world.relays.drop([LANE.id]))
        await eventually(lambda: relay._stopping, what="the release has begun")
        releasing.cancel()
        await asyncio.wait({releasing})
        assert world.relays.health().ok
        assert world.relays.states() == {}
        await asyncio.wait({relay._task})
        assert relay.state is RelayState.ENDED


async def test_a_relay_that_another_process_fenced_does_not_make_this_one_ill() -> None:
    async with running(World()) as world:
        await world.take(LANE)
        (relay,) = world.relays._relays.values()
        relay.failures, relay.state = 5, RelayState.ENDED
        assert world.relays.health().ok


@pytest.mark.parametrize("seed", sample(range(30), 10))
async def test_chaos_neither_loses_nor_doubles_nor_reorders(seed: int) -> None:
    """Two processes hand lanes to and fro while the broker and the database fail and commands go on."""
    chance = random.Random(seed)
    lanes = [lane_of(number, number - 1) for number in (1, 2, 3)]
    scribes = {lane.id: Scribe(lane) for lane in lanes}
    first = World()
    second = World(first.outbox, first.topics)
    worlds = (first, second)
    async with running(first), running(second):
        await first.take(*lanes)
        for _ in range(40):
            await _something_happens(chance, worlds, scribes)
        first.outbox.away = False
        first.topics.gate.set()
        first.topics.broker.faults.clear()
        await _hand_over(worlds[seed % 2], scribes)
        for scribe in scribes.values():
            if scribe.position:
                await first.published(scribe.position, scribe.lane)
    assert first.topics.open == 0
    for scribe in scribes.values():
        first.check(scribe)


async def _something_happens(
    chance: random.Random, worlds: tuple[World, World], scribes: Mapping[int, Scribe]
) -> None:
    outbox, topics = worlds[0].outbox, worlds[0].topics
    scribe = chance.choice(list(scribes.values()))
    match chance.randrange(6):
        case 0 | 1:
            events = chance.choice([0, 1, 1, 1, 3])
            outbox.store(scribe.applied(chance.randint(1, 15), events=events).rejected().batch())
            chance.choice(worlds).relays.wake([scribe.lane.id])
        case 2:
            topics.broker.faults.append(chance.choice(["lost", "unheard", "hanging"]))
        case 3:
            outbox.away = not outbox.away
        case 4:
            (topics.gate.clear if topics.gate.is_set() else topics.gate.set)()
        case 5 if not outbox.away:
            topics.gate.set()  # a claim waits for the comparison, and what hangs is not its fault
            await _hand_over(chance.choice(worlds), {scribe.lane.id: scribe})
    for _ in range(chance.randint(0, 20)):
        await next_turn()


async def _hand_over(world: World, scribes: Mapping[int, Scribe]) -> None:
    for scribe in scribes.values():
        lane = scribe.lane
        if lane.id not in world.outbox.epochs:
            world.outbox.create(lane.id)
        world.outbox.epochs[lane.id] += 1
        await world.take(lane, epoch=world.outbox.epochs[lane.id])
