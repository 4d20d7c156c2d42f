"""One look at the outbox for all streams of a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest

from tests.fakes.outbox import MemoryOutbox
from tests.fakes.publishers import PlainOutcomes, WatchedPublishers
from tests.support.engine.outbox import Scribe, claim_of, lane_of
from tests.support.waiting import eventually
from tidemill.domain.errors import TransientError, Unavailable
from tidemill.outbox.backlog_poll import BacklogPoll
from tidemill.outbox.lanes import LaneRelays, RelaySettings
from tidemill.transport.kafka.outbox.packs import KafkaPacks
from tidemill.transport.kafka.outbox.records import KafkaRecordFormat

FIRST_S, MAX_S = 0.001, 0.004


class CountingOutbox(MemoryOutbox):
    """Notes what is asked. `fault`: raised instead of an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[int, int]] = []
        self.fault: Exception | None = None

    async def pending(self, positions: Mapping[int, int]) -> dict[int, int]:
        self.asked.append(dict(positions))
        if self.fault is not None:
            raise self.fault
        return await super().pending(positions)


class Lanes:
    """A stream of one lane."""

    def __init__(self, lane_id: int, position: int | None = 0) -> None:
        self.lane_id = lane_id
        self.position = position
        self.answers: list[dict[int, int]] = []
        self.put_off_by: list[TransientError] = []

    async def question(self) -> Mapping[int, int] | None:
        return None if self.position is None else {self.lane_id: self.position}

    def answer(self, asked: Mapping[int, int], newest: Mapping[int, int]) -> bool:
        assert asked == {self.lane_id: self.position}
        self.answers.append(dict(newest))
        return False

    def put_off(self, error: TransientError) -> None:
        self.put_off_by.append(error)


@pytest.fixture
def outbox() -> CountingOutbox:
    return CountingOutbox()


def quick_poll() -> BacklogPoll:
    return BacklogPoll(first_s=FIRST_S, max_s=MAX_S)


@asynccontextmanager
async def following(
    poll: BacklogPoll, outbox: CountingOutbox, *streams: Lanes
) -> AsyncIterator[list[asyncio.Event]]:
    stops = [asyncio.Event() for _ in streams]
    tasks = [
        asyncio.create_task(poll.follow(lanes, outbox, stop))
        for lanes, stop in zip(streams, stops, strict=True)
    ]
    yield stops
    for stop in stops:
        stop.set()
    await asyncio.gather(*tasks)


async def answered(lanes: Lanes) -> None:
    before = len(lanes.answers)
    await eventually(lambda: len(lanes.answers) > before, what="answered again")


async def test_streams_are_asked_about_together(outbox: CountingOutbox) -> None:
    one, other = Lanes(1, 5), Lanes(2, 7)
    async with following(quick_poll(), outbox, one, other):
        await answered(one)
        await answered(other)
        assert outbox.asked[-1] == {1: 5, 2: 7}


async def test_a_stream_that_leaves_is_not_asked_about_and_one_that_comes_is(outbox: CountingOutbox) -> None:
    poll, one, other, late = quick_poll(), Lanes(1), Lanes(2), Lanes(3)
    async with following(poll, outbox, one, other) as stops:
        await answered(one)
        stops[0].set()
        await eventually(lambda: outbox.asked[-1] == {2: 0}, what="the other alone")
        async with following(poll, outbox, late):
            await answered(late)
            assert outbox.asked[-1] == {2: 0, 3: 0}


async def test_nobody_asks_when_the_last_stream_has_left_until_one_comes(outbox: CountingOutbox) -> None:
    poll, one, late = quick_poll(), Lanes(1), Lanes(2)
    async with following(poll, outbox, one):
        await answered(one)
    names = [task.get_name() for task in asyncio.all_tasks() if not task.cancelling()]
    assert "backlog poll" not in names
    async with following(poll, outbox, late):  # at once: the former task may not have ended yet
        await answered(late)


async def test_a_stream_whose_progress_is_unknown_does_not_stop_the_others(outbox: CountingOutbox) -> None:
    unknown, known = Lanes(1, None), Lanes(2)
    async with following(quick_poll(), outbox, unknown, known):
        await answered(known)
        assert outbox.asked[-1] == {2: 0}
        assert unknown.answers == []


async def test_all_streams_learn_that_the_database_does_not_answer(outbox: CountingOutbox) -> None:
    one, other = Lanes(1), Lanes(2)
    outbox.fault = Unavailable("database", "switched off by the test")
    async with following(quick_poll(), outbox, one, other):
        await eventually(lambda: one.put_off_by and other.put_off_by, what="both know")
        outbox.fault = None
        await answered(one)
        await answered(other)


async def test_a_mistake_of_ours_ends_all_who_follow_and_the_next_begins_anew(outbox: CountingOutbox) -> None:
    poll, one, other = quick_poll(), Lanes(1), Lanes(2)
    outbox.fault = RuntimeError("planted")
    both = (poll.follow(lanes, outbox, asyncio.Event()) for lanes in (one, other))
    raised = await asyncio.gather(*both, return_exceptions=True)
    assert [str(error) for error in cast("list[Any]", raised)] == ["planted", "planted"]
    outbox.fault = None
    async with following(poll, outbox, one):
        await answered(one)


def has_sent(relays: LaneRelays, scribe: Scribe) -> bool:
    return relays.states()[scribe.lane.id][1].position == scribe.position


async def test_rows_that_were_not_announced_are_sent_whatever_stream_they_are_of(
    outbox: CountingOutbox,
) -> None:
    poll, topics, scribes = quick_poll(), WatchedPublishers(), [Scribe(lane_of(1)), Scribe(lane_of(2, 1))]
    streams = [
        LaneRelays(
            outbox,
            topics,
            PlainOutcomes(),
            KafkaRecordFormat(),
            KafkaPacks(PlainOutcomes()),
            RelaySettings(),
            poll,
        )
        for _ in scribes
    ]
    running = [asyncio.create_task(relays.run()) for relays in streams]
    for relays, scribe in zip(streams, scribes, strict=True):
        outbox.create(scribe.lane.id)
        await relays.take([claim_of(scribe.lane)])
        await relays.compared(scribe.lane.id)
    for scribe in scribes:
        outbox.store(scribe.applied(3).batch())  # and nobody calls `wake`
    for relays, scribe in zip(streams, scribes, strict=True):
        await eventually(partial(has_sent, relays, scribe), what="sent")
    assert {1, 2} in [set(asked) for asked in outbox.asked]
    for relays in streams:
        await relays.stop()
    await asyncio.gather(*running)
