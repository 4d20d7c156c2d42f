"""Claims one lane at a time: what one partition lacks holds up no other; a topic that has grown halts all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.fakes.kafka import MemoryLog
from tests.support.engine.intakes import STREAM, TOPIC, World
from tests.support.waiting import eventually, next_turn
from tidemill.commands import lane_lifecycle
from tidemill.commands.halt_watch import HaltWatch
from tidemill.domain.lane import Claim
from tidemill.domain.partitioner import partition_of


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(lane_lifecycle, "_TOGETHER_S", 0.02)
    return World()


def keys_of(partition: int, count: int) -> list[str]:
    names = (f"p{number}" for number in range(1_000))
    return [name for name in names if partition_of(name.encode(), 3) == partition][:count]


async def test_a_lane_that_cannot_be_compared_holds_up_no_other(world: World) -> None:
    """Its outbound partition has no leader: the relay waits for one."""
    world.follower.silent.add(2)
    for partition in range(3):
        for key in keys_of(partition, 2):
            world.send(key)
    async with world.running() as intake:
        await world.until_logged(4)
        assert intake.health().detail == {"lanes": 2, "halted": 0, "claiming": 1}
        assert len(world.logged()) == 4
        world.follower.speak(2)
        await world.until_logged(6)
        await eventually(
            lambda: intake.health().detail == {"lanes": 3, "halted": 0, "claiming": 0}, what="all lanes"
        )


async def test_a_command_partition_without_a_leader_holds_up_no_other(world: World) -> None:
    world.broker.leaderless.add((TOPIC, 1))
    for partition in range(3):
        for key in keys_of(partition, 2):
            world.send(key)
    async with world.running() as intake:
        await world.until_logged(4)
        await eventually(lambda: not intake.health().ok, what="the trouble in the health")
        assert intake.health().detail["claiming"] == 1
        world.broker.leaderless.clear()
        await world.until_logged(6)


async def test_only_a_lane_that_was_compared_and_may_flow_is_noted_so(world: World) -> None:
    """Whoever writes to lanes beside their owner asks for that, and begins when it is said."""
    world.follower.silent.add(1)
    world.store.halts[2] = ("TOPIC_CHANGED", "by the test")
    async with world.running() as intake:
        await eventually(
            lambda: intake.health().detail == {"lanes": 1, "halted": 1, "claiming": 1}, what="one lane"
        )
        held = world.store.lanes
        assert [held[lane].compared_epoch for lane in (1, 2, 3)] == [None, None, held[3].epoch]
        assert world.follower.begun_lanes == [3]
        world.follower.speak(1)
        await eventually(lambda: intake.health().detail["lanes"] == 2, what="two lanes")
        assert (held[1].compared_epoch, world.follower.begun_lanes) == (held[1].epoch, [3, 1])


async def test_a_lane_that_waits_for_its_comparison_can_be_given_back(world: World) -> None:
    world.follower.silent.add(2)
    async with world.running("one") as one:
        await eventually(lambda: one.health().detail["lanes"] == 2, what="two lanes")
    assert all(held.owner is None for held in world.store.lanes.values())
    world.follower.silent.clear()
    world.send(keys_of(1, 1)[0])
    async with world.running("two"):
        await world.until_logged(1)


async def test_a_lane_that_is_resumed_is_claimed_once_however_slowly_it_is_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.commands.intake._HALT_WATCH_S", 0.005)
    looks, real = 0, world.store.halted

    async def counted(lanes: Sequence[int]) -> dict[int, tuple[str, str]]:
        nonlocal looks
        looks += 1
        return await real(lanes)

    async with world.running() as intake:
        await eventually(lambda: intake.health().detail["lanes"] == 3, what="three lanes")
        world.store.halts[1] = ("TOPIC_CHANGED", "by the test")
        await eventually(lambda: intake.health().detail["halted"] == 1, what="a halted lane")
        world.follower.silent.add(1)
        world.store.halts.clear()
        await eventually(lambda: world.store.lanes[1].epoch == 2, what="the claim of the resumed lane")
        monkeypatch.setattr(world.store, "halted", counted)
        await eventually(lambda: looks > 10, what="many looks of the watch")
        assert world.store.lanes[1].epoch == 2
        world.follower.speak(1)
        await eventually(
            lambda: intake.health().detail == {"lanes": 3, "halted": 0, "claiming": 0}, what="all lanes"
        )
        assert world.store.lanes[1].epoch == 2


async def test_a_claim_that_a_revocation_overtakes_is_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would count as one that ended without progress: three of them, and the lane goes record by record."""
    asked, answered, real = asyncio.Event(), asyncio.Event(), world.store.claim

    async def slow(aggregate: str, partitions: Sequence[int], owner: str) -> list[Claim]:
        asked.set()
        await answered.wait()
        return await real(aggregate, partitions, owner)

    monkeypatch.setattr(world.store, "claim", slow)
    async with world.running() as intake:
        await asked.wait()
        await intake._ownership.revoked(frozenset({1}))
        answered.set()
        await eventually(lambda: intake.health().detail["lanes"] == 2, what="the other lanes")
        held = {each.lane.partition: each for each in world.store.lanes.values()}
        assert (held[1].epoch, held[1].owner) == (1, None)
        assert held[0].owner == "one"


