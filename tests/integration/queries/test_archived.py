"""Facts that leave while they are read: each row is given once, or lies in a span that is said to be incomplete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import pytest

from tests.support.archive.operator import MONTH, bring, late_row, ranges
from tests.support.archive.site import TABLE, Archive, archive
from tests.support.engine.codecs import HandClock
from tests.support.security.principals import MovedClock
from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.archived import MARK_KEPT_S, ArchivedSpans, PartialAnswer
from tidemill.queries.ports import ArchiveMark, TimeSpan
from tidemill.storage.queries.archived import ArchivedSpanDatabase

SCHEDULES = 20
EVER = TimeSpan()
PAGE = """
select time, command_id from public.market_data where (time, command_id) > ($1, $2) and time < $3
order by time, command_id limit $4
"""

Row = tuple[datetime, UUID]
Step = Callable[[], Awaitable[object]]


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Archive]:
    async with archive(database, tmp_path / "lake") as made:
        yield made


def spans(world: Archive) -> ArchivedSpans:
    """What knows no mark yet; while its clock stands still, it keeps the first one."""
    return ArchivedSpans(ArchivedSpanDatabase(world.pool), HandClock())


def cycle(world: Archive, random: Random) -> list[Step]:
    """What happens to the rows, in order: seal, late rows, copy, drop; sometimes their return, and their end."""

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


class Reader:
    """Reads all rows of a year by pages, while steps are done before, within and after the reads."""

    def __init__(self, world: Archive, random: Random, span: TimeSpan, steps: Sequence[Step]) -> None:
        self.world = world
        self.random = random
        self.span = span
        self.steps = list(steps)
        self.kept = spans(world) if random.random() < 0.5 else None
        self.rows: list[Row] = []
        self.incomplete: list[TimeSpan] = []

    async def moved(self) -> None:
        if self.steps and self.random.random() < 0.4:
            await self.steps.pop(0)()

    async def read(self) -> None:
        after: Row | None = (self.span.start or datetime.min.replace(tzinfo=UTC), UUID(int=0))
        while after is not None:
            after = await self._page(after)

    async def _page(self, after: Row) -> Row | None:
        await self.moved()
        size = self.random.randint(2, 7)

        async def page() -> list[Row]:
            await self.moved()
            rows = await self.world.pool.fetch(PAGE, *after, self.span.end, size)
            await self.moved()
            return [(row["time"], row["command_id"]) for row in rows]

        spans_left = self.kept or spans(self.world)  # a mark of the first page says more, never less
        rows, answer = await spans_left.answer(TABLE, TimeSpan(after[0], self.span.end), page)
        self.rows += rows
        self.incomplete += answer.incomplete
        return rows[-1] if len(rows) == size else None


def lies_in(row: Row, incomplete: Sequence[TimeSpan]) -> bool:
    return any(span.start <= row[0] < span.end for span in incomplete if span.start and span.end)


async def test_each_row_is_given_once_or_lies_in_an_incomplete_span(world: Archive, seed: int) -> None:
    """Twenty schedules of real archive cycles, each on a year of its own."""
    random = Random(seed)
    for schedule in range(SCHEDULES):
        year = 2000 + schedule
        await world.fill(year, rows=12)
        span = TimeSpan(datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))
        written = {
            (row["time"], row["command_id"])
            for row in await world.pool.fetch(
                "select time, command_id from public.market_data where time >= $1 and time < $2", *span
            )
        }
        reader = Reader(world, random, span, cycle(world, random))
        await reader.read()
        assert len(reader.rows) == len(set(reader.rows)), "no row comes twice"
        lacking = written - set(reader.rows)
        assert all(lies_in(row, reader.incomplete) for row in lacking), (schedule, sorted(lacking))
        for step in reader.steps:
            await step()


async def test_a_count_says_what_it_lacks_and_a_strict_reader_is_refused(world: Archive) -> None:
    await world.fill(2010)

    async def count() -> int:
        return await world.hot()

    assert await spans(world).answer(TABLE, EVER, count, strict=True) == (20, PartialAnswer([]))
    await archived(world)
    rows, answer = await spans(world).answer(TABLE, EVER, count)
    (left,) = answer.incomplete
    assert rows == 0
    assert left.start is not None
    assert left.end is not None
    assert left.start <= datetime(2010, 1, 12, tzinfo=UTC) < left.end
    within = TimeSpan(left.start + timedelta(days=1), left.end + timedelta(days=1))
    _, clipped = await spans(world).answer(TABLE, within, count)
    assert list(clipped.incomplete) == [TimeSpan(within.start, left.end)]
    assert [part["why"] for part in answer.as_json()] == ["ARCHIVED"]
    _, later = await spans(world).answer(TABLE, TimeSpan(left.end), count, strict=True)
    assert list(later.incomplete) == []
    with pytest.raises(RequestRefused, match="rows of these times left for the lake: 20") as refused:
        await spans(world).answer(TABLE, within, count, strict=True)
    assert refused.value.code is RequestCode.ARCHIVED


async def test_a_restored_range_is_live_again(world: Archive) -> None:
    await world.fill(2010)
    await archived(world)
    for back in await ranges(world):
        await bring(world, back)
    assert await spans(world).answer(TABLE, EVER, world.hot) == (20, PartialAnswer([]))
    await world.let_pass(MONTH)
    await world.settle()
    rows, answer = await spans(world).answer(TABLE, EVER, world.hot)
    assert (rows, len(answer.incomplete)) == (0, 1)


async def test_a_mark_is_shared_for_a_moment_and_what_moved_in_it_is_reported(world: Archive) -> None:
    class Counted(ArchivedSpanDatabase):
        marks = 0

        async def mark(self, table: str) -> ArchiveMark:
            Counted.marks += 1
            return await super().mark(table)

    await world.fill(2010)
    await archived(world)
    clock = MovedClock()
    shared = ArchivedSpans(Counted(world.pool), clock)
    await asyncio.gather(*(shared.answer(TABLE, EVER, world.hot) for _ in range(3)))
    assert Counted.marks == 1
    for back in await ranges(world):
        await bring(world, back)
    rows, answer = await shared.answer(TABLE, EVER, world.hot)
    assert (rows, len(answer.incomplete)) == (20, 1), "it moved since the mark"
    clock.pass_(MARK_KEPT_S)
    assert await shared.answer(TABLE, EVER, world.hot, strict=True) == (20, PartialAnswer([]))
    assert Counted.marks == 2


async def test_late_rows_of_a_sealed_range_are_said_to_be_missing(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    assert (await spans(world).answer(TABLE, EVER, world.hot))[1] == PartialAnswer([])
    await late_row(world)
    rows, answer = await spans(world).answer(TABLE, EVER, world.hot)
    assert (rows, len(answer.incomplete)) == (20, 1)


async def test_one_snapshot_of_registry_and_rows_is_not_enough(world: Archive) -> None:
    """Why a mark is needed: a dropped chunk is gone also for an older snapshot, whose registry does not know it."""
    await world.fill(2010)
    await world.settle()
    await world.answer()
    async with world.pool.acquire() as older, older.transaction(isolation="repeatable_read", readonly=True):
        await older.fetchval("select 1 from tm.archive limit 1")
        await world.settle()
        assert await older.fetchval("select count(*) from tm.archive where state = 'dropped'") == 0
        assert await older.fetchval("select count(*) from public.market_data") == 0


async def test_a_row_that_left_is_archived_and_one_that_never_was_is_not_there(world: Archive) -> None:
    await world.fill(2010, rows=1)
    (row,) = await world.pool.fetch("select time, command_id from public.market_data")
    await world.pool.execute(
        "insert into tm.lane (aggregate, partition, partitions, command_topic, event_topic, outcome_topic, "
        "dead_letter_topic) values ('market-data', 0, 1, 'c', 'e', 'o', 'd')"
    )
    await world.pool.execute(
        "insert into tm.log (lane, gen, position, command_id, digest, outcome, events, sequence, at) "
        "select lane, 1, 1, $1, 0, 'a', 1, 1, now() from tm.lane where aggregate = 'market-data'",
        row["command_id"],
    )

    async def document(command_id: UUID | None, at: datetime | None = None) -> UUID | None:
        async def read() -> UUID | None:
            found: UUID | None = await world.pool.fetchval(
                "select command_id from public.market_data where command_id = $1", command_id
            )
            return found

        return await spans(world).document(
            read, table=TABLE, aggregate="market-data", command_id=command_id, at=at
        )

    assert await document(row["command_id"]) == row["command_id"]
    await archived(world)
    for wanted in ((row["command_id"], None), (uuid4(), row["time"]), (None, row["time"])):
        with pytest.raises(RequestRefused) as refused:
            await document(*wanted)
        assert refused.value.code is RequestCode.ARCHIVED
    assert await document(uuid4()) is None
    assert await document(None, datetime(2024, 1, 1, tzinfo=UTC)) is None
    await bring(world, (await ranges(world))[0])
    assert await document(row["command_id"], row["time"]) == row["command_id"]


async def test_a_row_that_is_written_between_two_looks_is_given(world: Archive) -> None:
    looks: list[str | None] = [None, "the row"]

    class Applied(ArchivedSpanDatabase):
        async def was_applied(self, aggregate: str, command_id: UUID) -> bool:
            return True

    async def read() -> str | None:
        return looks.pop(0)

    asked = ArchivedSpans(Applied(world.pool), HandClock())
    assert await asked.document(read, table=TABLE, aggregate="x", command_id=uuid4()) == "the row"


async def archived(world: Archive) -> None:
    """Go once from seal to drop."""
    await world.settle()
    await world.answer()
    await world.settle()
    assert set(await world.states()) == {"dropped"}
