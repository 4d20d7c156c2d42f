"""One lane's relay against a broker and a database that misbehave."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from structlog.testing import capture_logs

from tests.fakes.publishers import WatchedPublishers
from tests.support.engine.outbox import Scribe, Written
from tests.support.engine.relays import LANE, World
from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.domain.identity import event_id
from tidemill.outbox.ports import Published
from tidemill.outbox.relay import RelayState
from tidemill.outbox.send_loop import SLICE
from tidemill.runtime.telemetry.log_events import Log

EVENTS, OUTCOMES, LETTERS = LANE.topics.events, LANE.topics.outcomes, LANE.topics.dead_letters


def some_of_everything(scribe: Scribe) -> Written:
    scribe.applied(20).rejected(3).applied(2, events=4).parked(headers=[("h", None)]).applied(9, events=0)
    return scribe.applied(10).parked(None).batch()


# --- the way it should be ---


async def test_a_backlog_goes_out_in_order(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(some_of_everything(scribe))
    await world.take(LANE)
    await world.published(scribe.position)
    world.check(scribe)
    assert all(batches.keys() <= {EVENTS, OUTCOMES, LETTERS} for batches in world.topics.publications)
    assert len(world.topics.log(LETTERS)) == 2
    assert world.topics.starts == {1: 1}


async def test_what_is_committed_later_goes_out_at_a_call(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    for _ in range(5):
        world.outbox.store(scribe.applied().batch())
        world.relays.wake([LANE.id, 99])
        await world.published(scribe.position)
    world.check(scribe)


async def test_what_nobody_told_of_is_found(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    await eventually(lambda: world.relays._relays[LANE.id].waiting, what="it is idle")
    world.outbox.store(scribe.applied(2).batch())
    await world.published(2)
    world.check(scribe)


async def test_the_hint_names_the_last_event(world: World) -> None:
    scribe = Scribe(LANE)
    written = scribe.applied(3).rejected().batch()
    world.outbox.store(written)
    await world.take(LANE)
    expected = Published(4, 3, event_id(written.outbox[2].command_id or "", 1))
    await eventually(lambda: world.outbox.hints.get(LANE.id) == expected, what="the hint")
    assert world.relays.states()[LANE.id] == (RelayState.SENDING, expected)


async def test_the_next_rows_are_read_while_some_are_in_flight(world: World) -> None:
    scribe = Scribe(LANE)
    world.topics.gate.clear()
    world.outbox.store(scribe.applied(25).batch())
    await world.take(LANE)
    await eventually(lambda: world.topics.in_flight and world.outbox.reads == 2, what="the second read")
    world.topics.gate.set()
    await world.published(25)
    world.check(scribe)


async def test_large_rows_are_read_ahead_too() -> None:
    world = World(max_positions=100, max_bytes=300)
    scribe = Scribe(LANE)
    world.topics.gate.clear()
    world.outbox.store(scribe.applied(6, payload=b"x" * 100).batch())
    await world.take(LANE)
    await eventually(lambda: world.topics.in_flight and world.outbox.reads == 2, what="the second read")
    world.topics.gate.set()
    await world.published(6)
    await world.relays.stop()
    assert [len(batches[EVENTS]) for batches in world.topics.publications] == [2, 2, 2]


async def test_a_publication_is_encoded_slice_by_slice_whatever_a_cut_goes_through() -> None:
    world = World(max_positions=4_000)
    scribe = Scribe(LANE)
    for _ in range(60):
        scribe.applied(11).rejected(3).applied(2, events=7).parked().applied(4, events=0)
    written = scribe.batch()
    world.outbox.store(written)
    cut = [written.outbox[place].item for place in range(SLICE, len(written.outbox), SLICE)]
    assert any(cut), "no slice begins in the middle of a command's events"
    await world.take(LANE)
    await world.published(scribe.position)
    world.check(scribe)
    assert len(world.topics.publications) == 1
    await world.relays.stop()


async def test_nothing_is_hinted_that_was_not_acknowledged(world: World) -> None:
    world.topics.gate.clear()
    world.outbox.store(Scribe(LANE).applied(5).batch())
    await world.take(LANE)
    await eventually(lambda: world.topics.in_flight, what="a publication in flight")
    await world.relays._mark()
    assert world.outbox.hints == {}


# --- a broker that fails ---


@pytest.mark.parametrize("fault", ["lost", "unheard", "hanging"])
@pytest.mark.parametrize("times", [1, 4])
async def test_a_failed_publication_neither_loses_nor_doubles(
    world: World, fault: Literal["lost", "unheard", "hanging"], times: int
) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(some_of_everything(scribe))
    world.topics.broker.faults.extend([fault] * times)
    await world.take(LANE)
    await world.published(scribe.position)
    world.check(scribe)
    assert world.topics.starts == {1: 1 + times}


async def test_what_arrived_in_one_topic_only_is_completed_in_the_others() -> None:
    world = World(topics=WatchedPublishers(transactional=False))
    scribe = Scribe(LANE)
    world.outbox.store(some_of_everything(scribe))
    world.topics.torn = 3
    await world.take(LANE)
    await world.published(scribe.position)
    world.check(scribe)
    assert world.topics.starts == {1: 4}
    await world.relays.stop()


async def test_a_publisher_that_cannot_start_is_made_again(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(2).batch())
    world.topics.start_faults.extend([Unavailable("kafka", "away")] * 3)
    await world.take(LANE)
    await world.published(2)
    world.check(scribe)
    assert world.relays.health().ok


async def test_an_idle_lane_is_well_again_as_soon_as_its_publisher_starts(world: World) -> None:
    world.topics.start_faults.extend([Unavailable("kafka", "away")] * 3)
    await world.take(LANE)
    await eventually(lambda: world.relays.health().ok, what="well")
    assert world.relays.health().detail == {"lanes": {"sending": 1}, "failing": []}


async def test_a_mistake_of_ours_is_loud_and_not_the_end(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(2).batch())
    world.topics.start_faults.append(ZeroDivisionError("a mistake"))
    with capture_logs() as told:
        await world.take(LANE)
        await world.published(2)
    assert Log.RELAY_FAILED in [entry["event"] for entry in told]


async def test_health_tells_of_a_lane_that_keeps_failing(world: World) -> None:
    world.topics.start_faults.extend([Unavailable("kafka", "away")] * 10_000)
    taking = asyncio.create_task(world.take(LANE))
    await eventually(lambda: not world.relays.health().ok, what="not well")
    assert world.relays.health().detail == {"lanes": {"starting": 1}, "failing": [1]}
    assert not taking.done()
    await world.relays.drop([LANE.id])
    await taking
    assert world.relays.health().ok


# --- a database that fails ---


async def test_a_database_that_is_away_is_waited_for(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    world.outbox.away = True
    world.outbox.store(scribe.applied(30).batch())
    world.relays.wake([LANE.id])
    await world.relays._backlog.look()
    world.outbox.away = False
    await world.published(30)
    world.check(scribe)
    assert world.topics.starts == {1: 1}, "the publisher has nothing to do with it"


async def test_a_relay_starts_when_the_database_is_back(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(3).batch())
    world.outbox.away = True
    taking = asyncio.create_task(world.take(LANE))
    await eventually(lambda: LANE.id in world.relays.states(), what="taken")
    assert world.topics.starts == {}, "no publisher before it is known whose lane it is"
    world.outbox.away = False
    await taking
    await world.published(3)