async def test_a_claim_that_waits_for_the_database_is_made_for_what_is_wanted_when_it_answers(
    world: World,
) -> None:
    """A lane that was revoked meanwhile is another process's: a claim would fence it."""
    world.store.away = True
    async with world.running() as intake:
        await eventually(lambda: not intake.health().ok, what="trouble")
        await intake._ownership.revoked(frozenset({1}))
        world.store.away = False
        await eventually(lambda: intake.health().detail["lanes"] == 2, what="the other lanes")
        assert [held.epoch for held in world.store.lanes.values()] == [1, 0, 1]


async def test_a_wait_for_the_database_ends_when_nothing_is_wanted_any_more(world: World) -> None:
    world.store.away = True
    async with world.running() as intake:
        await eventually(lambda: not intake.health().ok, what="trouble")
        await intake._ownership.revoked(frozenset({0, 1, 2}))
        await eventually(lambda: intake.health().ok, what="an end of the attempts")
        world.store.away = False
        intake._ownership.assigned(frozenset({2}))
        await eventually(lambda: intake.health().detail["lanes"] == 1, what="a lane")
        assert [held.epoch for held in world.store.lanes.values()] == [0, 0, 1]


async def test_a_claim_that_a_stop_overtakes_is_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered, real = asyncio.Event(), asyncio.Event(), world.store.claim

    async def slow(aggregate: str, partitions: Sequence[int], owner: str) -> list[Claim]:
        asked.set()
        await answered.wait()
        return await real(aggregate, partitions, owner)

    monkeypatch.setattr(world.store, "claim", slow)
    intake = world.intake()
    await intake.start()
    running = asyncio.create_task(intake.run())
    await asked.wait()
    await intake.stop()
    answered.set()
    await running
    assert [(held.epoch, held.owner) for held in world.store.lanes.values()] == [(1, None)] * 3


async def test_a_lane_that_is_revoked_while_it_is_compared_does_not_begin_while_others_end_their_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be counted as worked for as long as the process lives."""
    world.follower.silent.add(2)
    busy, go_on, real = asyncio.Event(), asyncio.Event(), world.store.unit_of_work

    @asynccontextmanager
    async def held_up() -> Any:
        busy.set()
        await go_on.wait()
        async with real() as work:
            yield work

    async with world.running() as intake:
        await eventually(lambda: intake.health().detail["lanes"] == 2, what="two lanes")
        monkeypatch.setattr(world.store, "unit_of_work", held_up)
        world.send(keys_of(0, 1)[0])
        await busy.wait()
        revocation = asyncio.create_task(intake._ownership.revoked(frozenset({0, 1})))
        await next_turn()
        world.follower.speak(2)
        await eventually(lambda: 2 in world.follower.dropped, what="the end of its relay")
        go_on.set()
        await revocation
        assert intake.health().detail == {"lanes": 1, "halted": 0, "claiming": 0}
        assert set(world.follower.begun_lanes) == {1, 3}


async def test_a_halt_that_is_recorded_while_the_watch_asks_is_not_taken_for_a_cleared_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, halt = world.store.halted, ("PARKING_REFUSED", "by the test")

    async def overtaken(lanes: Sequence[int]) -> dict[int, tuple[str, str]]:
        answer = await real(lanes)
        queue = intake._queues.get(0)
        if queue is not None:
            await world.store.halt(queue.claim, *halt)
            intake._ownership.stand_still(queue.claim, *halt)
        return answer

    async with world.running() as intake:
        await eventually(lambda: intake.health().detail["lanes"] == 3, what="three lanes")
        monkeypatch.setattr(world.store, "halted", overtaken)
        await HaltWatch().look(intake._ownership, world.store)
        assert intake.health().detail == {"lanes": 2, "halted": 1, "claiming": 0}
    assert world.store.lanes[1].epoch == 1


async def claim_and_be_killed(world: World, owner: str) -> None:
    intake = world.intake(owner)
    await intake.start()
    running = asyncio.create_task(intake.run())
    await eventually(lambda: intake.health().detail["lanes"] == 3, what="three lanes")
    running.cancel()
    await asyncio.wait({running})
    world.broker.groups["g"].clear()


async def test_a_lane_without_a_record_to_consume_makes_nobody_cautious(world: World) -> None:
    """Its owners were killed one after the other, and none of them over a record."""
    world.send(keys_of(0, 1)[0])
    async with world.running():
        await world.until_logged(1)
    for number in range(4):
        await claim_and_be_killed(world, f"killed {number}")
    claims = await world.store.claim(STREAM.aggregate, [0, 1, 2], "the next")
    assert [claim.cautious for claim in claims] == [False] * 3


@pytest.mark.parametrize("count", [2, 4], ids=["fewer", "more"])
async def test_a_topic_with_another_number_of_partitions_halts_every_lane(world: World, count: int) -> None:
    logs = world.broker.logs[TOPIC]
    logs[:] = [*logs, MemoryLog(TOPIC, 3)][:count]
    async with world.running() as intake:
        await eventually(lambda: len(world.store.halts) >= min(count, 3), what="halts")
        assert intake.health().detail["lanes"] == 0
    assert {code for code, _ in world.store.halts.values()} == {"PARTITIONS_CHANGED"}
    assert f"{TOPIC} has {count} partitions, and 3 lanes were created for it" in world.store.halts[1][1]
    assert 1 in world.store.halts
