"""The statements for TimescaleDB's Community edition, word by word."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Column, DateTime, MetaData, Table, Text

from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.telemetry_events import context as telemetry_events
from tidemill.contexts.time_series import context as time_series
from tidemill.domain.community import Compression, Rollup
from tidemill.storage.database.community_sql import has_table, statements_of

AWKWARD = Table(
    "Order Lines", MetaData(schema="shop"), Column("at", DateTime(timezone=True)), Column("user", Text)
)


COMPRESSED = (
    "alter table public.market_data set (timescaledb.compress, timescaledb.compress_segmentby = 'symbol', "
    "timescaledb.compress_orderby = 'time desc')"
)
SUMMED = (
    "create materialized view public.telemetry_events_hourly with (timescaledb.continuous) as "
    "select time_bucket(interval '3600 seconds', time) as bucket, source, name, count(*) as events, "
    "count(value) as numbers, sum(value) as total, min(value) as lowest, max(value) as highest "
    "from public.telemetry_events group by 1, 2, 3 with no data"
)
REFRESHED = (
    "select add_continuous_aggregate_policy('public.telemetry_events_hourly', "
    "start_offset => interval '10800 seconds', end_offset => interval '3600 seconds', "
    "schedule_interval => interval '3600 seconds')"
)


def test_prices_are_compressed_by_symbol_a_week_after_their_span() -> None:
    (feature,) = market_data.community
    weekly = (
        "select add_compression_policy('public.market_data', compress_after => interval '604800 seconds')"
    )
    assert statements_of(feature) == [COMPRESSED, weekly]


def test_points_are_compressed_by_series_and_column_a_day_after_their_span() -> None:
    (feature,) = time_series.community
    assert statements_of(feature) == [
        (
            "alter table public.time_series_data_points set (timescaledb.compress, timescaledb.compress_segmentby = "
            "'time_series_id, column_name', timescaledb.compress_orderby = 'timestamp desc')"
        ),
        "select add_compression_policy('public.time_series_data_points', compress_after => interval '86400 seconds')",
    ]


def test_telemetry_is_summed_by_hour_and_refreshed_each_hour() -> None:
    (feature,) = telemetry_events.community
    granted = "grant select on public.telemetry_events_hourly to tidemill_reader"
    assert statements_of(feature) == [SUMMED, granted, REFRESHED]


def test_names_are_quoted() -> None:
    compression = Compression(table=AWKWARD, after=timedelta(days=1), by=("user",), time_column="at")
    assert "compress_segmentby = '\"user\"'" in statements_of(compression)[0]
    assert statements_of(compression)[1].startswith("select add_compression_policy('shop.\"Order Lines\"', ")
    rollup = Rollup(
        view="By user", table=AWKWARD, by=("user",), values={"n": "count(*)"}, instead="-", time_column="at"
    )
    assert statements_of(rollup)[0].startswith('create materialized view shop."By user" ')
    assert has_table(AWKWARD) == "select to_regclass('shop.\"Order Lines\"') is not null"


def test_what_is_no_feature_has_no_statements() -> None:
    with pytest.raises(TypeError, match="is not a feature"):
        statements_of("compression")
