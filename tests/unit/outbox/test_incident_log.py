"""An outage that strikes all lanes again and again is told when it begins and when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.engine.outbox import lane_of
from tests.support.engine.relays import World
from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.outbox.incident_log import IncidentLog
from tidemill.runtime.telemetry.log_events import Log

NAME = lane_of().aggregate
AWAY = Unavailable("kafka", "lane 7 cannot connect")
LANES = [lane_of(number, number - 1, partitions=64) for number in range(1, 65)]

Told = list[MutableMapping[str, Any]]


@pytest.fixture
def told() -> Iterator[Told]:
    with capture_logs() as entries:
        yield entries


def events(told: Told) -> list[str]:
    return [entry["event"] for entry in told]


def test_a_kind_is_told_once_with_all_the_lanes_that_it_struck(told: Told) -> None:
    incidents = IncidentLog(Log.RELAY_RESTARTED)
    for number in (1, 2, 3, 9) * 50:
        incidents.failed(lane_of(number, number), Unavailable("kafka", f"lane {number} cannot connect"))
    incidents.tell()
    for number in (1, 2, 3, 9) * 50:
        incidents.failed(lane_of(number, number), AWAY)
    incidents.tell()
    assert [(entry["event"], entry["lanes"], entry["reason"]) for entry in told] == [
        (Log.RELAY_RESTARTED, f"{NAME}/1-3, 9", "kafka is not available: lane 1 cannot connect")
    ]


def test_lanes_that_are_struck_later_are_told_then(told: Told) -> None:
    incidents = IncidentLog(Log.RELAY_RESTARTED)
    incidents.failed(lane_of(1, 1), AWAY)
    incidents.tell()
    incidents.failed(lane_of(1, 1), AWAY)
    incidents.failed(lane_of(2, 2), AWAY)
    incidents.tell()
    assert [entry["lanes"] for entry in told] == [f"{NAME}/1", f"{NAME}/2"]


def test_another_kind_is_told_beside_it_and_once_however_they_take_turns(told: Told) -> None:
    incidents = IncidentLog(Log.RELAY_RESTARTED)
    for _ in range(9):
        for error in (AWAY, Unavailable("database", "away"), ZeroDivisionError("a mistake")):
            incidents.failed(lane_of(1, 1), error)
        incidents.tell()
    assert [entry["reason"] for entry in told] == [
        str(AWAY),
        "database is not available: away",
        "a mistake",
    ]


def test_what_is_over_is_told_with_what_it_cost_and_can_begin_anew(told: Told) -> None:
    incidents = IncidentLog(Log.RELAY_RESTARTED)
    for number in (1, 2, 2):
        incidents.failed(lane_of(number, number), AWAY)
    for number in (1, 2, 3):
        incidents.over(lane_of(number, number))
    incidents.tell()
    assert events(told) == [Log.RELAY_RESTARTED, Log.RELAY_RECOVERED]
    assert dict(told[1]) | {"seconds": 0} == {
        "event": Log.RELAY_RECOVERED, "log_level": "info", "lanes": f"{NAME}/1-2",
        "after": "relay_restarted", "failures": 3, "seconds": 0,
    }  # fmt: skip
    incidents.tell()
    assert len(told) == 2
    assert incidents.failed(lane_of(1, 1), AWAY)
    incidents.tell()
    assert told[2]["lanes"] == f"{NAME}/1"


def test_a_lane_that_was_released_did_not_recover(told: Told) -> None:
    incidents = IncidentLog(Log.RELAY_RESTARTED)
    incidents.failed(lane_of(1, 1), AWAY)
    incidents.forget(lane_of(1, 1))
    incidents.over(lane_of(1, 1))
    incidents.tell()
    assert events(told) == [Log.RELAY_RESTARTED]


async def test_a_broker_that_is_away_for_64_lanes_and_many_attempts_is_a_few_lines(told: Told) -> None:
    world = World(tell_every_s=0.02)
    work = asyncio.create_task(world.relays.run())
    world.topics.start_faults.extend([Unavailable("kafka", "away")] * 64 * 50)
    await world.take(*LANES)
    await eventually(lambda: Log.RELAY_RECOVERED in events(told) and world.relays.health().ok, what="well")
    await world.relays.stop()
    await work
    recovered = [entry for entry in told if entry["event"] == Log.RELAY_RECOVERED]
    assert sum(entry["failures"] for entry in recovered) == 64 * 50, "all of them were counted"
    assert len(told) < 64, told


async def test_a_database_that_is_away_for_64_lanes_and_many_attempts_is_a_few_lines(told: Told) -> None:
    world = World(tell_every_s=0.02)
    work = asyncio.create_task(world.relays.run())
    await world.take(*LANES)
    asked = 0
    check = world.outbox._check

    def counted() -> None:
        nonlocal asked
        asked += 1
        check()

    world.outbox._check = counted  # type: ignore[method-assign]
    world.outbox.away = True
    world.relays.wake([lane.id for lane in LANES])
    await eventually(lambda: asked > 64 * 20, what="many attempts")
    world.outbox.away = False
    await eventually(lambda: Log.RELAY_RECOVERED in events(told), what="over")
    await world.relays.stop()
    await work
    assert Log.RELAY_WAITS in events(told)
    assert sum("put_off" in entry for entry in told) == 1, "the housekeeping, at its first failure"
    assert len(told) < 64, told


async def test_a_mistake_of_ours_has_its_traceback_once(told: Told) -> None:
    world = World(tell_every_s=60)
    world.topics.start_faults.extend([ZeroDivisionError("a mistake")] * 20)
    await world.take(LANES[0])
    await eventually(lambda: world.relays.health().ok, what="well")
    await world.relays.stop()
    assert events(told) == [Log.RELAY_FAILED, Log.RELAY_RESTARTED, Log.RELAY_RECOVERED]
