"""`retention run --once` at its lane: it says so when another process works it, and ends when nothing is due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.archive.site import Archive
from tidemill.admin.archive import run_once
from tidemill.admin.archive.run_once import RunProgress, RunResult, RunWatch, RunWork
from tidemill.domain.errors import LaneHalted, UsageError
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.inspection import OperationsDatabase

AS_OF = datetime(2020, 1, 1, tzinfo=UTC)


def watch(world: Archive, progress: RunProgress, max_wait_s: float = 60.0) -> RunWatch:
    lanes = OperationsDatabase(world.pool)
    work = RunWork(lambda: world.claim, lanes, world.store, [world.policy], "this one")
    return RunWatch(work, progress, as_of=AS_OF, max_wait_s=max_wait_s, clock=SystemClock())


async def test_a_lane_that_lives_elsewhere_is_not_waited_for(
    world: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_once, "OWNED_ELSEWHERE_S", 0.0)
    world.claim = None
    with pytest.raises(UsageError, match="belongs to 'test'"):
        await watch(world, RunProgress(lambda *_: None)).run()


async def test_a_lane_that_nobody_gives_us_is_waited_for_and_then_not(
    world: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_once, "OWNED_ELSEWHERE_S", 0.0)
    await world.own("somebody who died")
    world.claim = None
    with pytest.raises(UsageError, match="did not get the archive's lane"):
        await watch(world, RunProgress(lambda *_: None), max_wait_s=1.0).run()


async def test_a_halted_lane_is_an_operators(world: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_once, "OWNED_ELSEWHERE_S", 0.0)
    assert world.claim is not None
    await world.pool.execute(
        "insert into tm.halt (lane, code, detail) values ($1, 'TOPIC_CHANGED', 'x')", world.claim.lane.id
    )
    world.claim = None
    with pytest.raises(LaneHalted):
        await watch(world, RunProgress(lambda *_: None)).run()


async def test_a_run_ends_when_nothing_is_due(world: Archive) -> None:
    await world.fill(2010, rows=2)
    heard: list[tuple[int, int, str]] = []
    progress = RunProgress(lambda *told: heard.append(told))
    seen = watch(world, progress)
    assert not await seen._look()
    assert heard[-1][2] == "1 to seal"
    await world.settle()
    assert not await seen._look()
    assert heard[-1][2] == "1 requested"
    await world.answer()
    await world.settle()
    assert await seen._look()
    assert (progress.moved, heard[-1][0]) == (1, 1)
    assert RunResult(finished=True, moved=1, tables=progress.tables).ok


async def test_a_run_that_left_something_for_people_is_not_well(world: Archive) -> None:
    await world.fill(2010, rows=2)
    await world.settle()
    progress = RunProgress(lambda *_: None)
    await world.pool.execute("update tm.archive set state = 'quarantined', reason = 'a bit flipped'")
    assert await watch(world, progress)._look(), "nothing is due, but somebody must look"
    assert not RunResult(finished=True, moved=0, tables=progress.tables).ok
