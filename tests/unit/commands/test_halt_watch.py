"""The look for halts: one question for all streams of a process, of which each may begin, stop and fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.engine.streams import MARKET_DATA
from tidemill.commands.halt_watch import HaltWatch, WatchedClaims
from tidemill.domain.errors import TransientError
from tidemill.domain.lane import Claim, Lane, Progress

HALTS = {2: ("STUCK", "by the test"), 3: ("STUCK", "by the test")}
UNUSED = Progress(0, 0, None, 0, 0, 0, 1, datetime(2026, 1, 1, tzinfo=UTC))


class Store:
    """Answers with all halts, and notes the questions."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.before_answer: Callable[[], Any] = lambda: None

    async def halted(self, lanes: Sequence[int]) -> dict[int, tuple[str, str]]:
        self.asked.append(list(lanes))
        self.before_answer()
        return {lane: HALTS[lane] for lane in lanes if lane in HALTS}


class Lanes:
    """Lanes of one stream, the last of which is halted."""

    def __init__(self, *lanes: int) -> None:
        self.claims = [
            Claim(Lane(lane, MARKET_DATA.aggregate, lane, 4, MARKET_DATA.topics), 1, UNUSED) for lane in lanes
        ]
        self.answers: list[set[int]] = []

    def watched(self) -> WatchedClaims:
        return WatchedClaims(self.claims[:-1], self.claims[-1:])

    def take_halts(self, watched: WatchedClaims, halted: Mapping[int, tuple[str, str]]) -> None:
        assert watched == self.watched()
        self.answers.append({lane for lane in watched.lane_ids if lane in halted})


@pytest.fixture
def store() -> Any:
    return Store()


async def test_one_question_answers_all_streams(store: Any) -> None:
    watch, streams = HaltWatch(), [Lanes(1, 2), Lanes(3), Lanes()]
    with ExitStack() as running:
        for lanes in streams:
            running.enter_context(watch.following(lanes))
        for _ in range(3):
            for lanes in streams:
                await watch.look(lanes, store)
    assert [sorted(asked) for asked in store.asked] == [[1, 2, 3]] * 3
    assert [lanes.answers for lanes in streams] == [[{2}] * 3, [{3}] * 3, [set()] * 3]


async def test_without_lanes_nothing_is_asked(store: Any) -> None:
    watch, lanes = HaltWatch(), Lanes()
    with watch.following(lanes):
        await watch.look(lanes, store)
    assert store.asked == []


async def test_a_stream_asks_itself_once_the_one_that_asked_has_stopped(store: Any) -> None:
    watch, first, second = HaltWatch(), Lanes(1), Lanes(2)
    with watch.following(second):
        with watch.following(first):
            await watch.look(first, store)
        await watch.look(second, store)  # that answer was for this look, too
        await watch.look(second, store)
    assert store.asked == [[1, 2], [2]]


async def test_a_stream_that_stops_meanwhile_gets_no_answer(store: Any) -> None:
    watch, first, second = HaltWatch(), Lanes(1), Lanes(2)
    with ExitStack() as running, watch.following(first):
        running.enter_context(watch.following(second))
        store.before_answer = running.close
        await watch.look(first, store)
    assert (first.answers, second.answers) == ([set()], [])


async def test_another_stream_asks_after_a_failure(store: Any) -> None:
    watch, first, second = HaltWatch(), Lanes(1), Lanes(2)

    def unavailable() -> None:
        store.before_answer = lambda: None
        raise TransientError("by the test")

    store.before_answer = unavailable
    with watch.following(first), watch.following(second):
        with pytest.raises(TransientError):
            await watch.look(first, store)
        await watch.look(second, store)
    assert [sorted(asked) for asked in store.asked] == [[1, 2]] * 2
    assert (first.answers, second.answers) == ([set()], [{2}])
