"""No oracle: answers have equal bytes whether a hidden column has other values, or does not exist."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

import asyncpg
import pytest

from tests.support.engine.collections import (
    all_collections,
    insert,
    random_row,
    random_sort,
    random_where,
)
from tidemill.domain.errors import RequestRefused
from tidemill.queries.collections import VisibleCollection
from tidemill.queries.reader import CollectionReader
from tidemill.queries.request import count_request
from tidemill.queries.request_body import body_request
from tidemill.storage.database.pool import create_pool
from tidemill.storage.database.table_sql import quoted
from tidemill.storage.queries.rows import CollectionDatabase

REQUESTS: Final = int(os.environ.get("TIDEMILL_HIDDEN_REQUESTS", "40"))
COLLECTIONS = all_collections()
WHOLE = COLLECTIONS.visible("samples")


@asynccontextmanager
async def reader(url: str) -> AsyncIterator[CollectionReader]:
    """In sessions of its own: a table of another form is another deployment."""
    pool = await create_pool(f"{url}?role=tidemill_reader", application_name="reads", size=1, writes=False)
    yield CollectionReader(CollectionDatabase(pool, pool), key=b"k")
    await pool.close()


async def answers(url: str, visible: VisibleCollection, bodies: list[dict[str, Any]]) -> list[Any]:
    async with reader(url) as asked:
        given: list[Any] = []
        for body in bodies:
            try:
                request = body_request(visible, body)
                page = await asked.page(visible, request)
                given.append(page)
                if page.next is not None:
                    given.append(
                        await asked.page(visible, body_request(visible, {**body, "after": page.next}))
                    )
            except RequestRefused as refusal:
                given.append((refusal.code, refusal.detail, refusal.faults))
        given.append(await asked.count(visible, count_request(visible, [])))
        given += [await asked.document(visible, [f"k{number:05d}"]) for number in range(5) if visible.key]
    return given


def random_body(source: Random, visible: VisibleCollection) -> dict[str, Any]:
    """Half of the requests name what is hidden."""
    collection = WHOLE if source.random() < 0.5 else visible
    return {
        "where": random_where(source, collection, 1) if source.random() < 0.7 else None,
        "sort": random_sort(source, collection)[:2],
        "limit": source.choice([3, 100]),
    }


@pytest.mark.parametrize("name", ["name", "version", "data", "id", "Odd \"name'; --"])
async def test_what_is_hidden_decides_no_byte(samples_url: str, seed: int, name: str) -> None:
    source = Random(seed)
    rows = [random_row(source, number) for number in range(30)]
    await insert(samples_url, WHOLE, rows)
    visible = COLLECTIONS.visible("samples", frozenset({name}))
    bodies = [random_body(source, visible) for _ in range(REQUESTS)]
    bodies.append({"where": {name: {"is": "null"}}})  # refused as any name that there is not
    before = await answers(samples_url, visible, bodies)
    assert any(not isinstance(answer, tuple) for answer in before)
    assert any(isinstance(answer, tuple) for answer in before)

    owner = await asyncpg.connect(samples_url)
    others = {"name": "md5(id)", "version": "7", "data": "'[7]'", "id": "'k' || md5(id)"}
    await owner.execute(f"update samples set {quoted(name)} = {others.get(name, 'md5(id)')}")
    assert await answers(samples_url, visible, bodies) == before
    await owner.execute(f"alter table samples drop column {quoted(name)}")
    assert await answers(samples_url, visible, bodies) == before
    await owner.close()
