"""Asking a read model by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fakes.events import START
from tests.fakes.read_models import MemoryReadModels
from tests.fakes.views import MemoryViews
from tests.support.engine.projections import Bench, days, stocks
from tidemill.contexts.market_data import ticks
from tidemill.domain.errors import UsageError
from tidemill.domain.read_view import FactsView, ReadModel
from tidemill.queries.ports import Condition
from tidemill.queries.read_models import ReadModels, RowFilter

TICKS = FactsView(ticks, "time")


@pytest.fixture
async def models() -> ReadModels:
    views = MemoryViews()
    async with Bench(views, [stocks, days]) as bench:
        bench.store(0, 1, good="tea")
        bench.store(0, 2, good="rum")
        await bench.reaches({0: 2})
        await bench.reaches({0: 2}, "days")
    return ReadModels([stocks, days], MemoryReadModels(views))


async def test_a_page_is_in_key_order_and_says_whether_there_is_more(models: ReadModels) -> None:
    page = await models.page("stocks", limit=1)
    assert [row["good"] for row in page.rows] == ["rum"]
    assert page.more
    assert page.columns[:3] == ("good", "amount", "labels")
    whole = await models.page("stocks", limit=2)
    assert [row["good"] for row in whole.rows] == ["rum", "tea"]
    assert not whole.more


async def test_a_key_narrows_it(models: ReadModels) -> None:
    page = await models.page("days", RowFilter(["tea"]))
    assert [row["good"] for row in page.rows] == ["tea"]


async def test_a_column_narrows_it_too(models: ReadModels) -> None:
    page = await models.page("stocks", RowFilter(where={"good": "rum"}))
    assert [row["good"] for row in page.rows] == ["rum"]


class Asked:
    """A reader without rows, which notes what it was asked for."""

    def __init__(self) -> None:
        self.conditions: list[tuple[str, str, str]] = []

    async def read(
        self, model: ReadModel, conditions: Sequence[Condition], limit: int
    ) -> list[dict[str, Any]]:
        self.conditions = [(each.column, each.comparison, each.value) for each in conditions]
        return []


async def test_facts_are_asked_for_by_columns_and_time() -> None:
    asked = Asked()
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    wanted = RowFilter(where={"symbol": "A"}, since=noon, until=noon + timedelta(hours=1))
    page = await ReadModels([TICKS], asked).page("market_data", wanted)
    assert asked.conditions == [
        ("symbol", "=", "A"),
        ("time", ">=", "2026-01-01T12:00:00+00:00"),
        ("time", "<", "2026-01-01T13:00:00+00:00"),
    ]
    assert page.columns[:2] == ("time", "symbol")


@pytest.mark.parametrize(
    ("model", "wanted", "message"),
    [
        (
            TICKS,
            RowFilter(key=["A"]),
            "market-data has no key: facts are asked for by columns, --where COLUMN=VALUE",
        ),
        (
            TICKS,
            RowFilter(where={"symbl": "A"}),
            "market-data has no column symbl; it has time, symbol, price",
        ),
        (days, RowFilter(since=START), "days is not a table of facts with a time: leave out --from and --to"),
        (replace(TICKS, time_column=None), RowFilter(until=START), "is not a table of facts with a time"),
    ],
)
async def test_a_filter_that_does_not_fit_is_said(model: ReadModel, wanted: RowFilter, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        await ReadModels([model], Asked()).page(model.name, wanted)


@pytest.mark.parametrize(
    ("name", "key", "limit", "message"),
    [
        ("stokcs", [], 1, "there is no read model 'stokcs'; there is: days, stocks"),
        ("days", ["tea", "2026-01-01", "x"], 1, "days has the key good, day: give at most 2 values, not 3"),
        ("days", [], 0, "ask for 1 to 10000 rows, not 0"),
        ("days", [], 10_001, "ask for 1 to 10000 rows, not 10001"),
    ],
)
async def test_what_cannot_be_asked_is_said(
    models: ReadModels, name: str, key: list[str], limit: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await models.page(name, RowFilter(key), limit)


async def test_a_name_may_be_asked_for_as_tables_are_named() -> None:
    views, named = MemoryViews(), replace(days, name="daily-goods")
    await views.open(named, "goods", 1)
    models = ReadModels([named], MemoryReadModels(views))
    assert (await models.page("daily_goods")).columns == (await models.page("daily-goods")).columns


async def test_without_read_models_there_is_none() -> None:
    with pytest.raises(UsageError, match="there is: none"):
        await ReadModels([], MemoryReadModels(MemoryViews())).page("stocks")
