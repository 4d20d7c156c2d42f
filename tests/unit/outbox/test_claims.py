"""Whose lane it is, and how a relay ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.engine.outbox import Scribe, claim_of
from tests.support.engine.relays import LANE, World
from tests.support.waiting import eventually
from tidemill.outbox.relay import RelayState
from tidemill.runtime.telemetry.log_events import Log

EVENTS, OUTCOMES, LETTERS = LANE.topics.events, LANE.topics.outcomes, LANE.topics.dead_letters


async def test_a_fenced_publisher_asks_whose_lane_it_is(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    world.topics.fence(LANE)
    world.outbox.store(scribe.applied(3).batch())
    world.relays.wake([LANE.id])
    await world.published(3)
    world.check(scribe)


async def test_who_has_lost_the_claim_ends(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    world.outbox.epochs[LANE.id] = 2
    world.topics.fence(LANE)
    world.outbox.store(scribe.applied(3).batch())
    world.relays.wake([LANE.id])
    await eventually(lambda: world.state() is RelayState.ENDED, what="it ends")
    assert world.topics.log(EVENTS) == []
    assert world.topics.starts == {1: 1}, "the owner's publisher must not be fenced"


async def test_two_processes_with_the_same_lane_end_with_one(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(200).batch())
    await world.take(LANE)
    second = World(world.outbox, world.topics)
    world.outbox.epochs[LANE.id] = 2
    await second.relays.take([claim_of(LANE, 2)])
    await second.published(200)
    await eventually(lambda: world.state() is RelayState.ENDED, what="the first one ends")
    world.check(scribe)
    await second.relays.stop()


async def test_a_new_claim_replaces_the_old_relay(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    world.outbox.epochs[LANE.id] = 2
    await world.take(LANE, epoch=2)
    world.outbox.store(scribe.applied(3).batch())
    world.relays.wake([LANE.id])
    await world.published(3)
    assert world.topics.open == 1


async def test_what_is_in_flight_at_the_end_is_acknowledged_and_hinted(world: World) -> None:
    scribe = Scribe(LANE)
    world.topics.gate.clear()
    world.outbox.store(scribe.applied(25).batch())
    await world.take(LANE)
    await eventually(lambda: world.topics.in_flight, what="a publication in flight")
    dropping = asyncio.create_task(world.relays.drop([LANE.id]))
    await eventually(lambda: world.relays._relays[LANE.id]._stopping, what="asked to stop")
    world.topics.gate.set()
    await dropping
    assert len(world.topics.log(EVENTS)) == 10
    assert world.outbox.hints[LANE.id].position == 10
    assert world.relays.states() == {}
    assert world.topics.open == 0


async def test_what_hangs_at_the_end_is_cut_off(world: World) -> None:
    scribe = Scribe(LANE)
    world.topics.gate.clear()
    world.outbox.store(scribe.applied(5).batch())
    await world.take(LANE)
    await eventually(lambda: world.topics.in_flight, what="a publication in flight")
    await world.relays.drop([LANE.id])
    assert world.topics.open == 0
    world.topics.gate.set()
    await world.take(LANE)
    await world.published(5)
    world.check(scribe)


def slow_to_close(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Return what tells that a publisher closes, and what lets it."""
    closing, release = asyncio.Event(), asyncio.Event()

    class Stuck:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.start, self.publish = inner.start, inner.publish

        async def close(self) -> None:
            closing.set()
            await release.wait()
            await self.inner.close()

    of = world.topics.of
    monkeypatch.setattr(world.topics, "of", lambda lane, accepted: Stuck(of(lane, accepted)))
    return closing, release


async def test_a_publisher_that_is_being_closed_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, release = slow_to_close(world, monkeypatch)
    world.topics.broker.faults.append("lost")
    world.outbox.store(Scribe(LANE).applied().batch())
    await world.take(LANE)
    await closing.wait()
    dropping = asyncio.create_task(world.relays.drop([LANE.id]))
    await eventually(lambda: world.relays._relays[LANE.id]._stopping, what="asked to stop")
    assert not dropping.done()
    release.set()
    await dropping
    assert world.topics.open == 0


async def test_a_publisher_that_does_not_close_is_left_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.outbox.relay.CLOSE_WITHIN_S", 0.01)
    _, release = slow_to_close(world, monkeypatch)
    await world.take(LANE)
    with capture_logs() as told:
        await world.relays.drop([LANE.id])
    assert Log.DRAIN_CUT_OFF in [entry["event"] for entry in told]
    release.set()
    await eventually(lambda: world.topics.open == 0, what="closed in the end")


async def test_dropping_what_was_never_taken_is_nothing(world: World) -> None:
    await world.relays.drop([5])
    assert world.relays.states() == {}


async def test_the_last_hint_may_fail(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied(5).batch())
    await world.take(LANE)
    await world.published(5)
    world.outbox.away = True
    await world.relays.drop([LANE.id])
    world.outbox.away = False
    assert world.relays.states() == {}
