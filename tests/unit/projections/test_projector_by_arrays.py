"""Market data's read models, on fakes: nearly all of a backlog is folded by arrays, and with the same result."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fakes.events import MemoryCodec, MemoryEvents, MemoryTopic
from tests.fakes.views import MemoryRebuildTargets, MemoryViews
from tests.support.engine.coded_folds import coded_bars, coded_quotes
from tests.support.engine.projections import Running
from tests.support.engine.streams import MARKET_DATA
from tests.support.waiting import HANGING_S
from tidemill.contexts.market_data.messages import MarketDataRecorded
from tidemill.contexts.market_data.read_models import daily_bars, latest_quotes
from tidemill.domain.projection import Projection
from tidemill.projections.projector import Projector
from tidemill.projections.replay import Replay, ReplayParts
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.telemetry.metrics import REGISTRY

START = datetime(2026, 1, 5, tzinfo=UTC)
EVENTS = 4_000
NAMES = (latest_quotes.name, daily_bars.name)


@pytest.fixture
def topic() -> MemoryTopic:
    """A backlog in two lanes."""
    topic = MemoryTopic()
    for number in range(EVENTS):
        tick = MarketDataRecorded(
            command_id="c",
            service_name="s",
            timestamp=START,
            symbol=f"S{number % 100}",
            time=START + timedelta(seconds=37 * number % 200_000),
            price=float(number % 77),
            volume=None if number % 5 == 0 else number / 7,
            source="test",
        )
        topic.append(number % 2, number // 2 + 1, tick)
    return topic


def projector(topic: MemoryTopic, views: MemoryViews, *projections: Projection) -> Projector:
    return Projector(
        MARKET_DATA,
        projections,
        source=MemoryEvents(topic, partitions=MARKET_DATA.partitions),
        codec=MemoryCodec(MarketDataRecorded),
        store=views,
        clock=SystemClock(),
    )


async def rows_of(topic: MemoryTopic, *projections: Projection) -> list[str]:
    views = MemoryViews()
    async with Running(projector(topic, views, *projections)) as running:
        for name in NAMES:
            await running.reaches({0: EVENTS // 2, 1: EVENTS // 2}, name)
    return [repr(sorted(views.rows(projection).items())) for projection in projections]


def counted(name: str) -> dict[str, float]:
    labels = ({"projection": name, "by": by} for by in ("numpy", "python"))
    samples = (REGISTRY.get_sample_value("tidemill_folded_events_total", each) for each in labels)
    return dict(zip(("numpy", "python"), (sample or 0.0 for sample in samples), strict=True))


async def test_a_backlog_is_folded_by_arrays_and_counted(topic: MemoryTopic) -> None:
    before = {name: counted(name) for name in NAMES}
    await rows_of(topic, latest_quotes, daily_bars)
    for name in NAMES:
        found = {by: count - before[name][by] for by, count in counted(name).items()}
        assert sum(found.values()) == EVENTS
        assert found["numpy"] >= 0.99 * EVENTS


async def test_rows_are_those_that_python_gives(topic: MemoryTopic) -> None:
    assert await rows_of(topic, latest_quotes, daily_bars) == await rows_of(topic, coded_quotes, coded_bars)


async def test_with_a_fold_in_python_beside_it_the_events_come_as_messages(topic: MemoryTopic) -> None:
    mixed = await rows_of(topic, latest_quotes, coded_bars)
    assert mixed == await rows_of(topic, coded_quotes, daily_bars)


@pytest.mark.parametrize("projection", [latest_quotes, daily_bars], ids=lambda each: each.name)
async def test_a_rebuild_reads_field_by_field_too(
    topic: MemoryTopic, projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(
        MemoryCodec, "decode_columns", lambda _, records, wanted: read.append((len(records), wanted))
    )
    views = MemoryViews()
    standing = await views.open(projection, MARKET_DATA.aggregate, MARKET_DATA.partitions)
    parts = ReplayParts(
        lambda: MemoryEvents(topic, partitions=MARKET_DATA.partitions),
        MemoryCodec(MarketDataRecorded),
        views,
        MemoryRebuildTargets(views),
        stall_s=HANGING_S,
    )
    async with Replay(MARKET_DATA, standing.view, parts) as replay:
        await replay.up_to({0: EVENTS // 2, 1: EVENTS // 2}, lambda *_: None)
    assert sum(count for count, _ in read) == EVENTS
    assert {frozenset(wanted) for _, wanted in read} == {frozenset({MarketDataRecorded})}
