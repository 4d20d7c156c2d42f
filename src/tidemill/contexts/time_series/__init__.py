"""Time series: what a frame looks like, and its points, which are appended to, or saved anew all at once."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any

from sqlalchemy import Table

from tidemill.api import (
    CommandBase,
    Compression,
    Crud,
    DecideSpec,
    Expiry,
    Extra,
    Query,
    Retention,
    decide,
    entity,
    named,
)
from tidemill.contexts.time_series import messages, rules
from tidemill.contexts.time_series.points import CURRENT, EVENTS, SERIES, data_points, evolve, numeric_points


def _about_points(model: type[CommandBase], rule: rules.Rule, table: Table) -> DecideSpec:
    return decide(model, rule, clocked=True, into=table)


def _about_series(model: type[CommandBase], rule: rules.Rule) -> DecideSpec:
    return decide(model, rule, clocked=True)


def _lapse(key: str, base: Mapping[str, Any]) -> CommandBase:
    return messages.LapseTimeSeriesSave.model_validate({"time_series_id": key, **base})


_append, _save, _fill = rules.append_points, rules.save_points, rules.fill_save
_commands = (
    _about_points(messages.AppendTimeSeriesPoints, _append(messages.TimeSeriesPointsAppended), data_points),
    _about_points(messages.AppendNumericPoints, _append(messages.NumericPointsAppended), numeric_points),
    _about_points(messages.SaveTimeSeriesPoints, _save(messages.TimeSeriesPointsSaved), data_points),
    _about_points(messages.SaveNumericPoints, _save(messages.NumericPointsSaved), numeric_points),
    _about_series(messages.OpenTimeSeriesSave, rules.open_save),
    _about_points(messages.FillTimeSeriesSave, _fill(messages.TimeSeriesSaveFilled), data_points),
    _about_points(messages.FillNumericSave, _fill(messages.NumericSaveFilled), numeric_points),
    _about_series(messages.CompleteTimeSeriesSave, rules.complete_save),
    _about_series(messages.AbandonTimeSeriesSave, rules.abandon_save),
)

time_series = entity(
    messages.TimeSeries,
    plural=SERIES,
    index=(
        named("idx_time_series_metadata_created_at", "created_at"),
        named("idx_time_series_metadata_time_column", "time_column"),
        named("idx_time_series_metadata_open_expires_at", "open_expires_at"),
    ),
    rules=(rules.fixed_axis,),
    more=Extra(
        commands=_commands,
        events=EVENTS,
        evolve=evolve,
        codes=rules.CODES,
        fields=(
            "revision",
            "points",
            "newest_revision",
            "open_save",
            "open_points",
            "open_expires_at",
        ),
        lapse=Expiry(
            "open_expires_at",
            messages.LapseTimeSeriesSave,
            rules.lapse_save,
            key=attrgetter("time_series_id"),
            make=_lapse,
        ),
    ),
)

points_of_series = Query(
    "points-of-series",
    "select timestamp, value, revision, number from time_series_data_points_view "
    "where time_series_id = :time_series_id and column_name = :column_name "
    "and timestamp >= :since and timestamp < :until order by timestamp, number",
    parameters={"time_series_id": str, "column_name": str, "since": datetime, "until": datetime},
    returns={"timestamp": datetime, "value": float, "revision": int, "number": int},
    reads=("time-series-data-points",),
    order=("timestamp", "number"),
    constant=("revision",),
)
series_by_bucket = Query(
    "series-by-bucket",
    "select time_bucket(make_interval(secs => :bucket_s), timestamp) as bucket, count(*) as points, "
    'count(value) as "values", sum(value) / nullif(count(value), 0) as mean, min(value) as least, '
    "max(value) as greatest, max(revision) as revision "
    "from time_series_data_points_view "
    "where time_series_id = :time_series_id and column_name = :column_name "
    "and timestamp >= :since and timestamp < :until group by bucket order by bucket",
    parameters={
        "time_series_id": str,
        "column_name": str,
        "since": datetime,
        "until": datetime,
        "bucket_s": float,
    },
    returns={
        "bucket": datetime,
        "points": int,
        "values": int,
        "mean": float,
        "least": float,
        "greatest": float,
        "revision": int,
    },
    reads=("time-series-data-points",),
    order=("bucket",),
    constant=("revision",),
)
numeric_points_of_series = Query(
    "numeric-points-of-series",
    "select float_position, integer_position, value, revision, number from time_series_numeric_points_view "
    "where time_series_id = :time_series_id and column_name = :column_name "
    "order by integer_position, float_position, number",
    parameters={"time_series_id": str, "column_name": str},
    returns={
        "float_position": float,
        "integer_position": int,
        "value": float,
        "revision": int,
        "number": int,
    },
    reads=("time-series-numeric-points",),
    order=("integer_position", "float_position", "number"),
    constant=("revision",),
)


# A width of 0 or less divides by zero, which is refused. Integers are divided exactly: the bucket of the least one
# begins outside of int64. A float divided by a much larger width is too small for a float, which the server refuses.
_INTEGER_BUCKET = "floor(integer_position::numeric / greatest(:width, 0)) * :width"
_FLOAT_BUCKET = (
    "case when abs(float_position) < :width then case when float_position < 0 then -:width else 0 end "
    "else floor(float_position / greatest(:width, 0)) * :width end"
)


def _of_positions(axis: str, position: type) -> tuple[Query, Query]:
    """Return the queries for a span of a numeric axis: its points, and what is in buckets of a width."""
    column = f"{axis}_position"
    of_series = {"time_series_id": str, "column_name": str, "since": position, "until": position}
    where = (
        "from time_series_numeric_points_view where time_series_id = :time_series_id "
        f"and column_name = :column_name and {column} >= :since and {column} < :until"
    )
    points = Query(
        f"{axis}-points-of-series",
        f"select {column}, value, revision, number {where} order by {column}, number",
        parameters=of_series,
        returns={column: position, "value": float, "revision": int, "number": int},
        reads=("time-series-numeric-points",),
        order=(column, "number"),
        constant=("revision",),
    )
    exact, bucket = (Decimal, _INTEGER_BUCKET) if position is int else (float, _FLOAT_BUCKET)
    buckets = Query(
        f"{axis}-series-by-bucket",
        f'select {bucket} as bucket, count(*) as points, count(value) as "values", '
        "sum(value) / nullif(count(value), 0) as mean, min(value) as least, max(value) as greatest, "
        f"max(revision) as revision {where} group by bucket order by bucket",
        parameters=of_series | {"width": exact},
        returns={
            "bucket": exact,
            "points": int,
            "values": int,
            "mean": float,
            "least": float,
            "greatest": float,
            "revision": int,
        },
        reads=("time-series-numeric-points",),
        order=("bucket",),
        constant=("revision",),
    )
    return points, buckets


of_positions = (*_of_positions("float", float), *_of_positions("integer", int))

context = time_series.context(
    aggregate="time-series",
    current=CURRENT,
    http=Crud(create=messages.AppendTimeSeriesPoints),
    # Series are kept as they were saved; a deployment whose points are to leave says so, and after how long.
    retention=Retention(
        table=data_points, time_column="timestamp", after=timedelta(days=3_650), enabled=False
    ),
    queries=(points_of_series, series_by_bucket, numeric_points_of_series, *of_positions),
    community=(
        Compression(
            table=data_points,
            after=timedelta(days=1),
            by=("time_series_id", "column_name"),
            time_column="timestamp",
        ),
    ),
)
