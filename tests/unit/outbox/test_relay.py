"""One lane's relay against a broker and a database that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.fakes.publishers import number
from tests.support.outbox import Scribe, Written, claim_of, lane_of
from tests.support.relays import LANE, World
from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.domain.identity import event_id
from tidemill.outbox.ports import ForeignTail, Published
from tidemill.outbox.relay import RelayState
from tidemill.telemetry import Log

EVENTS, OUTCOMES, LETTERS = LANE.topics.events, LANE.topics.outcomes, LANE.topics.dead_letters


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    work = asyncio.create_task(made.relays.run())
    yield made
    await made.relays.stop()
    await work
    assert made.topics.open == 0, "a publisher was left open"


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
        world.relays.wake([LANE.lane, 99])
        await world.published(scribe.position)
    world.check(scribe)


async def test_what_nobody_told_of_is_found(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    await eventually(lambda: world.relays._relays[LANE.lane].waiting, 5, "it is idle")
    world.outbox.store(scribe.applied(2).batch())
    await world.published(2)
    world.check(scribe)


async def test_the_hint_names_the_last_event(world: World) -> None:
    scribe = Scribe(LANE)
    written = scribe.applied(3).rejected().batch()
    world.outbox.store(written)
    await world.take(LANE)
    expected = Published(4, 3, event_id(written.outbox[2].command_id or "", 1))
    await eventually(lambda: world.outbox.hints.get(LANE.lane) == expected, 5, "the hint")
    assert world.relays.states()[LANE.lane] == (RelayState.SENDING, expected)


async def test_the_next_rows_are_read_while_some_are_in_flight(world: World) -> None:
    scribe = Scribe(LANE)
    world.topics.gate.clear()
    world.outbox.store(scribe.applied(25).batch())
    await world.take(LANE)
    await eventually(lambda: world.topics.in_flight and world.outbox.reads == 2, 5, "the second read")
    world.topics.gate.set()
    await world.published(25)
    world.check(scribe)


async def test_nothing_is_hinted_that_was_not_acknowledged(world: World) -> None:
    world.topics.gate.clear()
    world.outbox.store(Scribe(LANE).applied(5).batch())
    await world.take(LANE)
    await eventually(lambda: world.topics.in_flight, 5, "a publication in flight")
    await world.relays._mark()
    assert world.outbox.hints == {}


# --- a broker that fails ---


@pytest.mark.parametrize("fault", ["lost", "unheard", "torn"])
@pytest.mark.parametrize("times", [1, 4])
async def test_a_failed_publication_neither_loses_nor_doubles(world: World, fault: str, times: int) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(some_of_everything(scribe))
    world.topics.faults.extend([fault] * times)
    await world.take(LANE)
    await world.published(scribe.position)
    world.check(scribe)
    assert world.topics.starts == {1: 1 + times}


async def test_a_publisher_that_cannot_start_is_made_again(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(2).batch())
    world.topics.start_faults.extend([Unavailable("kafka", "away")] * 3)
    await world.take(LANE)
    await world.published(2)
    world.check(scribe)
    assert world.relays.health().ok


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
    await eventually(lambda: not world.relays.health().ok, 5, "not well")
    assert world.relays.health().detail == {"lanes": {"starting": 1}, "failing": [1]}
    assert not taking.done()
    await world.relays.drop([LANE.lane])
    await taking
    assert world.relays.health().ok


# --- a database that fails ---


async def test_a_database_that_is_away_is_waited_for(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    world.outbox.away = True
    world.outbox.store(scribe.applied(30).batch())
    world.relays.wake([LANE.lane])
    await world.relays._tolerantly(world.relays._poll)
    world.outbox.away = False
    await world.published(30)
    world.check(scribe)
    assert world.topics.starts == {1: 1}, "the publisher has nothing to do with it"


async def test_a_relay_starts_when_the_database_is_back(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(3).batch())
    world.outbox.away = True
    taking = asyncio.create_task(world.take(LANE))
    await eventually(lambda: LANE.lane in world.relays.states(), 5, "taken")
    assert world.topics.starts == {}, "no publisher before it is known whose lane it is"
    world.outbox.away = False
    await taking
    await world.published(3)


# --- contradictions ---


async def test_a_hole_halts_the_lane_and_no_other(world: World) -> None:
    other = lane_of(2, 1)
    mine, theirs = Scribe(LANE), Scribe(other)
    world.outbox.store(mine.applied(30).batch(), theirs.applied(30).batch())
    del world.outbox.rows[1][14]
    await world.take(LANE, other)
    detail = await world.halted("OUTBOX_GAP")
    assert detail == "expected position 15 with event 15, found position 16, item 0, event 16"
    assert [number(each, "tm_sequence") for each in world.topics.log(EVENTS)] == list(range(1, 11))
    await world.published(30, other)
    world.check(theirs)


async def test_rows_missing_at_the_end_are_noticed(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied(5).batch())
    del world.outbox.rows[1][3:]
    await world.take(LANE)
    detail = await world.halted("OUTBOX_GAP")
    assert detail == "the ledger counts 5 positions and 5 events, the outbox ends with 3 and 3"


async def test_an_event_missing_at_the_end_is_noticed(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied(1, events=2).batch())
    del world.outbox.rows[1][1]
    await world.take(LANE)
    assert "1 positions and 2 events" in await world.halted("OUTBOX_GAP")


async def test_a_parked_record_that_was_deleted_is_noticed(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied().parked().batch())
    world.outbox.kept.clear()
    await world.take(LANE)
    assert await world.halted("OUTBOX_GAP") == "the record parked at position 2 was deleted"


async def test_a_foreign_record_halts_the_lane(world: World) -> None:
    world.topics.start_faults.append(ForeignTail(EVENTS, 0, 17))
    await world.take(LANE)
    assert "offset 17" in await world.halted("FOREIGN_TAIL")


async def test_a_restored_database_halts_the_lane_before_anything_is_sent(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(8).batch())
    await world.take(LANE)
    await world.published(8)
    await world.relays.drop([LANE.lane])
    restored = Scribe(LANE)
    world.outbox.rows.clear()
    world.outbox.hints.clear()
    world.outbox.store(restored.applied(5).batch())
    await world.take(LANE)
    assert "ends with event 8, the log with 5" in await world.halted("HISTORY_BEHIND")
    world.outbox.store(restored.applied(6).batch())
    world.outbox.halts.clear()
    assert "event 8 at position 8 is" in await world.halted("HISTORY_FORKED")
    assert len(world.topics.log(EVENTS)) == 8


async def test_a_halt_is_recorded_even_if_the_database_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.outbox.store(Scribe(LANE).applied(2).batch())
    del world.outbox.rows[1][0]

    halt, refusals = world.outbox.halt, [Unavailable("database", "away")] * 2

    async def reluctant(*args: Any) -> None:
        if refusals:
            raise refusals.pop()
        await halt(*args)

    monkeypatch.setattr(world.outbox, "halt", reluctant)
    await world.take(LANE)
    await world.halted("OUTBOX_GAP")


async def test_it_goes_on_by_itself_when_the_halt_is_lifted(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(12).batch())
    taken_out = world.outbox.rows[1].pop(6)
    await world.take(LANE)
    await world.halted("OUTBOX_GAP")
    world.outbox.rows[1].insert(6, taken_out)
    world.outbox.halts.clear()
    await world.published(12)
    world.check(scribe)


async def test_a_lane_lost_while_it_stands_still_is_left_to_its_owner(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied(2).batch())
    del world.outbox.rows[1][0]
    await world.take(LANE)
    await world.halted("OUTBOX_GAP")
    world.outbox.epochs[LANE.lane] = 2
    world.outbox.halts.clear()
    await eventually(lambda: world.state() is RelayState.ENDED, 5, "it ends")
    assert world.topics.starts == {1: 1}, "the owner's publisher must not be fenced"


# --- a record that the broker never takes ---


def too_large(limit: int) -> Any:
    return lambda record: len(record.value or b"") > limit


@pytest.mark.parametrize("at", [1, 2, 7, 10, 11, 25])
async def test_a_refused_event_halts_its_lane_right_before_it(world: World, at: int) -> None:
    scribe, other = Scribe(LANE), lane_of(2, 1)
    theirs = Scribe(other)
    for position in range(1, 26):
        scribe.applied(payload=b"x" * 100 if position == at else b"x")
    world.outbox.store(scribe.batch(), theirs.applied(25).batch())
    world.topics.refuses = too_large(99)
    await world.take(LANE, other)
    detail = await world.halted("EVENT_REFUSED")
    assert detail.startswith(f"position {at}, largest record about ")
    assert f"for {EVENTS}: too large" in detail
    assert [number(each, "tm_position") for each in world.topics.log(OUTCOMES)] == list(range(1, at))
    await world.published(25, other)
    world.topics.refuses = too_large(100)
    world.outbox.halts.clear()
    await world.published(25)
    world.check(scribe)


# --- claims ---


async def test_a_fenced_publisher_asks_whose_lane_it_is(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    world.topics.starts[LANE.lane] += 1  # somebody else started one
    world.outbox.store(scribe.applied(3).batch())
    world.relays.wake([LANE.lane])
    await world.published(3)
    world.check(scribe)


async def test_who_has_lost_the_claim_ends(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    world.outbox.epochs[LANE.lane] = 2
    world.topics.starts[LANE.lane] += 1
    world.outbox.store(scribe.applied(3).batch())
    world.relays.wake([LANE.lane])
    await eventually(lambda: world.state() is RelayState.ENDED, 5, "it ends")
    assert world.topics.log(EVENTS) == []
    assert world.topics.starts == {1: 2}, "the owner's publisher must not be fenced"


async def test_two_processes_with_the_same_lane_end_with_one(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(200).batch())
    await world.take(LANE)
    second = World(world.outbox, world.topics)
    world.outbox.epochs[LANE.lane] = 2
    await second.relays.take([claim_of(LANE, 2)])
    await second.published(200)
    await eventually(lambda: world.state() is RelayState.ENDED, 5, "the first one ends")
    world.check(scribe)
    await second.relays.stop()


async def test_a_new_claim_replaces_the_old_relay(world: World) -> None:
    scribe = Scribe(LANE)
    await world.take(LANE)
    world.outbox.epochs[LANE.lane] = 2
    await world.take(LANE, epoch=2)
    world.outbox.store(scribe.applied(3).batch())
    world.relays.wake([LANE.lane])
    await world.published(3)
    assert world.topics.open == 1


# --- the end ---


async def test_what_is_in_flight_at_the_end_is_acknowledged_and_hinted(world: World) -> None:
    scribe = Scribe(LANE)
    world.topics.gate.clear()
    world.outbox.store(scribe.applied(25).batch())
    await world.take(LANE)
    await eventually(lambda: world.topics.in_flight, 5, "a publication in flight")
    dropping = asyncio.create_task(world.relays.drop([LANE.lane]))
    await eventually(lambda: world.relays._relays[LANE.lane]._stopping, 5, "asked to stop")
    world.topics.gate.set()
    await dropping
    assert len(world.topics.log(EVENTS)) == 10
    assert world.outbox.hints[LANE.lane].position == 10
    assert world.relays.states() == {}
    assert world.topics.open == 0


async def test_what_hangs_at_the_end_is_cut_off(world: World) -> None:
    scribe = Scribe(LANE)
    world.topics.gate.clear()
    world.outbox.store(scribe.applied(5).batch())
    await world.take(LANE)
    await eventually(lambda: world.topics.in_flight, 5, "a publication in flight")
    await world.relays.drop([LANE.lane])
    assert world.topics.open == 0
    world.topics.gate.set()
    await world.take(LANE)
    await world.published(5)
    world.check(scribe)


async def test_a_publisher_that_does_not_close_is_left_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.outbox.relay.CLOSE_WITHIN_S", 0.01)
    release = asyncio.Event()

    class Stuck:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.start, self.publish = inner.start, inner.publish

        async def close(self) -> None:
            await release.wait()
            await self.inner.close()

    of = world.topics.of
    monkeypatch.setattr(world.topics, "of", lambda lane: Stuck(of(lane)))
    await world.take(LANE)
    with capture_logs() as told:
        await world.relays.drop([LANE.lane])
    assert Log.DRAIN_CUT_OFF in [entry["event"] for entry in told]
    release.set()
    await eventually(lambda: world.topics.open == 0, 5, "closed in the end")


async def test_dropping_what_was_never_taken_is_nothing(world: World) -> None:
    await world.relays.drop([5])
    assert world.relays.states() == {}


async def test_the_last_hint_may_fail(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied(5).batch())
    await world.take(LANE)
    await world.published(5)
    world.outbox.away = True
    await world.relays.drop([LANE.lane])
    world.outbox.away = False
    assert world.relays.states() == {}
