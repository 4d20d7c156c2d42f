"""What contexts may want of TimescaleDB's Community edition, and what a database lacks of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tidemill.api import Compression, ContractError, Rollup, fact_table
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data import ticks
from tidemill.contexts.telemetry_events import RecordTelemetryEvents, hourly
from tidemill.contexts.telemetry_events import context as telemetry_events
from tidemill.domain.community import EditionFeatures, lacking

COMPRESSED = Compression(table=ticks, after=timedelta(days=7), by=("symbol",))
DECLARED = {"market-data": market_data.community, "telemetry-events": telemetry_events.community}
NAMES = ["compression of public.market_data", "continuous aggregate public.telemetry_events_hourly"]


def test_on_the_apache_edition_all_is_lacking_and_something_stands_in_for_each() -> None:
    missing = lacking(DECLARED, EditionFeatures(is_community=False))
    assert [(each.aggregate, each.feature) for each in missing] == [*zip(DECLARED, NAMES, strict=True)]
    assert "stay uncompressed until they leave" in missing[0].instead
    assert "telemetry-by-hour" in missing[1].instead
    assert {each.advice for each in missing} == {
        "it needs TimescaleDB's Community edition: after the move, `tidemill migrate` adds it"
    }
    assert [query.name for query in telemetry_events.queries] == ["telemetry-by-hour"]


def test_what_was_made_before_a_move_to_the_apache_edition_does_not_count() -> None:
    missing = lacking(DECLARED, EditionFeatures(is_community=False, present=NAMES))
    assert [feature.feature for feature in missing] == NAMES


def test_on_the_community_edition_the_next_migration_adds_what_is_lacking() -> None:
    (missing,) = lacking(DECLARED, EditionFeatures(is_community=True, present=NAMES[:1]))
    assert (missing.feature, missing.advice) == (NAMES[1], "`tidemill migrate` adds it")
    assert lacking(DECLARED, EditionFeatures(is_community=True, present=NAMES)) == []


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (replace(COMPRESSED, after=timedelta(0)), "`after` must be positive"),
        (replace(COMPRESSED, by=("symbl",)), "has no symbl"),
        (replace(COMPRESSED, time_column="at"), "has no at"),
        (replace(COMPRESSED, table=fact_table("others", RecordTelemetryEvents)), "no command appends to its"),
    ],
)
def test_a_compression_that_makes_no_sense_is_refused(feature: Compression, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        replace(market_data, community=(feature,))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"by": ("place",)}, "has no place"),
        ({"every": timedelta(0)}, "at least one span"),
        ({"since": timedelta(hours=1)}, "at least one span"),
        ({"since": timedelta(days=90)}, "would lose what left after 90 days"),
    ],
)
def test_an_aggregate_that_would_lose_rows_is_refused(changes: dict[str, Any], said: str) -> None:
    rollup: Rollup = replace(hourly, **changes)
    with pytest.raises(ContractError, match=said):
        replace(telemetry_events, community=(rollup,))
