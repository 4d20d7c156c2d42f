"""A lane that cannot go on stands still by itself: the others are read, applied and given back meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.fakes.commands import MemoryWork
from tests.support.engine.intakes import STREAM, TOPIC, World
from tests.support.waiting import eventually
from tidemill.commands import lane_lifecycle
from tidemill.commands.intake import Intake
from tidemill.domain.errors import DataError, Unavailable
from tidemill.domain.lane import Claim
from tidemill.domain.partitioner import partition_of

KEYS = {partition_of(f"p{number}".encode(), 3): f"p{number}" for number in range(12)}
"""Partition -> a key that belongs there."""


@pytest.fixture
def world() -> World:
    return World()


async def until_flowing(intake: Intake, lanes: int = 3) -> None:
    await eventually(lambda: intake.health().detail["lanes"] == lanes, what=f"{lanes} lanes")


def overtake(world: World, partition: int) -> None:
    """Let retention remove what a consumer that is at the topic's end has not read."""
    world.broker.mark(TOPIC, partition)
    world.broker.mark(TOPIC, partition)
    world.broker.trim(TOPIC, partition, 2)


async def test_a_stuck_partition_without_a_leader_keeps_no_other_lane_from_being_read(world: World) -> None:
    async with world.running() as intake:
        await until_flowing(intake)
        world.broker.leaderless.add((TOPIC, 0))
        overtake(world, 0)
        await eventually(lambda: "leader" in str(intake.health().detail.get("trouble")), what="trouble")
        for partition in (1, 2):
            world.send(KEYS[partition])
        await world.until_logged(2)
        assert world.store.halts == {}
        world.broker.leaderless.clear()
        await world.until_halted("OFFSET_LOST")
        await until_flowing(intake, 2)


@pytest.mark.parametrize("ends", ["revoked", "stopped"])
async def test_what_nobody_could_find_out_about_a_stuck_partition_is_not_recorded(
    world: World, ends: str
) -> None:
    """Nobody guesses: whoever claims the lane next compares."""
    async with world.running() as intake:
        await until_flowing(intake)
        world.broker.leaderless.add((TOPIC, 0))
        overtake(world, 0)
        await eventually(lambda: "leader" in str(intake.health().detail.get("trouble")), what="trouble")
        if ends == "revoked":
            await intake._ownership.revoked(frozenset({0}))
            await eventually(lambda: intake.health().ok, what="an end of the questions")
            assert intake.health().detail == {"lanes": 2, "halted": 0, "claiming": 0}
    assert world.store.halts == {}


async def test_a_lane_that_is_revoked_while_its_halt_is_written_is_not_counted_as_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.store.halt

    async def halt(*args: Any) -> None:
        await intake._ownership.revoked(frozenset({0}))
        await real(*args)

    async with world.running() as intake:
        await until_flowing(intake)
        monkeypatch.setattr(world.store, "halt", halt)
        world.broker.poison(TOPIC, 0)
        await world.until_halted("UNFETCHABLE")
        assert intake.health().detail == {"lanes": 2, "halted": 0, "claiming": 0}


