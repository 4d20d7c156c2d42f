"""Rows leave for the lake while a client pages over HTTP: each is given once, or lies in a span that is incomplete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest

from tests.support.archive.operator import MONTH, bring, late_row, ranges
from tests.support.archive.site import Archive, archive
from tests.support.http.api import Granted, bearer, served
from tests.support.http.sizes import sized
from tests.support.waiting import HANGING_S
from tidemill_devkit.stack import Stack

SCHEDULES = sized(20, 1_000)
FIRST_YEAR = 2024 - SCHEDULES
"""The last of the years is due to leave, too."""

ROWS = 12
WRITTEN = """
select command_id::text as id, to_char(time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time
from public.market_data where time >= $1::text::timestamptz and time < $2::text::timestamptz
"""

Step = Callable[[], Awaitable[object]]


@dataclass
class Site:
    """An archive, and a process that answers from the same database."""

    archive: Archive
    client: httpx2.AsyncClient


@pytest.fixture
def reading(
    stack: Stack, database: str, unique_name: Callable[[str], str], tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """Where a process answers from the database of the test, and the token of a reader."""
    principals = {"reader": [Granted("*", ["read"])]}
    with served(stack, database, unique_name("http"), tmp_path, principals, servers=1, engine=False) as (
        api,
        tokens,
    ):
        yield api.url(), tokens["reader"]


@pytest.fixture
async def site(reading: tuple[str, str], database: str, tmp_path: Path) -> AsyncIterator[Site]:
    url, token = reading
    async with (
        archive(database, tmp_path / "lake", has_lanes=True) as made,
        httpx2.AsyncClient(base_url=url, headers=bearer(token), timeout=HANGING_S) as client,
    ):
        yield Site(made, client)


def cycle(world: Archive, random: Random) -> list[Step]:
    """What happens to rows, in order: seal, late rows, copy, drop; sometimes their return, and their end."""

    async def restore() -> None:
        for back in await ranges(world):
            if back.refused is None:
                await bring(world, back)

    async def evict() -> None:
        await world.let_pass(MONTH)
        await world.settle()

    steps: list[Step] = [world.settle, world.answer, world.settle]
    if random.random() < 0.3:
        steps.insert(1, lambda: late_row(world))
    return steps + random.choice([[], [restore], [restore, evict]])


@dataclass
class Pages:
    """One client's pages of a year, with steps of the archive between them."""

    site: Site
    random: Random
    year: int
    steps: list[Step]
    rows: list[str] = field(default_factory=list)
    incomplete: list[dict[str, str]] = field(default_factory=list)

    @property
    def span(self) -> tuple[str, str]:
        return f"{self.year}-01-01T00:00:00Z", f"{self.year + 1}-01-01T00:00:00Z"

    async def ask(self, path: str, **more: str) -> dict[str, Any]:
        bounds = dict(zip(("time.gte", "time.lt"), self.span, strict=True))
        response = await self.site.client.get(f"/api/db/market-data{path}", params=bounds | more)
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json()
        return content

    async def read(self) -> None:
        sort, after = self.random.choice(("time", "-time", "symbol", "-price")), None
        while True:
            await self.move()
            more = {"_sort": sort, "_limit": str(self.random.randint(2, 7))}
            data = (await self.ask("", **more, **({} if after is None else {"_after": after})))["data"]
            self.rows += [row["command_id"] for row in data["rows"]]
            self.incomplete += data.get("incomplete", [])
            after = data["next"]
            if after is None:
                return
            await self.check_count()

    async def move(self) -> None:
        if self.steps and self.random.random() < 0.5:
            await self.steps.pop(0)()

    async def check_count(self) -> None:
        """A count is whole, or says in which spans it may lack some."""
        written = await self.site.archive.pool.fetchval(
            f"select count(*) from ({WRITTEN}) rows",
            *self.span,
        )
        counted = await self.ask("/count")
        assert counted["count"] == written
        assert written == ROWS or counted.get("incomplete"), counted


@pytest.mark.timeout(3600)  # all schedules take half an hour
async def test_each_row_is_given_once_or_lies_in_an_incomplete_span(site: Site, seed: int) -> None:
    """Schedules of real archive cycles, each on a year of its own."""
    random = Random(seed)
    for schedule in range(SCHEDULES):
        year = FIRST_YEAR + schedule
        await site.archive.fill(year, rows=ROWS)
        pages = Pages(site, random, year, cycle(site.archive, random))
        written = {row["id"]: row["time"] for row in await site.archive.pool.fetch(WRITTEN, *pages.span)}
        await pages.read()
        assert len(pages.rows) == len(set(pages.rows)), "no row comes twice"
        lacking = {key: time for key, time in written.items() if key not in set(pages.rows)}
        assert all(
            any(span["from"] <= time < span["to"] for span in pages.incomplete) for time in lacking.values()
        ), (schedule, lacking, pages.incomplete)
        for step in pages.steps:
            await step()
