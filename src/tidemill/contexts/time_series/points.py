"""The tables of points, and what events about points change of their series."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Column, DateTime, Double, Index, MetaData, Table, Text

from tidemill.api import CurrentFacts, SupersededRemoval
from tidemill.contexts.time_series import messages
from tidemill.contexts.time_series.rules import MAX_REST

SERIES = "time_series_metadata"


def _own_columns() -> tuple[Column[Any], ...]:
    """Return the columns that points have on every axis. `number`: their place in the revision, in order of arrival."""
    return (
        Column("time_series_id", Text, nullable=False),
        Column("column_name", Text, nullable=False),
        Column("value", Double, nullable=True),
        Column("revision", BigInteger, nullable=False),
        Column("number", BigInteger, nullable=False),
    )


def _time() -> Column[Any]:
    return Column("timestamp", DateTime(timezone=True), nullable=False)


def _positions() -> tuple[Column[Any], ...]:
    return Column("float_position", Double, nullable=True), Column(
        "integer_position", BigInteger, nullable=True
    )


data_points = Table("time_series_data_points", MetaData(), _time(), *_own_columns(), schema="public")
numeric_points = Table(
    "time_series_numeric_points", MetaData(), *_positions(), *_own_columns(), schema="public"
)

Index("idx_time_series_data_points_timestamp", data_points.c.timestamp)
Index(
    "idx_time_series_data_points_series_time",
    data_points.c.time_series_id,
    data_points.c.timestamp,
)
Index(
    "idx_time_series_data_points_series_column",
    data_points.c.time_series_id,
    data_points.c.column_name,
)
Index(
    "idx_time_series_data_points_series_column_time",
    data_points.c.time_series_id,
    data_points.c.column_name,
    data_points.c.timestamp,
)
Index(
    "idx_time_series_data_points_series_revision",
    data_points.c.time_series_id,
    data_points.c.revision,
)
Index(
    "idx_time_series_numeric_points_series_column_revision",
    numeric_points.c.time_series_id,
    numeric_points.c.column_name,
    numeric_points.c.revision,
)
Index(
    "idx_time_series_numeric_points_series_revision",
    numeric_points.c.time_series_id,
    numeric_points.c.revision,
)

_data_points_view = Table(
    "time_series_data_points_view", MetaData(), _time(), *_own_columns(), schema="public"
)
_numeric_points_view = Table(
    "time_series_numeric_points_view", MetaData(), *_positions(), *_own_columns(), schema="public"
)


def _current(table: Table, view: Table, removal: str) -> CurrentFacts:
    superseded = SupersededRemoval(command=removal, newest="newest_revision", filled="open_save")
    return CurrentFacts(
        table, view, of=SERIES, owner="time_series_id", revision="revision", removal=superseded
    )


CURRENT = (
    _current(data_points, _data_points_view, "RemoveSupersededTimeSeriesPoints"),
    _current(numeric_points, _numeric_points_view, "RemoveSupersededNumericPoints"),
)


def evolve(series: Any, event: Any, at: datetime) -> Any:
    """Return the series after an event about its points."""
    return _CHANGES[type(event)](series, event, at)


def _appended(series: Any, event: Any, at: datetime) -> Any:
    del at
    return replace(series, points=series.points + len(event.values))


def _replaced(series: Any, event: Any, at: datetime) -> Any:
    del at
    return _saved(series, series.newest_revision + 1, len(event.values))


def _opened(series: Any, event: Any, at: datetime) -> Any:
    newest = series.newest_revision + 1
    return _waiting(replace(series, newest_revision=newest, open_save=event.save, open_points=0), at)


def _filled(series: Any, event: Any, at: datetime) -> Any:
    return _waiting(replace(series, open_points=series.open_points + len(event.values)), at)


def _completed(series: Any, event: Any, at: datetime) -> Any:
    del event, at
    return _saved(series, series.newest_revision, series.open_points)


def _abandoned(series: Any, event: Any, at: datetime) -> Any:
    del event, at
    return _closed(series)


_CHANGES: Final[Mapping[type, Callable[[Any, Any, datetime], Any]]] = {
    messages.TimeSeriesPointsAppended: _appended,
    messages.NumericPointsAppended: _appended,
    messages.TimeSeriesPointsSaved: _replaced,
    messages.NumericPointsSaved: _replaced,
    messages.TimeSeriesSaveOpened: _opened,
    messages.TimeSeriesSaveFilled: _filled,
    messages.NumericSaveFilled: _filled,
    messages.TimeSeriesSaveCompleted: _completed,
    messages.TimeSeriesSaveAbandoned: _abandoned,
}

EVENTS: Final = tuple(_CHANGES)


def _waiting(series: Any, at: datetime) -> Any:
    return replace(series, open_expires_at=at + MAX_REST)


def _saved(series: Any, revision: int, points: int) -> Any:
    return replace(_closed(series), revision=revision, newest_revision=revision, points=points)


def _closed(series: Any) -> Any:
    return replace(series, open_save=None, open_points=0, open_expires_at=None)