async def test_a_record_that_cannot_even_be_parked_halts_its_lane_by_name_and_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits behind it must not be taken either: the ledger would say that it was consumed."""
    world.send(KEYS[0])
    bad = world.send(KEYS[0], name="refused")
    for _ in range(23):
        world.send(KEYS[0])
    world.send(KEYS[1])
    real, digests = MemoryWork.log, set[int]()

    async def log(work: MemoryWork, rows: Any) -> None:
        digests.update(row.digest for row in rows if row.command_id == bad)
        if digests.intersection(row.digest for row in rows):
            raise DataError("22021", "no such character")
        await real(work, rows)

    with capture_logs() as lines:
        async with world.running() as intake:
            with monkeypatch.context() as patching:
                patching.setattr(MemoryWork, "log", log)
                await world.until_halted("PARKING_REFUSED")
                await until_flowing(intake, 2)
                world.send(KEYS[2])
                await world.until_logged(3)
    assert world.store.lanes[1].progress.next_offset == 1
    world.store.halts.clear()
    async with world.running("two"):
        await world.until_logged(27)
    (said,) = [line for line in lines if line["event"] == "lane_halted"]
    assert (said["lane"], said["code"]) == (f"{STREAM.aggregate}/0", "PARKING_REFUSED")
    assert "partition 0, offset 1: the database refused a value (22021)" in said["reason"]
    assert world.store.lanes[1].progress.next_offset == 25


async def test_a_lane_whose_batch_does_not_end_is_left_to_the_next_claim_and_the_idle_ones_are_released(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release says that the lane stands still: of one with a batch in flight that is not true."""
    monkeypatch.setattr(lane_lifecycle, "_REVOKE_TIMEOUT_S", 0.05)
    begun, go_on, real = asyncio.Event(), asyncio.Event(), world.store.unit_of_work

    @asynccontextmanager
    async def held_up() -> Any:
        begun.set()
        await go_on.wait()
        async with real() as work:
            yield work

    async with world.running() as intake:
        await until_flowing(intake)
        monkeypatch.setattr(world.store, "unit_of_work", held_up)
        world.send(KEYS[0])
        await begun.wait()
        await intake._ownership.revoked(frozenset({0, 1, 2}))
        assert {lane: held.owner for lane, held in world.store.lanes.items()} == {1: "one", 2: None, 3: None}
        assert sorted(world.follower.dropped) == [1, 2, 3]
        go_on.set()


async def test_a_batch_that_outlives_the_lanes_revocation_is_left_to_the_next_owner(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_lifecycle, "_REVOKE_TIMEOUT_S", 0.05)
    async with world.running() as intake:
        await until_flowing(intake)
        world.store.away = True
        world.send(KEYS[0])
        await eventually(lambda: not intake.health().ok, what="a batch that is tried again")
        await intake._ownership.revoked(frozenset({0}))
        world.store.away = False
        await eventually(lambda: intake.health().ok, what="its end")
        assert world.logged() == []
    async with world.running("two"):
        await world.until_logged(1)


async def test_an_isolated_record_whose_lane_was_claimed_meanwhile_is_not_tried(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count of attempts is the next owner's: one of ours that never was would park the record too early."""
    monkeypatch.setattr(lane_lifecycle, "_RECLAIM_AFTER_S", 0.05)
    held = world.store.lanes[1]
    held.claimed_offset, held.claims_without_progress = 0, 4
    real, others = world.store.count_attempt, ["another process"]

    async def count_attempt(claim: Claim, offset: int) -> int:
        if others:
            await world.store.claim(STREAM.aggregate, [0], others.pop())
        return await real(claim, offset)

    monkeypatch.setattr(world.store, "count_attempt", count_attempt)
    world.send(KEYS[0])
    with capture_logs() as lines:
        async with world.running():
            await world.until_logged(1)
    assert [line["lanes"] for line in lines if line.get("reason") == "claimed by another process"] == [
        f"{STREAM.aggregate}/0"
    ]
    assert world.logged() == [(b"a", None)]
    assert others == []


async def test_a_process_that_is_killed_while_the_database_is_in_trouble_blames_no_record(
    world: World,
) -> None:
    """A probe that kills it three times during a lock or on a full disk would else have the record parked."""
    world.send(KEYS[0])
    held = world.store.lanes[1]
    held.claimed_offset, held.claims_without_progress, held.attempt = 0, 4, (0, 1)
    real, attempts = world.store.unit_of_work, list[tuple[int, int]]()

    def refusing() -> Any:
        attempts.append(held.attempt)
        if len(attempts) < 4:
            raise Unavailable("database", "the disk is full")
        return real()

    world.store.unit_of_work = refusing  # type: ignore[method-assign]
    async with world.running():
        await world.until_logged(1)
    assert attempts[:4] == [(0, 2), (0, 1), (0, 1), (0, 1)], "what failed with its server is not counted"
    assert world.logged() == [(b"a", None)]


async def test_a_stop_ends_the_wait_for_a_database_that_never_answered(world: World) -> None:
    world.store.away = True
    async with world.running() as intake:
        await eventually(lambda: not intake.health().ok, what="trouble")
        assert intake.health().detail["claiming"] == 3
    assert {held.epoch for held in world.store.lanes.values()} == {0}
