"""The projector on fakes: what it folds, and where it halts or stops."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.events import MemoryCodec, MemoryEvents, MemoryTopic
from tests.fakes.views import MemoryRebuildTargets, MemoryTransaction, MemoryViews
from tests.support.engine.projections import (
    EVENTS,
    Bench,
    Cleared,
    Counted,
    Cursed,
    Stock,
    Stored,
    days,
    goods,
    stocks,
)
from tests.support.waiting import HANGING_S
from tidemill.domain.errors import ContractError, DataError, TableMisfit, Unavailable
from tidemill.projections import halts, projector, replay
from tidemill.projections.ports import Checkpoint, EventsUnfetchable, FoldHalt, View
from tidemill.projections.read_ahead import ReadAhead
from tidemill.runtime.clock import SystemClock


@pytest.fixture
def views() -> MemoryViews:
    return MemoryViews()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once."""
    monkeypatch.setattr(projector, "LOOK_AGAIN_FIRST_S", 0.005)


def amount(views: MemoryViews, good: str = "tea") -> int:
    row = views.rows(stocks)[(good,)]
    assert isinstance(row, Stock)
    return row.amount


async def test_a_backlog_of_several_lanes_is_folded(views: MemoryViews) -> None:
    bench = Bench(views, [stocks, days])
    bench.store(0, *range(1, 2_501))
    bench.store(1, *range(1, 701))
    async with bench:
        await bench.reaches({0: 2_500, 1: 700})
        await bench.reaches({0: 2_500, 1: 700}, "days")
    assert amount(views) == 3_200
    assert views.checkpoints(days) == {0: Checkpoint(2_500, 2_500), 1: Checkpoint(700, 700)}
    assert bench.status().events == 3_200
    assert bench.status().active_at is not None
    assert bench.source.closed


