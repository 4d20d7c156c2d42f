"""Rows leave for the lake while a client pages over HTTP: each is given once, or lies in a span that is incomplete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest

from tests.support.archive.operator import MONTH, bring
from tests.support.archive.site import TABLE, Archive, archive
from tests.support.http.api import Granted, bearer, served
from tests.support.http.sizes import sized
from tests.support.waiting import HANGING_S
from tidemill.domain.archive.slices import ArchiveState
from tidemill.retention.restore_plan import ranges_back
from tidemill_devkit.stack import Stack

SCHEDULES = sized(20, 1_000)
AT_ONCE = 4
"""How many clients, each with a year of its own, page while the archive goes once around."""

YEARS = [2023 - number - number // AT_ONCE for number in reversed(range(SCHEDULES))]
"""Ascending, and the last is due to leave, too. Chunks do not begin with years, so one is left out between two cycles:
rows would be written into a chunk that may have left, which no service does."""

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


LATE_ROW = """
insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
select range_start + interval '3 days', 'L', 1.5, 'late', gen_random_uuid(), range_start
from tm.archive where range_start >= $1 order by range_start limit 1
"""


def cycle(world: Archive, years: Sequence[int], random: Random) -> list[Step]:
    """What happens to rows, in order: seal, late rows, copy, drop; sometimes their return, and their end."""
    begin, end = datetime(years[0], 1, 1, tzinfo=UTC), datetime(years[-1] + 1, 1, 1, tzinfo=UTC)

    async def write_late() -> None:
        await world.pool.execute(LATE_ROW, begin)

    async def restore() -> None:
        for back in ranges_back(await world.store.facts(TABLE), begin, end):
            if back.refused is None:
                await bring(world, back)

    async def evict() -> None:
        await world.let_pass(MONTH)
        await world.settle()

    steps: list[Step] = [world.settle, lambda: answer(world), world.settle]
    if random.random() < 0.3:
        steps.insert(1, write_late)
    return steps + random.choice([[], [restore], [restore, evict]])


async def answer(world: Archive) -> None:
    """Copy and confirm what is requested."""
    asked = {one.event_id for one in await world.slices() if one.state is ArchiveState.REQUESTED}
    for event in {event.event_id: event for event in await world.requests()}.values():
        if event.event_id in asked:
            await world.confirm(world.copy(event))


async def finish(world: Archive) -> None:
    """Leave nothing open, or every later cycle works at it, too."""
    await world.settle()
    await answer(world)
    await world.settle()


@dataclass
class Pages:
    """One client's pages of a year. `after`: its cursor."""

    site: Site
    random: Random
    year: int
    sort: str
    after: str | None = None
    rows: list[str] = field(default_factory=list)
    incomplete: list[dict[str, str]] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)

    @classmethod
    async def begin(cls, site: Site, random: Random, year: int) -> Pages:
        """Return those of a year, and note the rows that it has now."""
        pages = cls(site, random, year, random.choice(("time", "-time", "symbol", "-price")))
        found = await site.archive.pool.fetch(WRITTEN, *pages.span)
        pages.written = {row["id"]: row["time"] for row in found}
        return pages

    @property
    def span(self) -> tuple[str, str]:
        return f"{self.year:04}-01-01T00:00:00Z", f"{self.year + 1:04}-01-01T00:00:00Z"

    async def ask(self, path: str, **more: str) -> dict[str, Any]:
        bounds = dict(zip(("time.gte", "time.lt"), self.span, strict=True))
        response = await self.site.client.get(f"/api/db/market-data{path}", params=bounds | more)
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json()
        return content

    async def turn(self) -> bool:
        """Read one page; return whether more follow."""
        more = {"_sort": self.sort, "_limit": str(self.random.randint(2, 7))}
        data = (await self.ask("", **more, **({} if self.after is None else {"_after": self.after})))["data"]
        self.rows += [row["command_id"] for row in data["rows"]]
        self.incomplete += data.get("incomplete", [])
        self.after = data["next"]
        if self.after is not None:
            await self.check_count()
        return self.after is not None

    def check(self) -> None:
        """Each row came once, or lies in an incomplete span."""
        assert len(self.written) == ROWS
        assert len(self.rows) == len(set(self.rows)), "no row comes twice"
        lacking = {key: time for key, time in self.written.items() if key not in set(self.rows)}
        assert all(
            any(span["from"] <= time < span["to"] for span in self.incomplete) for time in lacking.values()
        ), (self.year, lacking, self.incomplete)

    async def check_count(self) -> None:
        """A count is whole, or says in which spans it may lack some."""
        written = await self.site.archive.pool.fetchval(
            f"select count(*) from ({WRITTEN}) rows",
            *self.span,
        )
        counted = await self.ask("/count")
        assert counted["count"] == written
        assert written == ROWS or counted.get("incomplete"), counted


@pytest.mark.timeout(3600)  # all schedules take a quarter of an hour
async def test_each_row_is_given_once_or_lies_in_an_incomplete_span(site: Site, seed: int) -> None:
    """Schedules of real archive cycles, each on a year of its own; a few clients share a cycle."""
    random = Random(seed)
    for first in range(0, SCHEDULES, AT_ONCE):
        years = YEARS[first : first + AT_ONCE]
        await site.archive.fill(*years, rows=ROWS)
        clients = [await Pages.begin(site, random, year) for year in years]
        await read_all(clients, cycle(site.archive, years, random), random)
        for client in clients:
            client.check()
        await finish(site.archive)


async def read_all(clients: Sequence[Pages], steps: list[Step], random: Random) -> None:
    """Let clients read in any order, with steps of the archive between any two pages."""
    reading, eager = list(clients), random.choice((0.1, 0.2, 0.5))
    while reading:
        if steps and random.random() < eager:
            await steps.pop(0)()
        client = random.choice(reading)
        if not await client.turn():
            reading.remove(client)
    for step in steps:
        await step()
