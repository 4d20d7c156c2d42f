"""The servers of a process are asked now and then, and at once when somebody is about to decide by the answers."""

import asyncio

from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.http.health import Dependencies

HOUR_S = 3600.0


class Flaky:
    """A server that answers once and then never again."""

    name = "database"

    def __init__(self) -> None:
        self.asked = asyncio.Queue[int]()
        self._times = 0

    async def ask(self) -> None:
        self._times += 1
        self.asked.put_nowait(self._times)
        if self._times > 1:
            raise Unavailable("database", "frozen")

    async def close(self) -> None:
        pass


async def test_who_is_about_to_decide_does_not_wait_for_the_next_look() -> None:
    server = Flaky()
    dependencies = Dependencies([server], every_s=HOUR_S)
    async with dependencies.watching():
        assert await server.asked.get() == 1
        loss = asyncio.create_task(dependencies.loss_of("database"))
        await eventually(lambda: dependencies.health()["database"].ok, what="an answer")
        dependencies.ask_at_once()
        await loss
        assert not dependencies.health()["database"].ok


async def test_a_server_is_missing_once_it_was_asked_and_did_not_answer() -> None:
    server = Flaky()
    dependencies = Dependencies([server], every_s=HOUR_S)
    assert dependencies.missing() == []
    async with dependencies.watching():
        await eventually(lambda: dependencies.health()["database"].ok, what="an answer")
        assert dependencies.missing() == []
        dependencies.ask_at_once()
        await dependencies.loss_of("database")
        assert dependencies.missing() == ["database"]
