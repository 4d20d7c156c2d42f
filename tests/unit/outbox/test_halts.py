"""A contradiction halts its lane with a name, and no other lane; what is lifted goes on by itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.publishers import number
from tests.support.engine.outbox import Scribe, lane_of
from tests.support.engine.relays import LANE, World
from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.outbox.ports import ForeignTail
from tidemill.outbox.relay import RelayState
from tidemill.runtime.service import Health

EVENTS, OUTCOMES, LETTERS = LANE.topics.events, LANE.topics.outcomes, LANE.topics.dead_letters


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


async def test_a_hole_between_two_publications_is_a_hole_and_not_another_history(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied(30).batch())
    del world.outbox.rows[1][10]
    await world.take(LANE)
    assert await world.halted("OUTBOX_GAP") == (
        "expected position 11 with event 11, found position 12, item 0, event 12"
    )


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


async def test_a_halted_lane_does_not_make_its_process_ill(world: World) -> None:
    """No restart gets it on: what failed before it was halted is over."""
    world.topics.start_faults += [Unavailable("kafka", "slow")] * 2 + [ForeignTail(EVENTS, 0, 17)]
    await world.take(LANE)
    await world.halted("FOREIGN_TAIL")
    assert world.relays.health() == Health(ok=True, detail={"lanes": {"halted": 1}, "failing": []})


async def test_an_idle_lane_whose_topic_was_created_again_is_halted(world: World) -> None:
    idle, empty = Scribe(LANE), lane_of(2, 1)
    world.outbox.store(idle.applied(3).batch())
    await world.take(LANE, empty)
    await world.published(3)
    await eventually(lambda: world.relays._relays[LANE.id].waiting, what="it is idle")
    await eventually(lambda: world.topics.ends_of(EVENTS) >= 3, what="a look at the old topic")
    world.topics.broker.create(EVENTS, LANE.partitions)
    detail = await world.halted("TOPIC_BEHIND")
    assert detail == f"{EVENTS}/0 acknowledged event 3 and now ends with 0"
    assert world.state(empty) is RelayState.SENDING
    assert world.topics.starts[empty.id] == 1


async def test_a_broker_that_is_away_hides_nothing_of_what_it_lost(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied(3).batch())
    await world.take(LANE)
    await world.published(3)
    await eventually(lambda: world.topics.ends_of(EVENTS) >= 3, what="a look at the old topic")
    world.topics.broker.away = True
    looks = world.topics.looks
    await eventually(lambda: world.topics.looks > looks + 2, what="looks in vain")
    world.topics.broker.create(EVENTS, LANE.partitions)
    world.topics.broker.away = False
    await world.halted("TOPIC_BEHIND")


async def test_a_restored_database_halts_the_lane_before_anything_is_sent(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(8).batch())
    await world.take(LANE)
    await world.published(8)
    await world.relays.drop([LANE.id])
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


async def test_a_database_set_back_under_a_running_relay_is_noticed(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied(8).batch())
    await world.take(LANE)
    await world.published(8)
    restored = Scribe(LANE)
    world.outbox.rows.clear()
    world.outbox.store(restored.applied(5).batch())
    world.relays.wake([LANE.id])
    world.outbox.store(restored.applied(6).batch())
    world.relays.wake([LANE.id])
    assert "position 9 does not continue position 8" in await world.halted("HISTORY_FORKED")
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
    world.outbox.epochs[LANE.id] = 2
    world.outbox.halts.clear()
    await eventually(lambda: world.state() is RelayState.ENDED, what="it ends")
    assert world.topics.starts == {1: 1}, "the owner's publisher must not be fenced"


@pytest.mark.parametrize("at", [1, 2, 7, 10, 11, 25])
async def test_a_refused_event_halts_its_lane_right_before_it(world: World, at: int) -> None:
    scribe, other = Scribe(LANE), lane_of(2, 1)
    theirs = Scribe(other)
    for position in range(1, 26):
        scribe.applied(payload=b"x" * 5000 if position == at else b"x")
    world.outbox.store(scribe.batch(), theirs.applied(25).batch())
    world.topics.broker.limits[EVENTS] = 3000
    await world.take(LANE, other)
    detail = await world.halted("EVENT_REFUSED")
    assert detail.startswith(f"position {at}, largest record about ")
    assert f"for {EVENTS}: a record is larger" in detail
    assert [number(each, "tm_position") for each in world.topics.log(OUTCOMES)] == list(range(1, at))
    await world.published(25, other)
    world.topics.broker.limits[EVENTS] = 10_000
    world.outbox.halts.clear()
    await world.published(25)
    world.check(scribe)
