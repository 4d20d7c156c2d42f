"""Services that are one: what feeds the others starts last and stops first, and nobody outlives a failure."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.waiting import HANGING_S
from tidemill.domain.errors import Unavailable
from tidemill.runtime.service import Health
from tidemill.runtime.service_group import ServiceGroup


class Part:
    """Notes its life in a diary that all parts share."""

    def __init__(self, name: str, diary: list[str], *, ok: bool = True, fails: bool = False) -> None:
        self.name = name
        self.diary = diary
        self.ok = ok
        self.fails = fails
        self.stopping = asyncio.Event()

    async def start(self) -> None:
        self.diary.append(f"{self.name} starts")

    async def run(self) -> None:
        if self.fails:
            raise Unavailable("kafka", self.name)
        await self.stopping.wait()

    async def stop(self) -> None:
        self.diary.append(f"{self.name} stops")
        self.stopping.set()

    def health(self) -> Health:
        return Health(ok=self.ok, detail={"name": self.name})


def group(diary: list[str], relays: Part) -> ServiceGroup:
    async def opened() -> None:
        diary.append("opened")

    async def closed() -> None:
        diary.append("closed")

    return ServiceGroup(
        {"intake": Part("intake", diary), "relays": relays}, opening=opened, closing=[closed, closed]
    )


async def test_what_feeds_the_others_starts_last_and_stops_first() -> None:
    diary: list[str] = []
    service = group(diary, Part("relays", diary))
    await service.start()
    running = asyncio.create_task(service.run())
    await service.stop()
    await asyncio.wait_for(running, HANGING_S)
    assert diary == [
        "opened",
        "relays starts",
        "intake starts",
        "intake stops",
        "relays stops",
        "closed",
        "closed",
    ]


async def test_the_first_that_fails_ends_the_others() -> None:
    diary: list[str] = []
    with pytest.raises(ExceptionGroup) as failed:
        await asyncio.wait_for(group(diary, Part("relays", diary, fails=True)).run(), HANGING_S)
    assert failed.group_contains(Unavailable)


@pytest.mark.parametrize("ok", [True, False])
def test_it_is_well_if_all_are(ok: bool) -> None:
    diary: list[str] = []
    found = group(diary, Part("relays", diary, ok=ok)).health()
    assert found == Health(ok=ok, detail={"intake": {"name": "intake"}, "relays": {"name": "relays"}})
