"""What every `CollectionStore` promises, asked of the fake and of the real one alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.fakes.collections import MemoryCollections
from tests.support.engine.collections import all_collections, create_collections, insert, random_row
from tidemill.queries.collections import VisibleCollection
from tidemill.queries.ports import CollectionStore
from tidemill.queries.reader import CollectionReader, PageAnswer
from tidemill.queries.request import CountMode, count_request, page_request
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.queries.rows import CollectionDatabase

COLLECTIONS = all_collections()
SAMPLES, READINGS, BARS = (COLLECTIONS.visible(name) for name in ("samples", "readings", "bars"))
AT = datetime(2026, 11, 30, tzinfo=UTC)


def readings() -> list[dict[str, Any]]:
    """Facts of which some are equal in everything."""
    return [
        {
            "time": AT + timedelta(days=number // 5),
            "source": "s",
            "value": 1.0,
            "command_id": UUID(int=number // 4),
        }
        for number in range(24)
    ]


DELETE = """
delete from public.readings where (tableoid, ctid) in (
  select tableoid, ctid from public.readings where command_id = $1 order by 1, 2 offset $2)
"""

ROWS: dict[str, list[dict[str, Any]]] = {
    "samples": [random_row(Random(14), number) for number in range(40)],
    "readings": readings(),
    "bars": [
        {"symbol": symbol, "day": date(2026, 1, day), "close": 1.5} for symbol in "ab" for day in (1, 2)
    ],
}


@dataclass
class Subject:
    """`remove`: lets readings of that number leave, and keeps so many."""

    store: CollectionStore
    remove: Callable[[int, int], Awaitable[None]]

    @property
    def reader(self) -> CollectionReader:
        return CollectionReader(self.store, key=b"k" * 32)

    async def page(self, collection: VisibleCollection, *pairs: tuple[str, str]) -> PageAnswer:
        return await self.reader.page(collection, page_request(collection, pairs))

    async def pages(
        self, collection: VisibleCollection, *pairs: tuple[str, str], after: str | None = None
    ) -> list[Any]:
        page = await self.page(collection, *pairs, *([] if after is None else [("_after", after)]))
        rows = json.loads(page.rows)
        while page.next is not None:
            page = await self.page(collection, *pairs, ("_after", page.next))
            rows += json.loads(page.rows)
        return list(rows)


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        memory = MemoryCollections({**ROWS})

        async def remove(number: int, keep: int) -> None:
            rows = memory.rows["readings"]
            gone = [row for row in rows if row["command_id"] == UUID(int=number)][keep:]
            memory.rows["readings"] = [row for row in rows if not any(row is each for each in gone)]

        yield Subject(memory, remove)
        return
    url = request.getfixturevalue("database")
    await create_collections(url)
    for name, rows in ROWS.items():
        await insert(url, COLLECTIONS.visible(name), rows)
    pool = await create_pool(
        f"{url}?role=tidemill_reader", application_name="tidemill-tests", size=2, writes=False
    )

    async def delete(number: int, keep: int) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(DELETE, UUID(int=number), keep)
        await connection.close()

    yield Subject(CollectionDatabase(pool, pool), delete)
    await close_pool(pool)


async def test_a_document_is_read_by_its_key(subject: Subject) -> None:
    document = await subject.reader.document(SAMPLES, ["k00003"], ("id", "version"))
    expected = ROWS["samples"][3]
    assert document is not None
    assert json.loads(document.body) == {"id": "k00003", "version": expected["version"]}
    assert document.version == expected["version"]
    assert await subject.reader.document(SAMPLES, ["nowhere"]) is None


async def test_a_key_of_several_columns_is_read_whole(subject: Subject) -> None:
    document = await subject.reader.document(BARS, ["a", "2026-01-02"])
    assert document is not None
    assert document.body == b'{"symbol":"a","day":"2026-01-02","close":1.5}'
    assert document.version is None


async def test_a_page_is_in_key_order_and_says_where_the_next_begins(subject: Subject) -> None:
    page = await subject.page(SAMPLES, ("_fields", "id"), ("_limit", "3"))
    assert page.rows == b'[{"id":"k00000"},{"id":"k00001"},{"id":"k00002"}]'
    assert (page.row_count, page.count) == (3, None)
    rows = await subject.pages(SAMPLES, ("_fields", "id"), ("_limit", "7"))
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS["samples"]]


async def test_no_rows_are_an_empty_page(subject: Subject) -> None:
    page = await subject.page(SAMPLES, ("id", "nowhere"))
    assert (page.rows, page.row_count, page.next) == (b"[]", 0, None)


async def test_equal_facts_are_each_given_once(subject: Subject) -> None:
    since = ("time.gte", "2026-01-01T00:00:00Z")
    for limit in (1, 2, 3, 5, 7, 24):
        rows = await subject.pages(READINGS, since, ("_limit", str(limit)))
        assert len(rows) == 24
        assert [row["time"] for row in rows] == sorted((row["time"] for row in rows), reverse=True)
        assert sorted(UUID(row["command_id"]).int for row in rows) == [number // 4 for number in range(24)]


@pytest.mark.parametrize("keep", [0, 1, 2])
@pytest.mark.parametrize("limit", [1, 2, 3, 6])
async def test_what_leaves_at_the_end_of_a_page_hides_nothing_of_the_next(
    subject: Subject, limit: int, keep: int
) -> None:
    """Readings that equal the last one given may leave for the archive before the next page is asked for."""
    pairs = [("time.gte", "2026-01-01T00:00:00Z"), ("_limit", str(limit))]
    page = await subject.page(READINGS, *pairs)
    assert page.next is not None
    given = json.loads(page.rows)
    last = UUID(given[-1]["command_id"]).int
    await subject.remove(last, keep)
    rest = await subject.pages(READINGS, *pairs, after=page.next)
    found = Counter(UUID(row["command_id"]).int for row in [*given, *rest])
    others = Counter(number // 4 for number in range(24))
    assert {number: found[number] for number in others if number != last} == {
        number: count for number, count in others.items() if number != last
    }


async def test_rows_are_counted(subject: Subject) -> None:
    for mode in ("exact", "capped"):
        request = count_request(SAMPLES, [("id.lt", "k00010"), ("_mode", mode)])
        counted = await subject.reader.count(SAMPLES, request)
        assert (counted.count, counted.at_least, counted.mode) == (10, False, CountMode(mode))
    page = await subject.page(SAMPLES, ("_count", "exact"), ("_limit", "1"))
    assert page.count is not None
    assert page.count.count == 40


async def test_an_estimate_is_a_number(subject: Subject) -> None:
    request = count_request(READINGS, [("_mode", "estimated")])
    assert (await subject.reader.count(READINGS, request)).count >= 0
    request = count_request(SAMPLES, [("id", "k00000"), ("_mode", "estimated")])
    assert (await subject.reader.count(SAMPLES, request)).count >= 0


async def test_a_page_ends_before_it_is_too_large(subject: Subject) -> None:
    reader = CollectionReader(subject.store, key=b"k", max_page_bytes=60)
    request = page_request(SAMPLES, [("_fields", "id")])
    page = await reader.page(SAMPLES, request)
    assert page.row_count == 3  # 15 bytes and a comma each
    assert page.next is not None
    alone = CollectionReader(subject.store, key=b"k", max_page_bytes=1)
    assert (await alone.page(SAMPLES, request)).row_count == 1
