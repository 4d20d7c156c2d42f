"""Pages of every sort, with ties, nulls, NaN, infinities and microseconds: rows that nobody touches come exactly once.

Rows are inserted and deleted between the pages. `TIDEMILL_QUERY_WALKS` is how many walks there are.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.fakes.collections import MemoryCollections
from tests.support.engine.collections import all_collections, hard_rows, insert, random_row, random_sort
from tidemill.queries.collections import VisibleCollection
from tidemill.queries.reader import CollectionReader
from tidemill.queries.request_body import body_request
from tidemill.storage.queries.rows import CollectionDatabase

WALKS: Final = int(os.environ.get("TIDEMILL_QUERY_WALKS", "40"))
SAMPLES = all_collections().visible("samples")
READINGS = all_collections().visible("readings")
AT = datetime(2026, 11, 30, 10, tzinfo=UTC)


class Walk:
    """Pages through a collection, and does something between the pages."""

    def __init__(self, reader: CollectionReader, collection: VisibleCollection, source: Random) -> None:
        self.reader, self.collection, self.source = reader, collection, source

    async def rows(self, body: dict[str, Any], between: Any = None) -> list[Any]:
        rows: list[Any] = []
        after = None
        while True:
            sized = {**body, "limit": self.source.choice([1, 2, 3, 7, 20]), "after": after}
            page = await self.reader.page(self.collection, body_request(self.collection, sized))
            rows += json.loads(page.rows)
            if page.next is None:
                return rows
            after = page.next
            if between is not None:
                await between(len(rows))


async def test_untouched_rows_come_exactly_once_in_every_sort(
    samples_url: str, store: CollectionDatabase, seed: int
) -> None:
    source = Random(seed)
    rows = [*hard_rows(), *(random_row(source, number) for number in range(60))]
    await insert(samples_url, SAMPLES, rows)
    writer = await asyncpg.connect(samples_url)
    walk = Walk(CollectionReader(store, key=b"k"), SAMPLES, source)
    model = CollectionReader(MemoryCollections({"samples": rows}), key=b"k")

    async def disturb(read: int) -> None:
        """Another row comes, as like the others as can be; one that came before goes."""
        await writer.execute("delete from samples where id like 'new%' and id <> $1", f"new{read}")
        await insert(samples_url, SAMPLES, [{**random_row(source, read), "id": f"new{read}"}])

    for _ in range(WALKS):
        body = {"sort": random_sort(source, SAMPLES), "fields": ["id"]}
        expected = await model.page(SAMPLES, body_request(SAMPLES, {**body, "limit": 1000}))
        given = [row["id"] for row in await walk.rows(body, disturb)]
        assert [key for key in given if not key.startswith("new")] == [
            row["id"] for row in json.loads(expected.rows)
        ], body["sort"]
        await writer.execute("delete from samples where id like 'new%'")
    await writer.close()


async def test_facts_without_a_key_come_as_often_as_they_are_there(
    samples_url: str, store: CollectionDatabase, seed: int
) -> None:
    source = Random(seed)
    values = [None, 0.0, -0.0, float("nan"), float("inf"), 1.5]
    rows = [
        {
            "time": AT + timedelta(microseconds=source.randrange(3), days=7 * source.randrange(3)),
            "source": source.choice("ab"),
            "value": source.choice(values),
            "command_id": UUID(int=source.randrange(4)),
        }
        for _ in range(150)
    ]
    await insert(samples_url, READINGS, rows)
    walk = Walk(CollectionReader(store, key=b"k"), READINGS, source)
    whole = None
    for _ in range(WALKS):
        body = {
            "where": {"time": {"gte": "2026-01-01T00:00:00Z"}},
            "sort": random_sort(source, READINGS)[: source.randint(0, 2)],
        }
        counts = Counter(json.dumps(row) for row in await walk.rows(body))
        assert sum(counts.values()) == len(rows), body["sort"]
        whole = whole or counts
        assert counts == whole, body["sort"]


async def test_facts_are_the_newest_first_and_chunks_are_left_out(
    samples_url: str, store: CollectionDatabase
) -> None:
    rows = [
        {"time": AT + timedelta(days=day), "source": "a", "value": 1.0, "command_id": UUID(int=day)}
        for day in range(40)
    ]
    await insert(samples_url, READINGS, rows)
    reader = CollectionReader(store, key=b"k")
    body = {"where": {"time": {"gte": "2027-01-01T00:00:00Z"}}, "fields": ["time"]}
    page = await reader.page(READINGS, body_request(READINGS, body))
    times = [row["time"] for row in json.loads(page.rows)]
    assert times == sorted(times, reverse=True)
    assert len(times) == 8
    writer = await asyncpg.connect(samples_url)
    await writer.execute("set plan_cache_mode = force_custom_plan")
    chunks = await writer.fetch("select show_chunks('readings')")
    from tidemill.queries.filters import shape_of
    from tidemill.storage.queries.select_sql import explain_rows

    request = body_request(READINGS, body)
    sql = explain_rows(READINGS, shape_of(request.where))
    plan = await writer.fetchval(sql, datetime(2027, 1, 1, tzinfo=UTC))
    named = [chunk[0] for chunk in chunks if chunk[0].split(".")[1] in plan]
    assert 0 < len(named) < len(chunks)
    await writer.close()
