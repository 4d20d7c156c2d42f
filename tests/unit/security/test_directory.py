"""What a process knows of principals is never older than a few seconds, and outlives the database by a minute."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.security.principals import MovedClock, World
from tidemill.domain.errors import ContractError, RequestRefused
from tidemill.security.directory import OUTAGE_S, PrincipalDirectory
from tidemill.security.principal_rows import PrincipalState
from tidemill.security.principals import PrincipalKind


@pytest.fixture
async def world() -> World:
    made = World()
    await made.management.add("billing", PrincipalKind.SERVICE)
    return made


def directory(world: World, *, deadline_s: float = 30.0) -> PrincipalDirectory:
    return PrincipalDirectory(world.store, world.clock, deadline_s=deadline_s)


async def names(of: PrincipalDirectory) -> set[str]:
    return set((await of.current()).by_name)


async def test_it_reads_once_for_all_that_ask_at_once(world: World) -> None:
    asked = directory(world)
    assert await asyncio.gather(*(names(asked) for _ in range(50))) == [{"billing"}] * 50
    assert world.store.asked == 1
    world.clock.pass_(2)
    await names(asked)
    assert world.store.asked == 1


async def test_it_reads_again_beside_the_requests_and_when_it_must_before_them(world: World) -> None:
    asked = directory(world)
    await names(asked)
    await world.management.add("shop", PrincipalKind.SERVICE)
    world.clock.pass_(2.1)
    assert await names(asked) == {"billing"}, "it does not wait yet"
    await asked._reading.wait()
    assert await names(asked) == {"billing", "shop"}
    await world.management.revoke("shop")
    world.clock.pass_(4.1)
    assert await names(asked) == {"billing"}
    assert world.store.asked == 3


async def test_without_the_database_the_last_state_is_in_force_for_a_minute(world: World) -> None:
    asked = directory(world)
    await names(asked)
    world.store.is_away = True
    for _ in range(int(OUTAGE_S)):
        world.clock.pass_(1)
        assert await names(asked) == {"billing"}
    assert 20 < world.store.asked <= 60, "at most once a second"
    world.clock.pass_(1)
    for _ in range(3):
        with pytest.raises(RequestRefused) as caught:
            await names(asked)
        assert (caught.value.code, caught.value.retry_after_s) == ("DATABASE_AWAY", 1.0)
    world.store.is_away = False
    world.clock.pass_(1)
    assert await names(asked) == {"billing"}


async def test_a_revocation_during_an_outage_is_seen_at_the_first_request_after_a_pause(world: World) -> None:
    asked = directory(world)
    await names(asked)
    world.store.is_away = True
    world.clock.pass_(5)
    assert await names(asked) == {"billing"}
    world.store.is_away = False
    await world.management.revoke("billing")
    world.clock.pass_(3)
    assert await names(asked) == set()


async def test_a_silent_database_is_given_up_and_requests_do_not_wait_each_time(world: World) -> None:
    asked = directory(world, deadline_s=0.01)
    await names(asked)
    world.store.is_silent = True
    world.clock.pass_(5)
    assert await names(asked) == {"billing"}
    waiting = directory(world)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await names(waiting)
    world.store.is_silent = False
    await waiting.close()


async def test_a_process_that_never_read_refuses(world: World) -> None:
    world.store.is_away = True
    with pytest.raises(RequestRefused):
        await names(directory(world))


class Slow:
    """A reader that says when it is asked, and answers when it may."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def changed_since(self, version: str | None) -> PrincipalState | None:
        assert version is None
        self.is_asked.set()
        await self.may_answer.wait()
        return PrincipalState("1")


async def test_a_request_that_is_given_up_ends_no_reading() -> None:
    slow = Slow()
    asked = PrincipalDirectory(slow, MovedClock())
    requests = [asyncio.create_task(names(asked)) for _ in range(2)]
    await slow.is_asked.wait()
    requests[0].cancel()
    slow.may_answer.set()
    assert await requests[1] == set()
    assert requests[0].cancelled()


async def test_what_is_no_outage_is_raised() -> None:
    class Wrong:
        async def changed_since(self, version: str | None) -> None:
            raise ContractError("the database is not what this version expects")

    with pytest.raises(ContractError):
        await PrincipalDirectory(Wrong(), MovedClock()).current()