async def test_a_lone_event_does_not_wait_for_company(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        for sequence in (1, 2, 3):
            bench.store(0, sequence)
            await bench.reaches({0: sequence})
    assert amount(views) == 3


async def test_events_are_decoded_once_for_all_projections(views: MemoryViews) -> None:
    async with Bench(views, [stocks, days]) as bench:
        bench.store(0, 1, 2, 3)
        await bench.reaches({0: 3})
        await bench.reaches({0: 3}, "days")
    assert bench.codec.decoded == 3


async def test_events_that_nobody_folds_count_in_the_checkpoint(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.topic.append(0, 1, Counted(good="tea"))
        await bench.reaches({0: 1})
    assert views.rows(stocks) == {}


async def test_offsets_may_have_holes(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.topic.append(0, 1, Stored(good="tea"), hole=1)
        bench.topic.append(0, 2, Stored(good="tea"), hole=3)
        await bench.reaches({0: 2})
    assert views.checkpoints(stocks)[0] == Checkpoint(2, 6)


async def test_it_goes_on_where_it_stopped(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.store(0, 1, 2)
        await bench.reaches({0: 2})
    async with Bench(views, topic=bench.topic) as again:
        again.store(0, 3)
        await again.reaches({0: 3})
    assert amount(views) == 3
    assert again.codec.decoded == 2  # the last one, to see that it is still there, and the new one


async def test_a_new_projection_catches_up_without_disturbing_the_others(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.store(0, *range(1, 11))
        await bench.reaches({0: 10})
    async with Bench(views, [stocks, days], topic=bench.topic) as both:
        await both.reaches({0: 10}, "days")
        both.store(0, 11)
        await both.reaches({0: 11}, "days")
        await both.reaches({0: 11})
    assert amount(views) == 11


# --- gaps ------------------------------------------------------------------------------------------------------------


async def test_a_repeat_is_dropped_a_gap_halts_and_heals(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.store(0, 1, 2, 1, 4)
        bench.store(1, 1)
        assert await bench.halts(halts.GAP) == "expected 3, got 4"
        await bench.reaches({0: 2, 1: 1})
        assert views.checkpoints(stocks)[0] == Checkpoint(2, 2)
        assert views.shelves["stocks"].halts[0] == FoldHalt(halts.GAP, 3, 4, "expected 3, got 4")
        assert not bench.projector.status().healthy
        bench.store(1, 2)  # other lanes go on
        await bench.reaches({1: 2})
        bench.store(0, 3, 4)
        await bench.reaches({0: 4})
        assert bench.projector.status().healthy
    assert views.shelves["stocks"].halts == {}
    assert amount(views) == 6


async def test_a_gap_heals_after_a_restart_too(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.store(0, 1, 3)
        await bench.halts(halts.GAP)
    async with Bench(views, topic=bench.topic) as again:
        assert await again.halts(halts.GAP) == "expected 2, got 3"
        again.store(0, 2, 3)
        await again.reaches({0: 3})
    assert views.shelves["stocks"].halts == {}


# --- what a lane cannot get over -------------------------------------------------------------------------------------


async def test_an_event_of_a_later_version_halts_its_lane(views: MemoryViews) -> None:
    async with Bench(views, [stocks, days]) as bench:
        bench.store(0, 1)
        bench.topic.append(0, 2, Stored(good="tea"), event_type="Borrowed")
        bench.store(0, 3)
        bench.store(1, 1)
        assert "Borrowed" in await bench.halts(halts.UNREADABLE)
        assert "Borrowed" in await bench.halts(halts.UNREADABLE, name="days")
        await bench.reaches({0: 1, 1: 1})
        await bench.until(lambda: bench.source.flowing == {1}, "the lane is not read any more")
    reader = MemoryCodec(*EVENTS)
    reader._classes["Borrowed"] = Stored
    async with Bench(views, topic=bench.topic, codec=reader) as newer:  # the version that knows it
        await newer.reaches({0: 3})
    assert views.shelves["stocks"].halts == {}


async def test_a_trimmed_topic_halts_who_needs_what_is_gone(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.store(0, *range(1, 6))
        await bench.reaches({0: 5})
    bench.topic.trim(0, 3)
    async with Bench(views, [stocks, days], topic=bench.topic) as later:
        assert "offset 0" in await later.halts(halts.OFFSET_LOST, name="days")
        later.store(0, 6)
        await later.reaches({0: 6})
    assert later.sequences("days")[0] == 0


async def test_a_topic_trimmed_right_behind_the_checkpoint_has_lost_nothing(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.store(0, 1, 2)
        await bench.reaches({0: 2})
    bench.topic.trim(0, 2)
    async with Bench(views, topic=bench.topic) as again:
        again.store(0, 3)
        await again.reaches({0: 3})


async def test_a_topic_that_was_created_again_halts(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.store(0, *range(1, 6))
        bench.store(1, 1, 2)
        await bench.reaches({0: 5, 1: 2})
    bench.topic.create_again()
    bench.store(0, 1, 2)  # shorter than it was
    bench.store(1, 1, 2, 3, 4, good="rum")  # longer, and alike up to there
    bench.topic.append(1, 5, Stored(good="rum"))
    async with Bench(views, topic=bench.topic) as again:
        assert "offset 5" in await again.halts(halts.OFFSET_LOST)
        await again.reaches({1: 5})
        assert again.sequences()[0] == 5


async def test_another_record_in_the_last_ones_place_halts(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.store(0, 1, 2)
        await bench.reaches({0: 2})
    bench.topic.create_again()
    bench.topic.append(0, 1, Stored(good="tea"), hole=1)
    bench.store(0, 2, 3)
    async with Bench(views, topic=bench.topic) as again:
        detail = await again.halts(halts.TOPIC_CHANGED)
        assert detail == "event 2 was folded from offset 1; the topic now has event 1 at offset 1"
        assert again.sequences()[0] == 2


async def test_a_batch_that_cannot_be_unpacked_halts_its_lane(views: MemoryViews) -> None:
    bench = Bench(views)
    bench.source.faults.append(EventsUnfetchable(0, 0, "crc"))
    bench.store(1, 1)
    async with bench:
        assert "crc" in await bench.halts(halts.UNFETCHABLE)
        await bench.reaches({1: 1})


# --- bugs ------------------------------------------------------------------------------------------------------------


async def test_a_bug_stops_its_projection_and_no_other(views: MemoryViews) -> None:
    async with Bench(views, [stocks, days]) as bench:
        bench.store(0, 1)
        bench.topic.append(0, 2, Cursed(good="tea"))
        bench.store(0, 3)
        await bench.reaches({0: 3}, "days")
        await bench.until(lambda: bench.status().error, "stocks stopped")
        bench.store(1, 1)
        await bench.reaches({1: 1}, "days")
        assert "failed on event 2 of partition 0 (Cursed): ZeroDivisionError: cursed" in str(
            bench.status().error
        )
        assert not bench.projector.status().healthy
    assert views.shelves["stocks"].halts[0].code == halts.STOPPED
    assert views.shelves["stocks"].halts[0].got == 2
    mended = replace(stocks, folds={Stored: stocks.folds[Stored], Cursed: lambda row, told: row})
    async with Bench(views, [mended], topic=bench.topic) as again:
        await again.reaches({0: 3, 1: 1})
    assert views.shelves["stocks"].halts == {}


async def test_a_row_that_the_database_refuses_stops_the_projection(views: MemoryViews) -> None:
    bench = Bench(views, [stocks, days])
    async with bench:
        await bench.reaches({0: 0})
        views.problems.append(DataError("22003", "out of range"))
        bench.store(0, 1)
        await bench.until(
            lambda: sum(bench.status(name).error is not None for name in ("stocks", "days")) == 1,
            "one stopped",
        )


async def test_a_projection_without_a_table_does_not_hold_up_the_others(views: MemoryViews) -> None:
    views.problems.append(ContractError("no table"))
    async with Bench(views, [stocks, days]) as bench:
        bench.store(0, 1)
        await bench.reaches({0: 1}, "days")
        assert bench.status().error == "no table"
        assert bench.status().lanes == ()


async def test_a_projection_whose_table_misfits_stands_alone_and_goes_on_by_itself(
    views: MemoryViews, impatient: None
) -> None:
    views.misfits["stocks"] = "public.stocks: the table is missing"
    async with Bench(views, [stocks, days]) as bench:
        bench.store(0, 1)
        await bench.reaches({0: 1}, "days")
        assert bench.status().misfit == "public.stocks: the table is missing"
        assert bench.status().error is None
        assert not bench.projector.status().healthy
        views.misfits.clear()
        await bench.reaches({0: 1})
        assert bench.status().misfit is None
        assert bench.projector.status().healthy


async def test_a_table_that_goes_missing_stops_its_projection_alone(
    views: MemoryViews, impatient: None
) -> None:
    async with Bench(views, [stocks, days]) as bench:
        bench.store(0, 1)
        await bench.reaches({0: 1})
        views.misfits["stocks"] = "public.stocks: the table is missing"
        bench.store(0, 2)
        await bench.reaches({0: 2}, "days")
        await bench.until(lambda: bench.status().misfit, "it stands")
        views.misfits.clear()
        await bench.reaches({0: 2})
        assert views.shelves["stocks"].halts == {}, "what is on record goes with what was folded"


async def test_a_table_that_compares_well_and_still_refuses_is_tried_again_ever_more_rarely(
    views: MemoryViews, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a trigger may: nothing that is declared differs, and it is not known when it will be mended."""
    write, pauses = MemoryTransaction.write, []
    async with Bench(views) as bench:
        bench.store(0, 1)
        await bench.reaches({0: 1})

        async def refused(transaction: MemoryTransaction, *rows: Any) -> None:
            pauses.append(bench.projector._pause_s)
            if len(pauses) <= 4:
                raise TableMisfit("42883: no such function")
            await write(transaction, *rows)

        monkeypatch.setattr(MemoryTransaction, "write", refused)
        bench.store(0, 2)
        await bench.until(lambda: bench.status().misfit == "42883: no such function", "it stands")
        assert views.shelves["stocks"].halts[0].code == halts.TABLE_MISFIT
        await bench.reaches({0: 2})
    assert views.shelves["stocks"].halts == {}
    assert all(pauses[tries + 1] >= 2 * pauses[tries] for tries in range(4)), "a look may write nothing"


async def test_a_row_that_is_refused_by_a_table_that_misfits_stops_nothing_for_good(
    views: MemoryViews, impatient: None
) -> None:
    async with Bench(views) as bench:
        await bench.reaches({0: 0})
        views.misfits["stocks"] = "public.stocks: column more is NOT NULL without a default"
        views.problems.append(DataError("23502", "null value in column more"))
        bench.store(0, 1)
        await bench.until(lambda: bench.status().misfit, "it stands")
        assert bench.status().error is None
        views.misfits.clear()
        await bench.reaches({0: 1})


async def test_when_every_projection_is_stopped_nothing_is_read(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.topic.append(0, 1, Cursed(good="tea"))
        await bench.until(lambda: bench.status().error and not bench.source.flowing, "nothing flows")


async def test_a_bug_in_an_adapter_ends_the_projector(views: MemoryViews) -> None:
    bench = Bench(views)
    views.problems.append(KeyError("a bug"))
    bench.task = asyncio.create_task(bench.projector.run(bench.stopping))
    with pytest.raises(KeyError):
        await asyncio.wait_for(bench.task, HANGING_S)
    assert bench.source.closed


async def test_a_client_that_is_broken_for_good_ends_the_projector(views: MemoryViews) -> None:
    bench = Bench(views)
    bench.source.faults.append(Unavailable("kafka", "not authorised"))
    bench.task = asyncio.create_task(bench.projector.run(bench.stopping))
    with pytest.raises(Unavailable):
        await asyncio.wait_for(bench.task, HANGING_S)


async def test_rows_that_go(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        bench.store(0, 1)
        await bench.reaches({0: 1})
        bench.topic.append(0, 2, Cleared(good="tea"))
        await bench.reaches({0: 2})
    assert views.rows(stocks) == {}


async def test_a_topic_may_be_empty(views: MemoryViews) -> None:
    async with Bench(views, topic=MemoryTopic()) as bench:
        await bench.reaches({0: 0, 1: 0})
        assert bench.projector.status().healthy


@pytest.mark.parametrize("batch_bytes", [1 << 20, 8 << 20])
def test_as_much_is_read_ahead_as_two_batches_of_the_stream_take(
    batch_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a command may have many rows, so may its event: what waits is objects, many times as large as its bytes."""
    bounds: list[int] = []

    class Noting(ReadAhead):
        def __init__(self, *parts: Any, max_bytes: int, **limits: Any) -> None:
            bounds.append(max_bytes)
            super().__init__(*parts, max_bytes=max_bytes, **limits)

    for module in (projector, replay):
        monkeypatch.setattr(module, "ReadAhead", Noting)
    stream, views = replace(goods(), batch_bytes=batch_bytes), MemoryViews()
    source, codec = MemoryEvents(MemoryTopic(), partitions=2), MemoryCodec(*EVENTS)
    projector.Projector(stream, [], source=source, codec=codec, store=views, clock=SystemClock())
    parts = replay.ReplayParts(lambda: source, codec, views, MemoryRebuildTargets(views))
    replay.Replay(stream, View(stocks, 1), parts)
    assert bounds == [2 * batch_bytes] * 2
