"""A periodic service outlives a server that is unavailable, and at its end does not wait for one that is silent."""

import asyncio

import pytest

from tests.support.waiting import HANGING_S
from tidemill.domain.errors import Unavailable
from tidemill.runtime.periodic import Watch


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


async def test_a_look_that_nobody_answers_is_let_go_of_at_the_stop() -> None:
    watch = Silent()
    running = asyncio.create_task(watch.run())
    await watch.asked.wait()
    await watch.stop()
    await asyncio.wait_for(running, timeout=HANGING_S)
    assert watch.let_go


async def test_a_look_under_way_is_let_go_of_when_the_service_is_cancelled() -> None:
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
