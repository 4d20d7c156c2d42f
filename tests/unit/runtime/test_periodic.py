"""A periodic service outlives a server that is unavailable, and at its end does not wait for one that is silent."""

import asyncio

import pytest

from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.errors import TransientError, Unavailable
from tidemill.runtime.pauses import every
from tidemill.runtime.periodic import Periodic, Watch


class Silent(Watch):
    """Its server takes the call and never answers."""

    def __init__(self) -> None:
        super().__init__(every_s=0.0)
        self.asked = asyncio.Event()
        self.let_go = False

    async def look(self) -> None:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.let_go = True


class Ailing(Watch):
    """Its server is unavailable for three looks, then something is wrong that no waiting mends."""

    def __init__(self) -> None:
        super().__init__(every_s=0.0)
        self.looks = 0

    async def look(self) -> None:
        self.looks += 1
        if self.looks <= 3:
            raise Unavailable("kafka", "frozen")
        raise LookupError("a mistake of ours")


async def test_a_look_that_nobody_answers_is_ended_at_the_stop() -> None:
    watch = Silent()
    running = asyncio.create_task(watch.run())
    await watch.asked.wait()
    await watch.stop()
    await asyncio.wait_for(running, timeout=HANGING_S)
    assert watch.let_go


async def test_a_look_under_way_is_ended_when_the_service_is_cancelled() -> None:
    watch = Silent()
    running = asyncio.create_task(watch.run())
    await watch.asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert watch.let_go


async def test_a_server_that_is_away_is_looked_at_again_and_a_mistake_is_not_hidden() -> None:
    watch = Ailing()
    with pytest.raises(LookupError, match="a mistake"):
        await asyncio.wait_for(watch.run(), timeout=HANGING_S)
    assert watch.looks == 4
    assert watch.health().ok


class Chores(Periodic):
    """Does one piece of work at each look, and tells what it was told. `faults`: what the next looks meet."""

    def __init__(self, *faults: Exception, due: int = 1) -> None:
        super().__init__(every_s=3_600.0)
        self.faults = list(faults)
        self.due = due
        self.looks = 0
        self.told: list[tuple[str, str]] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def look(self) -> bool:
        self.looks += 1
        await self.may_go_on.wait()
        if self.faults:
            raise self.faults.pop(0)
        self.due -= 1
        return self.due > 0

    def put_off(self, error: TransientError) -> None:
        self.told.append((str(error), self.problem))


async def test_it_pauses_only_when_nothing_more_is_due() -> None:
    chores = Chores(due=3)
    running = asyncio.create_task(chores.run())
    await eventually(lambda: chores.due == 0, what="all of it is done")
    assert chores.looks == 3
    await chores.stop()
    await asyncio.wait_for(running, timeout=HANGING_S)


async def test_a_wake_cuts_the_pause_short_and_is_not_lost_during_a_look() -> None:
    chores = Chores()
    running = asyncio.create_task(chores.run())
    await eventually(lambda: chores.due == 0, what="a look")
    chores.may_go_on.clear()
    chores.wake()
    await eventually(lambda: chores.looks == 2, what="another look")
    chores.wake()
    chores.may_go_on.set()
    await eventually(lambda: chores.looks == 3, what="one for the news that came meanwhile")
    await chores.stop()
    await asyncio.wait_for(running, timeout=HANGING_S)


async def test_what_is_under_way_at_the_stop_comes_to_its_end() -> None:
    chores = Chores()
    chores.may_go_on.clear()
    running = asyncio.create_task(chores.run())
    await eventually(lambda: chores.looks == 1, what="a look")
    await chores.stop()
    chores.may_go_on.set()
    await asyncio.wait_for(running, timeout=HANGING_S)
    assert chores.due == 0


async def test_what_is_in_the_way_is_told_and_forgotten_when_it_is_over() -> None:
    gone, frozen = Unavailable("database", "gone"), Unavailable("database", "frozen")
    chores = Chores(gone, frozen)
    running = asyncio.create_task(chores.run())
    await eventually(lambda: chores.problem, what="the first problem")
    chores.wake()
    await eventually(lambda: len(chores.told) == 2, what="the second one")
    assert chores.told == [(str(gone), ""), (str(frozen), str(gone))]
    chores.wake()
    await eventually(lambda: not chores.problem, what="it is over")
    await chores.stop()
    await asyncio.wait_for(running, timeout=HANGING_S)


async def test_a_task_does_its_work_between_pauses_until_a_stop() -> None:
    stopping, done = asyncio.Event(), 0

    async def work() -> None:
        nonlocal done
        done += 1
        if done == 3:
            stopping.set()

    await asyncio.wait_for(every(0.0, work, stopping), timeout=HANGING_S)
    assert done == 3
    await asyncio.wait_for(every(3_600.0, work, stopping), timeout=HANGING_S)
    assert done == 3, "not behind the stop"
