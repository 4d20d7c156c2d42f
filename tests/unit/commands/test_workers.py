"""Workers are shared: streams take turns, and what is in the way of one leaves workers to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.intakes import STREAM, World
from tests.support.waiting import HANGING_S, eventually, next_turn
from tidemill.commands.workers import Team, Turn, Workers
from tidemill.domain.errors import TransientError


class HeldUp(MemoryCommandStore):
    """A database in which every transaction waits for a lock; `most`: how many have done so at once."""

    def __init__(self) -> None:
        super().__init__(STREAM)
        self.unlocked = asyncio.Event()
        self.most = 0
        self._now = 0

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await self.unlocked.wait()
        finally:
            self._now -= 1
        async with super()._transaction() as work:
            yield work


async def turn_of(team: Team) -> Turn:
    turn = await asyncio.wait_for(team.turn(), HANGING_S)
    assert turn is not None
    return turn


async def waiting_for(team: Team) -> asyncio.Task[Turn | None]:
    """Begin to wait for a turn, and return when that is so."""
    task = asyncio.create_task(team.turn())
    await next_turn()
    return task


# --- who gets one ----------------------------------------------------------------------------------------------------


async def test_one_stream_has_all_workers() -> None:
    team = Workers(3).team()
    turns = [await turn_of(team) for _ in range(3)]
    assert [turn.share for turn in turns] == [3, 2, 1]
    fourth = await waiting_for(team)
    assert not fourth.done()
    turns[0].end()
    assert (await asyncio.wait_for(fourth, HANGING_S)) is not None


async def test_of_several_streams_none_has_the_last_worker() -> None:
    workers = Workers(3, streams=2)
    busy, quiet = workers.team(), workers.team()
    for _ in range(2):
        await turn_of(busy)
    third = await waiting_for(busy)
    assert not third.done()
    assert (await turn_of(quiet)).share == 1
    assert workers.available(quiet) == 0
    third.cancel()


async def test_streams_take_turns_however_much_each_has() -> None:
    workers = Workers(1, streams=3)
    teams = {name: workers.team() for name in ("busy", "quiet", "late")}
    served: list[str] = []

    async def work(name: str, batches: int) -> None:
        for _ in range(batches):
            turn = await turn_of(teams[name])
            served.append(name)
            turn.end()

    first = await turn_of(teams["busy"])
    works = [asyncio.create_task(work(name, count)) for name, count in (("busy", 6), ("quiet", 2))]
    await next_turn()
    works.append(asyncio.create_task(work("late", 2)))
    await next_turn()
    first.end()
    await asyncio.wait_for(asyncio.gather(*works), HANGING_S)
    assert served[:6] == ["busy", "quiet", "late"] * 2


async def test_batches_that_are_tried_again_have_at_most_half_of_the_workers() -> None:
    workers = Workers(4, streams=5)
    failing = [await turn_of(team) for team in [workers.team() for _ in range(4)]]
    for turn in failing:
        turn.end()  # each of them failed
    again = [asyncio.create_task(turn.__aenter__()) for turn in failing]
    await next_turn()
    assert [task.done() for task in again] == [True, True, False, False]
    others = workers.team()
    for _ in range(2):
        await turn_of(others)
    failing[0].end()
    assert await asyncio.wait_for(again[2], HANGING_S) is failing[2]
    again[3].cancel()


# --- who leaves ------------------------------------------------------------------------------------------------------


async def test_who_is_told_to_stop_waits_no_more() -> None:
    workers = Workers(1, streams=2)
    mine, other = workers.team(), workers.team()
    failed = await turn_of(mine)
    failed.end()
    held = await turn_of(other)
    waiting = await waiting_for(mine)
    mine.close()
    assert await asyncio.wait_for(waiting, HANGING_S) is None
    assert await asyncio.wait_for(mine.turn(), HANGING_S) is None
    with pytest.raises(TransientError):
        await asyncio.wait_for(failed.__aenter__(), HANGING_S)
    held.end()
    async with failed:  # a worker that is free at once is no wait
        assert mine.busy == 1
    assert mine.busy == 0


async def test_who_gives_up_takes_no_worker_along() -> None:
    workers = Workers(1, streams=2)
    team, other = workers.team(), workers.team()
    held = await turn_of(other)
    first, second = await waiting_for(team), await waiting_for(team)
    first.cancel()
    await asyncio.wait({first})
    held.end()  # and the second is cancelled at the moment at which it got its worker
    second.cancel()
    await asyncio.wait({second})
    assert second.cancelled()
    await turn_of(other)


# --- intakes that share them -----------------------------------------------------------------------------------------


async def test_a_stream_that_waits_for_a_lock_holds_up_no_other() -> None:
    workers, stuck = Workers(2, streams=2), HeldUp()
    one, two = World(store=stuck, workers=workers), World(workers=workers)
    for number in range(30):
        one.send(f"p{number}")
    async with AsyncExitStack() as running:
        await running.enter_async_context(one.running())
        await eventually(lambda: stuck.most, what="a batch that waits")
        await running.enter_async_context(two.running())
        for number in range(30):
            two.send(f"p{number}")
        await two.until_logged(30)
        assert stuck.most == 1
        assert not one.logged()
        stuck.unlocked.set()
        await one.until_logged(30)


async def test_a_batch_that_is_to_be_tried_again_holds_no_worker() -> None:
    workers = Workers(1, streams=2)
    one, two = World(workers=workers), World(workers=workers)
    one.store.away = True
    for number in range(10):
        one.send(f"p{number}")
    async with AsyncExitStack() as running:
        first = await running.enter_async_context(one.running())
        one.store.away = False  # to claim
        await eventually(lambda: first.health().detail["lanes"] == 3, what="lanes")
        await one.until_logged(10)
        one.store.away = True
        one.send("p10")
        await eventually(lambda: not first.health().ok, what="a batch that failed")
        await running.enter_async_context(two.running())
        for number in range(30):
            two.send(f"p{number}")
        await two.until_logged(30)
        assert not first.health().ok
        one.store.away = False
        await one.until_logged(11)


async def test_a_stop_waits_for_no_worker_that_another_stream_has() -> None:
    workers, stuck = Workers(1, streams=2), HeldUp()
    one, two = World(store=stuck, workers=workers), World(workers=workers)
    one.send("p1")
    async with one.running():
        await eventually(lambda: stuck.most, what="a batch that waits")
        async with two.running() as second:
            await eventually(lambda: second.health().detail["lanes"] == 3, what="lanes")
            two.send("p1")
            await eventually(lambda: len(workers._wishes) == 1, what="the other stream to wait for a worker")
        assert not two.logged(), "it has ended within its deadline all the same"
        stuck.unlocked.set()
        await one.until_logged(1)


async def test_a_batch_whose_intake_fails_gives_its_worker_back() -> None:
    workers, stuck = Workers(1), HeldUp()
    world = World(store=stuck, workers=workers)
    world.send("p1")
    intake = world.intake()
    await intake.start()
    work = asyncio.create_task(intake.run())
    await eventually(lambda: stuck.most, what="a batch that waits")
    work.cancel()
    await asyncio.wait({work})
    await asyncio.wait_for(intake.stop(), HANGING_S)
    await turn_of(workers.team())
