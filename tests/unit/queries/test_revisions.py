"""Pages of facts in revisions: those of one owner are of one revision, or the next one is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fakes.collections import MemoryCollections
from tidemill.contexts.time_series.points import CURRENT
from tidemill.domain.collection import Collection, CollectionKind, RevisionColumns
from tidemill.domain.errors import RequestRefused
from tidemill.queries.collections import Collections, VisibleCollection
from tidemill.queries.reader import CollectionReader, PageAnswer
from tidemill.queries.request_body import body_request
from tidemill.storage.database.table_sql import column_type

AT = datetime(2026, 1, 5, tzinfo=UTC)
NAME = "time-series-data-points"
COLLECTIONS = Collections(
    [
        Collection(
            name=NAME,
            kind=CollectionKind.FACTS,
            aggregate="time-series",
            table=CURRENT[0].view,
            time_column="timestamp",
            revisions=RevisionColumns(CURRENT[0].owner, CURRENT[0].revision),
        )
    ],
    column_type,
)
POINTS = COLLECTIONS.visible(NAME)
OF_ONE: dict[str, Any] = {"time_series_id": {"eq": "a"}, "timestamp": {"gte": "2026-01-01T00:00:00Z"}}


def points(series: str, revision: int, size: int) -> list[dict[str, Any]]:
    return [
        {
            "timestamp": AT + timedelta(seconds=number),
            "time_series_id": series,
            "column_name": "open",
            "value": 1.5,
            "revision": revision,
            "number": number,
        }
        for number in range(size)
    ]


class Pages:
    """A collection that is read in pages of two rows, and saved in between."""

    def __init__(self, collection: VisibleCollection = POINTS) -> None:
        self.collection = collection
        self.store = MemoryCollections({NAME: points("a", 1, 5)})

    async def page(self, where: dict[str, Any], after: str | None, **more: Any) -> PageAnswer:
        body = {"where": where, "limit": 2, "after": after, **more}
        return await CollectionReader(self.store, key=b"k").page(
            self.collection, body_request(self.collection, body)
        )

    async def refused(self, where: dict[str, Any], after: str | None, **more: Any) -> str:
        with pytest.raises(RequestRefused) as caught:
            await self.page(where, after, **more)
        return caught.value.code


@pytest.mark.parametrize(
    "more", [{}, {"sort": ["value"]}, {"sort": ["revision", "number"]}, {"fields": ["value"]}]
)
async def test_a_save_between_two_pages_is_told(more: dict[str, Any]) -> None:
    pages = Pages()
    first = await pages.page(OF_ONE, None, **more)
    assert (await pages.page(OF_ONE, first.next, **more)).row_count == 2
    pages.store.rows[NAME] = points("a", 2, 5)
    assert await pages.refused(OF_ONE, first.next, **more) == "REPLACED"


async def test_fewer_rows_than_were_read_are_told_too() -> None:
    pages = Pages()
    first = await pages.page(OF_ONE, None)
    pages.store.rows[NAME] = [*points("a", 2, 0), *points("b", 1, 5)]
    assert await pages.refused(OF_ONE, first.next) == "REPLACED"


async def test_what_is_appended_meanwhile_changes_nothing() -> None:
    pages = Pages()
    rows, after = [], None
    while True:
        page = await pages.page(OF_ONE, after, sort=["timestamp"])
        rows += [row["number"] for row in json.loads(page.rows)]
        if (after := page.next) is None:
            break
        if len(rows) == 2:
            pages.store.rows[NAME] = points("a", 1, 7)
    assert [int(number) for number in rows] == list(range(7))


@pytest.mark.parametrize(
    "where",
    [
        {"timestamp": {"gte": "2026-01-01T00:00:00Z"}},
        {"time_series_id": {"in": ["a", "b"]}, "timestamp": {"gte": "2026-01-01T00:00:00Z"}},
    ],
)
async def test_pages_of_several_owners_are_no_snapshot(where: dict[str, Any]) -> None:
    pages = Pages()
    first = await pages.page(where, None)
    pages.store.rows[NAME] = points("a", 2, 5)
    assert (await pages.page(where, first.next)).row_count == 2


async def test_who_may_not_see_the_revision_is_not_told_by_a_cursor() -> None:
    pages = Pages(COLLECTIONS.visible(NAME, frozenset({"revision"})))
    first = await pages.page(OF_ONE, None)
    pages.store.rows[NAME] = points("a", 2, 5)
    assert (await pages.page(OF_ONE, first.next)).row_count > 0
