"""A lane waits before a command of which this version does not know all: for how long, and what ends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.engine.intakes import STREAM, World
from tests.support.waiting import eventually
from tidemill.commands import intake as intakes
from tidemill.commands.batch import BatchWriter
from tidemill.commands.intake import Intake
from tidemill.commands.version_wait import REST, next_wait
from tidemill.commands.waits import Newer, Wait
from tidemill.domain.errors import TransientError
from tidemill.domain.lane import Claim
from tidemill.domain.partitioner import partition_of
from tidemill.runtime.telemetry.metrics import REGISTRY

KEYS = {partition_of(f"p{number}".encode(), 3): f"p{number}" for number in range(12)}
"""Partition -> a key that belongs there; its lane is the next number."""
BOUND = timedelta(minutes=15)


class HandClock:
    """The database's clock, moved by the test."""

    def __init__(self) -> None:
        self.at = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic_s(self) -> float:
        return self.at.timestamp()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(intakes, "_HALT_WATCH_S", 0.02)
    made = World()
    made.store.clock = HandClock()  # it is a clock
    return made


def waiting(intake: Intake) -> dict[str, Any]:
    return dict(intake.health().detail.get("waiting", {}))


async def until_waiting(intake: Intake, lanes: int = 1) -> dict[str, Any]:
    await eventually(lambda: waiting(intake).get("lanes") == lanes, what=f"{lanes} lanes that wait")
    return waiting(intake)


def pass_time(world: World, by: timedelta) -> None:
    world.store.clock.at += by  # type: ignore[attr-defined]  # a HandClock


def registered(world: World) -> list[str]:
    """The ids of the commands that were applied, lane by lane."""
    rows = [row for rows in world.store.tables.log.values() for row in rows if row.outcome == b"a"]
    return [str(row.command_id) for row in sorted(rows, key=lambda row: (row.lane, row.position))]


def measured(**labels: str) -> float | None:
    return REGISTRY.get_sample_value("tidemill_lanes_waiting", {"aggregate": STREAM.aggregate, **labels})


async def test_a_lane_waits_and_a_process_that_knows_the_schema_goes_on_by_itself(world: World) -> None:
    before = [world.send(KEYS[0], name=str(number), profile_id=KEYS[0]) for number in range(2)]
    newer = world.send(KEYS[0], newer=True)
    behind = world.send(KEYS[0])
    async with world.running() as intake:
        found = await until_waiting(intake)
        others = [world.send(KEYS[1]), world.send(KEYS[2])]
        await world.until_logged(4)
        assert intake.health().ok, "it is ready, and live"
        (shown,) = found["first"]
        assert (shown["lane"], shown["offset"], shown["schema"]) == ("connector-profiles/0", 2, "7")
        assert (shown["type"], shown["service"]) == (world.logged_type(), "tests")
        assert measured(schema="7", service="tests") == 1
        assert world.store.lanes[1].progress.next_offset == 2
        assert newer not in registered(world)
    assert measured(schema="7", service="tests") is None
    async with world.running("two", knows_all=True) as heir:
        await world.until_logged(6)
        assert "waiting" not in heir.health().detail
    assert set(registered(world)) >= {before[0], *others}
    outcomes = [row.command_id for row in world.store.tables.outbox if row.lane == 1]
    assert outcomes == [*before, newer, behind]
    assert world.store.tables.parked == []


async def test_a_wait_is_bounded_and_what_comes_behind_it_is_parked_at_once(world: World) -> None:
    ids = [world.send(KEYS[0], newer=True, name=f"n{number}") for number in range(25)]
    asked = count_waits(world)
    async with world.running() as intake:
        await until_waiting(intake)
        pass_time(world, BOUND - timedelta(seconds=1))
        async with world.running("another"):
            pass_time(world, timedelta(seconds=1))
        await world.until_logged(25)
        assert "waiting" not in intake.health().detail
    parked = world.store.tables.parked
    assert [row.code for row in parked] == ["NEWER_SCHEMA"] * 25
    assert "the lane waited for 900 s" in parked[0].detail
    assert "the lane already waited for a newer version" in parked[-1].detail
    assert len(asked) <= 6, "once for each batch, not for each record"
    world.send(KEYS[0], newer=True, command_id=ids[0], name="n0")
    async with world.running("two", knows_all=True):
        await world.until_logged(26)
    assert registered(world) == [ids[0]], "its id is free"


def count_waits(world: World) -> list[int]:
    real, asked = world.store.wait, list[int]()

    async def wait(claim: Claim, newer: Newer, at_most: timedelta) -> Wait:
        asked.append(newer.offset)
        return await real(claim, newer, at_most)

    world.store.wait = wait  # type: ignore[method-assign]  # counts, and passes on
    return asked


async def test_a_new_owner_goes_on_with_the_wait_that_it_finds(world: World) -> None:
    world.send(KEYS[0], newer=True)
    async with world.running() as intake:
        since = (await until_waiting(intake))["first"][0]["since"]
    pass_time(world, timedelta(minutes=10))
    async with world.running("two") as heir:
        assert (await until_waiting(heir))["first"][0]["since"] == since
        pass_time(world, timedelta(minutes=5))
        await world.until_logged(1)
    assert [row.code for row in world.store.tables.parked] == ["NEWER_SCHEMA"]


