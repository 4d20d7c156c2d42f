"""What every `ReadModelReader` promises, asked of the fake and of the real one alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date

import pytest

from tests.fakes.events import START
from tests.fakes.read_models import MemoryReadModels
from tests.fakes.views import MemoryViews
from tests.support.engine.projections import Day, create_tables, days
from tidemill.domain.errors import UsageError
from tidemill.projections.ports import CheckpointMove, ViewStore
from tidemill.queries.ports import Condition, ReadModelReader
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.read_models.pages import ReadModelDatabase
from tidemill.storage.read_models.rows import ViewDatabase


@dataclass
class Subject:
    store: ViewStore
    reader: ReadModelReader

    async def read(self, limit: int = 10, **values: str) -> list[tuple[str, date]]:
        conditions = [Condition(column, value) for column, value in values.items()]
        return [(row["good"], row["day"]) for row in await self.reader.read(days, conditions, limit)]


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        views = MemoryViews()
        subject = Subject(views, MemoryReadModels(views))
        await fill(subject.store)
        yield subject
        return
    url = request.getfixturevalue("database")
    create_tables(url)
    pool = await create_pool(url, application_name="tidemill-tests", size=2)
    subject = Subject(ViewDatabase(pool), ReadModelDatabase(pool))
    await fill(subject.store)
    yield subject
    await close_pool(pool)


async def fill(store: ViewStore) -> None:
    view = (await store.open(days, "goods", 1)).view
    rows = [
        Day(good=good, day=date(2026, 1, day), amount=day, created_at=START, updated_at=START)
        for good, day in [("tea", 2), ("rum", 1), ("tea", 1), ("rum", 3)]
    ]
    async with store.transaction(view) as transaction:
        await transaction.advance({0: CheckpointMove(0, 4, 4)})
        await transaction.write(rows, [], [])


async def test_all_rows_come_in_key_order(subject: Subject) -> None:
    expected = [("rum", 1), ("rum", 3), ("tea", 1), ("tea", 2)]
    assert await subject.read() == [(good, date(2026, 1, day)) for good, day in expected]


async def test_a_key_may_be_given_in_part_or_whole(subject: Subject) -> None:
    assert await subject.read(good="tea") == [("tea", date(2026, 1, 1)), ("tea", date(2026, 1, 2))]
    assert await subject.read(good="rum", day="2026-01-03") == [("rum", date(2026, 1, 3))]
    assert await subject.read(good="gin") == []


async def test_any_column_may_be_given(subject: Subject) -> None:
    assert await subject.read(amount="1") == [("rum", date(2026, 1, 1)), ("tea", date(2026, 1, 1))]


async def test_no_more_rows_than_asked_for(subject: Subject) -> None:
    assert await subject.read(limit=1) == [("rum", date(2026, 1, 1))]


async def test_a_row_has_every_column(subject: Subject) -> None:
    (row,) = await subject.reader.read(days, [Condition("good", "rum"), Condition("day", "2026-01-03")], 1)
    assert row.keys() == {column.name for column in days.table.columns}
    assert (row["amount"], row["created_at"]) == (3, START)


async def test_a_value_of_another_type_is_said(subject: Subject) -> None:
    with pytest.raises(UsageError, match="does not fit"):
        await subject.read(good="tea", day="tomorrow at five")
