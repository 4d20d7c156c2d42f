"""Rebuild and verify on fakes: equal rows, live traffic meanwhile, what cannot be replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from tests.fakes.events import START, MemoryCodec, MemoryEvents, MemoryTopic
from tests.fakes.views import MemoryRebuildTargets, MemoryViews
from tests.support.engine.projections import EVENTS, Bench, Cursed, Stock, Stored, days, goods, stocks
from tidemill.domain.errors import TransientError, Unavailable, UsageError
from tidemill.domain.projection import Projection
from tidemill.projections import rebuild as rebuilding
from tidemill.projections.fold import FoldFailed
from tidemill.projections.history import LaneHistory
from tidemill.projections.ports import CheckpointMove, Comparison, EventsUnfetchable
from tidemill.projections.rebuild import rebuild
from tidemill.projections.replay import ReplayFailed, ReplayParts
from tidemill.projections.verify import verify


class Yard:
    """Everything that a rebuild works with, in memory."""

    def __init__(self) -> None:
        self.views = MemoryViews()
        self.topic = MemoryTopic()
        self.codec = MemoryCodec(*EVENTS)
        self.sources: list[MemoryEvents] = []
        self.progress: list[tuple[int, int]] = []
        self.on_source: Callable[[MemoryEvents], None] = lambda source: None
        self.stall_s = 20.0  # longer than any pause of a busy machine

    def bench(self, *projections: Projection) -> Bench:
        return Bench(self.views, projections or (stocks,), topic=self.topic)

    def parts(self) -> ReplayParts:
        return ReplayParts(
            self.source, self.codec, self.views, MemoryRebuildTargets(self.views), self.stall_s
        )

    def source(self) -> MemoryEvents:
        source = MemoryEvents(self.topic, partitions=2, max_records=100)
        self.sources.append(source)
        self.on_source(source)
        return source

    async def rebuild(self, projection: Projection = stocks) -> int:
        return (await rebuild(goods(), projection, self.parts(), self.note)).events

    async def verify(self, projection: Projection = stocks) -> Comparison:
        return await verify(goods(), projection, self.parts(), self.note)

    def note(self, done: int, total: int) -> None:
        self.progress.append((done, total))


@pytest.fixture
def yard() -> Yard:
    return Yard()


async def project(yard: Yard, *sequences: int) -> None:
    """Have the live view at these events of lane 0 and one of lane 1."""
    async with yard.bench() as bench:
        bench.store(0, *sequences)
        bench.store(1, 1, good="rum")
        await bench.reaches({0: sequences[-1], 1: 1})


async def test_a_rebuild_is_equal_and_shows_its_progress(yard: Yard) -> None:
    await project(yard, *range(1, 501))
    before = dict(yard.views.rows(stocks))
    assert await yard.rebuild() == 501
    assert yard.views.rows(stocks) == before
    assert yard.views.shelves["stocks"].live == 2
    assert yard.progress[-1] == (501, 501)
    assert yard.progress == sorted(yard.progress)
    assert all(source.closed for source in yard.sources)


async def test_a_rebuild_takes_new_code(yard: Yard) -> None:
    await project(yard, 1, 2, 3)
    doubled = replace(
        stocks, folds={Stored: lambda row, told: Stock(good=told.event.good, amount=77, labels="{}")}
    )
    await yard.rebuild(doubled)
    assert {getattr(row, "amount", None) for row in yard.views.rows(stocks).values()} == {77}


async def test_the_projector_goes_on_during_a_rebuild_and_after_it(yard: Yard) -> None:
    async with yard.bench(stocks, days) as bench:
        bench.store(0, *range(1, 2_001))
        await bench.reaches({0: 2_000})
        appended = iter(range(2_001, 3_000))

        def more(source: MemoryEvents) -> None:
            bench.store(0, *(next(appended) for _ in range(300)))

        yard.on_source = more
        await yard.rebuild()
        bench.store(0, next(appended))
        await bench.reaches({0: 2_301})
        await bench.reaches({0: 2_301}, "days")
    row = yard.views.rows(stocks)[("tea",)]
    assert isinstance(row, Stock)
    assert row.amount == 2_301
    assert yard.views.shelves["stocks"].live == 2


async def test_a_state_is_not_made_of_events_that_its_lane_does_not_know(yard: Yard) -> None:
    await project(yard, 1, 2, 3)
    yard.topic.append(0, 4, Stored(good="tea"))
    targets = MemoryRebuildTargets(yard.views, is_exact=True)
    parts = replace(yard.parts(), rebuild_targets=targets)
    with pytest.raises(
        ReplayFailed, match=r"goods/0 ends with event 3 in the database, and its topic has event 4"
    ):
        await rebuild(goods(), stocks, parts, yard.note)
    assert yard.views.shelves["stocks"].live == 1
    yard.views.lanes[0] = LaneHistory(end=3)
    assert (await rebuild(goods(), stocks, parts, yard.note)).events == 4


async def test_a_rebuild_of_nothing(yard: Yard) -> None:
    assert await yard.rebuild() == 0
    assert yard.progress[-1] == (0, 0)


async def test_two_rebuilds_at_once(yard: Yard) -> None:
    await project(yard, *range(1, 300))
    outcomes = await asyncio.gather(yard.rebuild(), yard.rebuild(), return_exceptions=True)
    assert sorted(map(type, outcomes), key=str) == [int, UsageError]


async def test_a_long_way_behind_is_chased_without_the_lock(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "MAX_EVENTS", 0)
    await project(yard, *range(1, 300))
    assert await yard.rebuild() == 300


async def test_a_chase_is_given_up_and_ends_under_the_lock(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "MAX_EVENTS", -1)
    await project(yard, 1, 2)
    assert await yard.rebuild() == 3


Act = Callable[[Yard], Awaitable[Any]]
BOTH = pytest.mark.parametrize("act", [Yard.rebuild, Yard.verify])


@BOTH
async def test_a_topic_without_its_beginning_cannot_be_replayed(yard: Yard, act: Act) -> None:
    await project(yard, 1, 2, 3)
    yard.topic.trim(0, 2)
    with pytest.raises(ReplayFailed, match=r"partition 0 at offset 0: .*its rows are unchanged"):
        await act(yard)
    assert yard.views.shelves["stocks"].live == 1
    assert list(yard.views.shelves["stocks"].rows) == [1]


@BOTH
async def test_events_that_are_gone_are_named(yard: Yard, act: Act) -> None:
    await project(yard, 1, 2, 3)
    del yard.topic.records[0][1:]
    yard.stall_s = 0.3
    with pytest.raises(ReplayFailed, match=r"no more events for 0\.3 s; lane goods/0 lacks 2 after event 1"):
        await act(yard)


@BOTH
async def test_an_event_that_cannot_be_read(yard: Yard, act: Act) -> None:
    await project(yard, 1, 2, 3)
    yard.codec._classes.clear()
    with pytest.raises(ReplayFailed, match="lane goods/0: no class here reads events of type Stored"):
        await act(yard)


@BOTH
async def test_a_bug_in_a_fold(yard: Yard, act: Act) -> None:
    await project(yard, 1, 2)
    cursed = Cursed(good="tea").model_dump_json().encode()
    yard.topic.records[0][1] = yard.topic.records[0][1]._replace(event_type="Cursed", value=cursed)
    with pytest.raises(FoldFailed, match="event 2 of partition 0"):
        await act(yard)
    assert yard.views.shelves["stocks"].live == 1


@BOTH
async def test_a_fault_in_a_partition_that_is_not_wanted_does_not_matter(yard: Yard, act: Act) -> None:
    async with yard.bench() as bench:
        bench.store(0, *range(1, 400))
        await bench.reaches({0: 399})
    yard.on_source = lambda source: source.faults.append(EventsUnfetchable(1, 0, "crc"))
    await act(yard)


@BOTH
async def test_a_server_that_goes_away_meanwhile_is_waited_for(yard: Yard, act: Act) -> None:
    await project(yard, 1, 2, 3)
    yard.on_source = lambda _: yard.views.problems.append(Unavailable("database", "gone"))
    await act(yard)


@BOTH
async def test_a_broker_that_is_away_at_the_start_is_said_at_once(yard: Yard, act: Act) -> None:
    await project(yard, 1, 2, 3)
    yard.on_source = lambda source: source.away.append(Unavailable("kafka", "gone"))
    with pytest.raises(Unavailable, match="kafka is not available: gone"):
        await act(yard)
    assert yard.sources[-1].closed
    yard.on_source = lambda _: None
    await act(yard)


async def test_a_source_that_fails_for_good_is_closed(yard: Yard) -> None:
    await project(yard, 1)
    yard.on_source = lambda source: source.away.append(UsageError("no such topic"))
    with pytest.raises(UsageError):
        await yard.verify()
    assert yard.sources[-1].closed


async def test_somebody_else_in_the_rebuild_ends_a_rebuild(yard: Yard) -> None:
    await project(yard, 1, 2, 3)
    views = yard.views

    def intrude(source: MemoryEvents) -> None:
        shelf = views.shelves["stocks"]
        shelf.checkpoints[shelf.newest].clear()

    yard.on_source = intrude
    with pytest.raises(ReplayFailed, match="another process has begun to build its rows"):
        await yard.rebuild()


async def test_a_swap_that_meets_a_reader_is_tried_again(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    await project(yard, 1, 2, 3)
    refusals = [TransientError("a reader holds the table")] * 2
    original = rebuilding._swap

    async def swap(*arguments: Any) -> int:
        if refusals:
            raise refusals.pop()
        return await original(*arguments)

    monkeypatch.setattr(rebuilding, "_swap", swap)
    assert await yard.rebuild() == 4


# --- verify ----------------------------------------------------------------------------------------------------------


async def test_equal_rows_pass(yard: Yard) -> None:
    await project(yard, *range(1, 300))
    comparison = await yard.verify()
    assert (comparison.rows, comparison.differing) == (2, 0)
    assert yard.progress[-1] == (300, 300)
    assert yard.views.shelves["stocks"].live == 1


async def test_a_cell_that_was_changed_by_hand_is_shown(yard: Yard) -> None:
    await project(yard, 1, 2)
    row = yard.views.rows(stocks)[("tea",)]
    assert isinstance(row, Stock)
    row.amount = 3
    comparison = await yard.verify()
    assert comparison.differing == 1
    assert comparison.examples[0].columns == {"amount": ("3", "2")}


async def test_later_events_do_not_matter(yard: Yard) -> None:
    await project(yard, 1, 2)
    for sequence in (3, 4):
        yard.topic.append(0, sequence, Stored(good="tea"))
    assert (await yard.verify()).differing == 0


@pytest.mark.parametrize("seed", range(5))
async def test_any_interleaving_of_lanes_gives_the_same_rows(yard: Yard, seed: int) -> None:
    random = Random(seed)
    async with yard.bench(stocks, days) as bench:
        for at in range(1, 101):
            for lane in random.sample([0, 1], 2):
                when = START + timedelta(hours=random.randrange(72))
                event = Stored(good="tea", timestamp=when, amount=random.randrange(9))
                bench.topic.append(lane, at, event, at=START + timedelta(seconds=random.randrange(1_000)))
            if random.random() < 0.2:
                await bench.until(lambda: True, "a turn of the loop")
        await bench.reaches({0: 100, 1: 100}, "days")
        await bench.reaches({0: 100, 1: 100})
    assert (await yard.verify(days)).differing == 0
    assert (await verify_labels_apart(yard)).differing == 0


async def verify_labels_apart(yard: Yard) -> Comparison:
    """`stocks` notes which event came first in its label, which depends on how lanes interleave: leave it out."""
    for row in yard.views.rows(stocks).values():
        assert isinstance(row, Stock)
        row.labels = "{}"
    plain = replace(stocks, folds={Stored: _plain})
    return await yard.verify(plain)


def _plain(row: Stock | None, told: Any) -> Stock:
    folded: Stock = stocks.folds[Stored](row, told)
    folded.labels = "{}"
    return folded


async def test_a_live_view_behind_a_halt_is_verified_up_to_there(yard: Yard) -> None:
    async with yard.bench() as bench:
        bench.store(0, 1, 2, 4)
        await bench.halts("GAP")
    assert (await yard.verify()).differing == 0


async def test_the_store_refuses_a_step_of_an_old_rebuild_target(yard: Yard) -> None:
    await project(yard, 1)
    async with MemoryRebuildTargets(yard.views).open(stocks, "goods", 2, lasting=True) as target:
        view = target.view
    with pytest.raises(TransientError):
        async with yard.views.transaction(view) as transaction:
            await transaction.advance({0: CheckpointMove(0, 1, 1)})