async def test_an_operator_ends_a_wait(world: World) -> None:
    world.send(KEYS[0], newer=True)
    async with world.running() as intake:
        await until_waiting(intake)
        held = world.store.waits[1]
        world.store.waits[1] = held._replace(over_at=world.store.clock.now(), reason="made up")
        await world.until_logged(1)
    (parked,) = world.store.tables.parked
    assert parked.detail.endswith("parked by hand: made up")


async def test_a_process_may_be_told_to_wait_for_nobody(world: World) -> None:
    world.send(KEYS[0], newer=True)
    async with world.running(newer_wait=timedelta(0)):
        await world.until_logged(1)
    assert [row.code for row in world.store.tables.parked] == ["NEWER_SCHEMA"]
    assert world.store.waits == {}


async def test_a_lane_that_was_claimed_by_others_is_left_and_the_rest_of_the_batch_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, others = world.store.wait, ["another process"]

    async def wait(claim: Claim, newer: Newer, at_most: timedelta) -> Wait:
        if others:
            await world.store.claim(STREAM.aggregate, [0], others.pop())
        return await real(claim, newer, at_most)

    monkeypatch.setattr(world.store, "wait", wait)
    async with world.running() as intake:
        await eventually(lambda: intake.health().detail["lanes"] == 3, what="3 lanes")
        world.store.away = True
        for partition in (0, 1, 2):
            world.send(KEYS[partition], newer=partition == 0)
        await eventually(lambda: not intake.health().ok, what="a batch that is tried again")
        world.store.away = False
        await world.until_logged(2)
    assert world.store.lanes[1].progress.next_offset == 0
    assert others == []


async def test_a_batch_that_is_tried_again_waits_before_the_same_command(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = BatchWriter.apply, [1, 2]

    async def apply(writer: BatchWriter, *arguments: Any) -> Any:
        if failures:
            failures.pop()
            raise TransientError("by the test")
        return await real(writer, *arguments)

    monkeypatch.setattr(BatchWriter, "apply", apply)
    first = world.send(KEYS[0])
    world.send(KEYS[0], newer=True)
    async with world.running() as intake:
        await until_waiting(intake)
        assert registered(world) == [first]
    assert world.store.waits[1].newer.offset == 1


async def test_what_waits_behind_it_is_bounded_and_goes_on_in_order(world: World) -> None:
    world.send(KEYS[0], newer=True)
    async with world.running() as intake:
        await until_waiting(intake)
        for number in range(200):
            world.send(KEYS[0], name=f"n{number}")
        queue = intake._queues.get(0)
        assert queue is not None
        await eventually(lambda: queue.held_back, what="the partition to be held back")
        assert len(queue.records) <= 201
        pass_time(world, BOUND)
        await world.until_logged(201)
    offsets = [row.record_offset for row in world.store.tables.outbox]
    assert offsets == list(range(201))
    assert world.broker.noted[("g", 0)] <= 201


async def test_a_command_that_a_lane_waited_for_is_not_taken_for_what_ends_processes(world: World) -> None:
    """Its lane makes no progress, whoever claims it: the count of attempts must not grow by that."""
    world.send(KEYS[0], newer=True)
    held = world.store.lanes[1]
    held.claimed_offset, held.claims_without_progress, held.attempt = 0, 4, (0, 1)
    async with world.running() as intake:
        await until_waiting(intake)
        assert held.attempt == (-1, 0)
    assert world.store.tables.parked == []


# --- the rule --------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def newer_at(offset: int, schema: str = "7") -> Newer:
    return Newer(offset, schema, "T", "s", "d")


def test_a_wait_that_a_newer_version_ended_does_not_shorten_the_next_one() -> None:
    first = next_wait(None, newer_at(1), NOON, BOUND)
    later = NOON + timedelta(minutes=14)
    assert next_wait(first, newer_at(9), later, BOUND) == Wait(newer_at(9), later, later + BOUND)


def test_a_bound_that_was_changed_holds_for_the_wait_that_is_there() -> None:
    first = next_wait(None, newer_at(1), NOON, BOUND)
    shorter = next_wait(first, newer_at(1), NOON + timedelta(minutes=6), timedelta(minutes=5))
    assert shorter.over_at == NOON + timedelta(minutes=6)
    longer = next_wait(first, newer_at(1), NOON + BOUND, 2 * BOUND)
    assert (longer.over_at, longer.until) == (None, NOON + 2 * BOUND)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3_600), st.booleans(), st.integers(0, 99)), max_size=60))
def test_no_flood_of_schemas_holds_a_lane_up_for_longer_than_once_a_day(
    steps: list[tuple[int, bool, int]],
) -> None:
    """Each step: seconds that pass, whether an operator ends the wait, the schema of the record before the lane."""
    wait, now, offset, stood = None, NOON, 0, list[tuple[datetime, datetime]]()
    for seconds, by_hand, schema in steps:
        wait = next_wait(wait, newer_at(offset, str(schema)), now, BOUND)
        if wait.over_at is not None:
            offset += 1  # it is parked
        now += timedelta(seconds=seconds)
        if wait.over_at is None:
            stood.append((now - timedelta(seconds=seconds), min(now, wait.until)))
            if by_hand:
                wait = wait._replace(over_at=now)
    for begin, _ in stood:
        within = [end - start for start, end in stood if begin <= start < begin + REST]
        assert sum(within, timedelta(0)) <= BOUND
