"""The projector on fakes, with other writers, with servers away, and how it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.fakes.views import MemoryTransaction, MemoryViews
from tests.support.engine.projections import (
    Bench,
    Stock,
    stocks,
)
from tests.support.waiting import eventually
from tidemill.domain.errors import TransientError, Unavailable
from tidemill.domain.projection import Projection
from tidemill.projections import halts, projector
from tidemill.projections.ports import Standing, View
from tidemill.runtime.telemetry.log_events import Log


@pytest.fixture
def views() -> MemoryViews:
    return MemoryViews()


def amount(views: MemoryViews, good: str = "tea") -> int:
    row = views.rows(stocks)[(good,)]
    assert isinstance(row, Stock)
    return row.amount


# --- while checkpoints are loaded anew -------------------------------------------------------------------------------


async def test_a_halt_is_shown_also_while_it_looks_again(
    views: MemoryViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "LOOK_AGAIN_FIRST_S", 0.005)
    shown: list[int] = []
    load = views.open

    async def load_and_look(projection: Projection, aggregate: str, partitions: int) -> Standing:
        shown.append(len(bench.status().halted))
        return await load(projection, aggregate, partitions)

    async with Bench(views) as bench:
        bench.store(0, 1, 3)
        await bench.halts(halts.GAP)
        monkeypatch.setattr(views, "open", load_and_look)
        await eventually(lambda: len(shown) > 1, what="it to look again")
    assert set(shown) == {1}


# --- other writers, servers away -------------------------------------------------------------------------------------


async def test_who_finds_his_checkpoint_moved_reads_again(views: MemoryViews) -> None:
    async with Bench(views) as first:
        first.store(0, 1)
        await first.reaches({0: 1})
        async with Bench(views, topic=first.topic) as second:
            for sequence in range(2, 40):
                first.store(0, sequence)
            await first.until(lambda: views.checkpoints(stocks)[0].sequence == 39, "all are folded")
            await eventually(lambda: first.sequences()[0] == second.sequences()[0] == 39)
    assert amount(views) == 39


def both_at(first: Bench, second: Bench, sequence: int) -> bool:
    return first.sequences().get(0) == second.sequences().get(0) == sequence


async def test_two_that_write_one_read_model_say_so_once_each(views: MemoryViews) -> None:
    with capture_logs() as told:
        async with Bench(views) as first, Bench(views, topic=first.topic) as second:
            for sequence in range(1, 30):
                first.store(0, sequence)
                await eventually(partial(both_at, first, second, sequence))
    meetings = [line for line in told if line["event"] == Log.PROJECTION_READS_AGAIN]
    assert 1 <= len(meetings) <= 2, meetings


async def test_a_lost_answer_to_the_commit_doubles_nothing(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        await bench.reaches({0: 0})
        views.lost_answers.append(Unavailable("database", "the answer is lost"))
        bench.store(0, 1, 2)
        await bench.reaches({0: 2})
        bench.store(0, 3)
        await bench.reaches({0: 3})
    assert amount(views) == 3


async def test_a_database_that_is_away_is_waited_for(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        await bench.reaches({0: 0})
        views.problems.extend([Unavailable("database", "gone"), TransientError("deadlock")] * 1_000)
        bench.store(0, 1)
        await bench.until(lambda: bench.projector.status().waiting_for, "it waits")
        assert not bench.projector.status().healthy
        views.problems.clear()
        await bench.reaches({0: 1})
        assert bench.projector.status().waiting_for is None


async def test_servers_that_are_away_at_the_start_are_waited_for(views: MemoryViews) -> None:
    bench = Bench(views)
    views.problems.append(Unavailable("database", "gone"))
    bench.source.away.append(Unavailable("kafka", "gone"))
    bench.codec.away.append(Unavailable("registry", "gone"))
    bench.store(0, 1)
    async with bench:
        await bench.reaches({0: 1})
    assert bench.source.starts == 2


async def test_a_halt_that_cannot_be_recorded_is_recorded_later(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        await bench.reaches({0: 0})
        views.problems.append(Unavailable("database", "gone"))
        bench.store(0, 2)
        await bench.until(lambda: 0 in views.shelves["stocks"].halts, "it is on record")


# --- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["database", "kafka", "registry"])
async def test_it_stops_at_once_while_a_server_is_away(views: MemoryViews, server: str) -> None:
    bench = Bench(views)
    away: Any = [Unavailable(server, "gone")] * 1_000
    problems: Any = {"database": views.problems, "kafka": bench.source.away, "registry": bench.codec.away}
    problems[server].extend(away)
    bench.store(0, 1)
    async with bench:
        await bench.until(lambda: bench.projector.status().waiting_for, "it waits")
        await bench.stop()
    assert bench.source.closed


async def test_it_stops_while_a_batch_is_tried_again(views: MemoryViews) -> None:
    async with Bench(views) as bench:
        await bench.reaches({0: 0})
        views.problems.extend([Unavailable("database", "gone")] * 1_000)
        bench.store(0, 1)
        await bench.until(lambda: bench.projector.status().waiting_for, "it waits")
    assert bench.sequences()[0] == 0


async def test_the_batch_in_flight_is_finished(views: MemoryViews) -> None:
    slow = SlowViews(views)
    async with Bench(slow) as bench:
        bench.store(0, 1, 2)
        await slow.begun.wait()
        bench.stopping.set()
        slow.go_on.set()
        await bench.stop()
    assert views.checkpoints(stocks)[0].sequence == 2


async def test_a_batch_that_does_not_end_is_given_up(views: MemoryViews) -> None:
    slow = SlowViews(views)
    bench = Bench(slow)
    bench.store(0, 1, 2)
    bench.task = asyncio.create_task(bench.projector.run(bench.stopping, drain_s=0.05))
    await slow.begun.wait()
    await bench.stop()
    assert views.checkpoints(stocks)[0].sequence == 0


class SlowViews(MemoryViews):
    """Transactions wait before they commit."""

    def __init__(self, views: MemoryViews) -> None:
        super().__init__()
        self.shelves = views.shelves
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    @asynccontextmanager
    async def transaction(self, view: View) -> AsyncIterator[MemoryTransaction]:
        async with super().transaction(view) as transaction:
            yield transaction
            self.begun.set()
            await self.go_on.wait()


async def test_what_is_read_ahead_is_bounded(views: MemoryViews) -> None:
    slow = SlowViews(views)
    bench = Bench(slow, max_events=100)
    bench.source._max_records = 50
    bench.store(0, *range(1, 1_001))
    async with bench:
        await slow.begun.wait()
        await bench.until(lambda: bench.codec.decoded >= 100, "some are read ahead")
        assert bench.codec.decoded <= 300
        slow.go_on.set()
        await bench.reaches({0: 1_000})
    assert amount(views) == 1_000
