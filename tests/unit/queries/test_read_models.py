"""Asking a read model by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.read_models import MemoryReadModels
from tests.fakes.views import MemoryViews
from tests.support.engine.projections import Bench, days, stocks
from tidemill.domain.errors import UsageError
from tidemill.queries.read_models import ReadModels


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
    page = await models.page("days", ["tea"])
    assert [row["good"] for row in page.rows] == ["tea"]


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
        await models.page(name, key, limit)


async def test_a_name_may_be_asked_for_as_tables_are_named() -> None:
    views, named = MemoryViews(), replace(days, name="daily-goods")
    await views.open(named, "goods", 1)
    models = ReadModels([named], MemoryReadModels(views))
    assert (await models.page("daily_goods")).columns == (await models.page("daily-goods")).columns


async def test_without_read_models_there_is_none() -> None:
    with pytest.raises(UsageError, match="there is: none"):
        await ReadModels([], MemoryReadModels(MemoryViews())).page("stocks")
