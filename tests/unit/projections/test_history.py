"""Events that were withdrawn, and those that the log does not know (yet): what read models make of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.events import MemoryCodec, MemoryEvents, MemoryTopic
from tests.fakes.views import MemoryRebuildTargets, MemoryViews
from tests.support.engine.projections import EVENTS, Bench, Stored, goods, stocks
from tidemill.projections import projector
from tidemill.projections.history import LaneHistory
from tidemill.projections.ports import ForeignRecord
from tidemill.projections.rebuild import rebuild
from tidemill.projections.replay import ReplayFailed, ReplayParts
from tidemill.projections.verify import verify

SET_BACK = LaneHistory(end=3)
RECONCILED = LaneHistory(end=5, withdrawn=[(3, 5)])


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> MemoryViews:
    monkeypatch.setattr(projector, "LOOK_AGAIN_FIRST_S", 0.05)
    return MemoryViews()


def amount(views: MemoryViews) -> int:
    (row,) = views.rows(stocks).values()
    return int(row.amount)  # type: ignore[attr-defined]


def parts(views: MemoryViews, topic: MemoryTopic) -> ReplayParts:
    return ReplayParts(
        source=lambda: MemoryEvents(topic, partitions=1),
        codec=MemoryCodec(*EVENTS),
        store=views,
        rebuild_targets=MemoryRebuildTargets(views),
        stall_s=20.0,  # longer than any pause of a busy machine
    )


async def test_a_topic_beyond_the_log_waits_and_goes_on_behind_what_was_withdrawn(views: MemoryViews) -> None:
    """A restore, a reconciliation, the same commands again: folded once, live as well as rebuilt."""
    views.lanes[0] = SET_BACK
    topic = MemoryTopic()
    async with Bench(views, partitions=1, topic=topic) as bench:
        bench.store(0, 1, 2, 3, 4, 5)
        assert await bench.halts("AHEAD") == "the log ends with event 3, the topic has event 4"
        assert bench.sequences() == {0: 3}
        views.lanes[0] = RECONCILED
        views.lanes[0] = LaneHistory(end=7, withdrawn=RECONCILED.withdrawn)
        bench.store(0, 6, 7)
        await bench.reaches({0: 7})
        assert amount(views) == 5
        await bench.until(lambda: not bench.status().halted, "no halt")
    found = await verify(goods(1), stocks, parts(views, topic), lambda *_: None)
    assert not found.differing
    assert (await rebuild(goods(1), stocks, parts(views, topic), lambda *_: None)).events == 7
    assert amount(views) == 5


async def test_a_log_that_was_put_right_is_followed_again(views: MemoryViews) -> None:
    views.lanes[0] = SET_BACK
    async with Bench(views, partitions=1) as bench:
        bench.store(0, 1, 2, 3, 4, 5)
        await bench.halts("AHEAD")
        views.lanes[0] = LaneHistory(end=5)
        await bench.reaches({0: 5})


async def test_who_has_folded_what_was_withdrawn_halts_until_it_is_rebuilt(views: MemoryViews) -> None:
    topic = MemoryTopic()
    async with Bench(views, partitions=1, topic=topic) as bench:
        bench.store(0, 1, 2, 3, 4)
        await bench.reaches({0: 4})
        views.lanes[0] = LaneHistory(end=6, withdrawn=[(3, 5)])
        bench.store(0, 5, 6)
        assert await bench.halts("WITHDRAWN") == "events 4 to 5 were withdrawn, and it has folded up to 4"
        assert amount(views) == 4
        await rebuild(goods(1), stocks, parts(views, topic), lambda *_: None)
        await bench.reaches({0: 6})
        assert amount(views) == 4


async def test_what_is_gone_for_good_is_said_by_a_rebuild(views: MemoryViews) -> None:
    topic = MemoryTopic()
    async with Bench(views, partitions=1, topic=topic) as bench:
        bench.store(0, 1, 2)
        await bench.reaches({0: 2})
    topic.create_again()
    topic.append(0, 3, Stored(good="tea", amount=1))
    views.lanes[0] = LaneHistory(end=3, lost=[(0, 2)])
    with pytest.raises(ReplayFailed, match="events 1 to 2 are permanently missing in the topic"):
        await rebuild(goods(1), stocks, parts(views, topic), lambda *_: None)


async def test_what_somebody_else_wrote_is_left_out_and_noted(views: MemoryViews) -> None:
    async with Bench(views, partitions=1) as bench:
        bench.source.foreign_records.append(ForeignRecord(0, 17, "no header tm_sequence"))
        await bench.until(lambda: views.foreign == {(0, 17)}, "the record on file")


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12))
def test_the_event_that_follows_is_in_force_and_none_is_left_out(steps: list[int]) -> None:
    ends = [sum(steps[: at + 1]) for at in range(len(steps))]
    withdrawn = list(zip(ends[::2], ends[1::2], strict=False))
    history = LaneHistory(withdrawn=withdrawn)
    bad = {number for before, last in withdrawn for number in range(before + 1, last + 1)}
    reached, at = [], 0
    while (at := history.after(at)) <= ends[-1]:
        reached.append(at)
    assert reached == [number for number in range(1, ends[-1] + 1) if number not in bad]
    assert all(history.until(number) not in bad for number in range(ends[-1] + 1))
