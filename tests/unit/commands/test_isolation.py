"""A suspect is alone in its process."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from tests.support.waiting import eventually
from tidemill.commands.isolation import IsolationGate


class Company:
    """Who is in at the moment; each stays until he is sent home."""

    def __init__(self) -> None:
        self.inside: set[str] = set()
        self._home: dict[str, asyncio.Event] = {}
        self._visits: list[asyncio.Task[None]] = []

    def invite(self, name: str, door: AbstractAsyncContextManager[None]) -> None:
        self._home[name] = asyncio.Event()
        self._visits.append(asyncio.create_task(self._visit(name, door)))

    async def _visit(self, name: str, door: AbstractAsyncContextManager[None]) -> None:
        async with door:
            self.inside.add(name)
            await self._home[name].wait()
            self.inside.discard(name)

    def send_home(self, *names: str) -> None:
        for name in names:
            self._home[name].set()

    async def until(self, *names: str) -> None:
        await eventually(lambda: self.inside == set(names), what=f"{names} to be in, and nobody else")


async def test_an_isolated_record_waits_for_those_in_flight_and_keeps_the_later_ones_waiting() -> None:
    isolation, company = IsolationGate(), Company()
    company.invite("one", isolation.together())
    company.invite("two", isolation.together())
    await company.until("one", "two")
    company.invite("suspect", isolation.alone())
    company.invite("three", isolation.together())
    company.send_home("one")
    await company.until("two")
    company.send_home("two")
    await company.until("suspect")
    company.send_home("suspect")
    await company.until("three")
    company.send_home("three")
    await company.until()


async def test_isolated_records_are_alone_from_each_other() -> None:
    isolation, company = IsolationGate(), Company()
    for name in ("first", "second"):
        company.invite(name, isolation.alone())
    await company.until("first")
    company.send_home("first")
    await company.until("second")
    company.send_home("second")
    await company.until()


async def test_who_gives_up_waiting_is_not_waited_for() -> None:
    isolation, company = IsolationGate(), Company()
    company.invite("one", isolation.together())
    await company.until("one")
    isolated_task = asyncio.create_task(isolation.alone().__aenter__())
    await eventually(isolation._turn.locked, what="the suspect to wait")
    isolated_task.cancel()
    await asyncio.wait({isolated_task})
    company.invite("two", isolation.together())
    await company.until("one", "two")
    company.send_home("one", "two")
    await company.until()
