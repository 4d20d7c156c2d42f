"""The fields of a time series, and the commands and events about its points."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, WithJsonSchema
from sqlalchemy.dialects.postgresql import JSONB

from tidemill.api import CleanLabel, CleanText, CommandBase, EventBase, Label, Message, checks, fact_event

MAX_POINTS = 10_000
MAX_COLUMNS = 1_000
MAX_LABEL = 200
FIRST_TIME = datetime(1900, 1, 1, tzinfo=UTC)
END_OF_TIME = datetime(2100, 1, 1, tzinfo=UTC)
"""Every 180 days between them may become a chunk: as many as one transaction can lock."""

DATETIME, FLOAT64, INT64 = "datetime", "float64", "int64"


@lru_cache(maxsize=256)
def column_names(text: str) -> frozenset[str]:
    """Return the names in a JSON array. Raises `ValueError`."""
    try:
        names = json.loads(text)
    except RecursionError:
        names = None  # no array of texts is so deep
    fits = isinstance(names, list) and all(isinstance(name, str) and _is_label(name) for name in names)
    if not fits or not 1 <= len(names) <= MAX_COLUMNS or len(set(names)) < len(names):
        raise ValueError(
            f"write a JSON array of 1 to {MAX_COLUMNS} different names, each of 1 to {MAX_LABEL} characters"
        )
    return frozenset(names)


def _is_label(name: str) -> bool:
    """Tell what `Label` takes; a lone surrogate is refused by the wire format only after it was parsed."""
    return 1 <= len(name) <= MAX_LABEL and not any(
        character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in name
    )


def _array_of_names(text: str) -> str:
    column_names(text)
    return text


ValueColumns = Annotated[
    str,
    StringConstraints(max_length=65_536),
    AfterValidator(_array_of_names),
    JSONB(none_as_null=True),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]
Axis = Annotated[str, StringConstraints(pattern=f"^({DATETIME}|{FLOAT64}|{INT64})$")]
Value = Annotated[float, Field(allow_inf_nan=True)]
Place = Annotated[int, Field(ge=0, lt=MAX_COLUMNS)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Points = Annotated[int, Field(ge=0, le=2**63 - 1)]


class TimeSeries(Message):
    """A time series: what its frame looks like; the points have tables of their own."""

    name: CleanLabel | None = Field(default=None, description="What people call it.")
    description: CleanText | None = Field(default=None, description="What it is about.")
    time_column: CleanLabel = Field(description="The name of its axis in the original data.")
    value_columns: ValueColumns = Field(
        description="The names of its value columns, a JSON array of texts in the order of the original data."
    )
    axis: Axis = Field(
        default=DATETIME,
        description="The type of its axis: datetime (microseconds), float64 or int64. It cannot change.",
    )
    revision: int = Field(default=0, description="The revision whose points readers see.")
    points: int = Field(default=0, description="How many points that revision has, wherever their rows are.")
    newest_revision: int = Field(default=0, description="The newest revision that was given a number.")
    open_save: Label | None = Field(default=None, description="The save that is being filled.")
    open_points: int = Field(default=0, description="How many points it has so far.")
    open_expires_at: datetime | None = Field(
        default=None, description="When it is given up unless something arrives for it."
    )


class Series(BaseModel):
    """The series that a command is about."""

    time_series_id: Label = Field(description="The time series.")


class Save(BaseModel):
    """The save that a command is about."""

    save: Label = Field(description="The id of the save, chosen by its saver: one of a kind, such as a UUID.")


class Values(BaseModel):
    """The values of points: parallel lists, an item for each point."""

    column_names: list[Label] = Field(
        min_length=1, max_length=MAX_COLUMNS, description="The value columns that have points here."
    )
    columns: list[Place] = Field(
        min_length=1, max_length=MAX_POINTS, description="Of each point its column: a place in column_names."
    )
    values: list[Value | None] = Field(
        min_length=1, max_length=MAX_POINTS, description="Of each point its value; null for NaN."
    )


class Times(Values):
    """Points on an axis of datetimes."""

    times: list[datetime] = Field(
        min_length=1, max_length=MAX_POINTS, description="Of each point its time, exact to the microsecond."
    )


class Positions(Values):
    """Points on a numeric axis: one of the two lists has an item for each point, the other one is empty."""

    floats: list[Value] = Field(
        default=[],
        max_length=MAX_POINTS,
        description="Of each point its position on an axis of float64; empty on one of int64.",
    )
    integers: list[Int64] = Field(
        default=[],
        max_length=MAX_POINTS,
        description="Of each point its position on an axis of int64; empty on one of float64.",
    )


class OneAxis(checks.FieldCheck):
    """Positions are floats or integers, as many as values."""

    @property
    def words(self) -> str:
        return "As many as values, or none."

    def fault(self, message: Any) -> str | None:
        floats, integers, values = len(message.floats), len(message.integers), len(message.values)
        if sorted((floats, integers)) == [0, values]:
            return None
        return f"floats are {floats}, integers are {integers}, values are {values}: send as many of one of the two"


_OF_VALUES = (
    checks.PlacesIn("columns", "column_names"),
    checks.SameLength("columns", "values"),
    checks.NotNaN("values"),
)
OF_TIMES = (
    *_OF_VALUES,
    checks.SameLength("times", "values"),
    checks.AllBetween("times", FIRST_TIME, END_OF_TIME),
)
OF_POSITIONS = (*_OF_VALUES, OneAxis("integers"), checks.NotNaN("floats"))


class AppendTimeSeriesPoints(Times, Series, CommandBase):
    """Add points to the current revision of a series."""

    checks = OF_TIMES


class AppendNumericPoints(Positions, Series, CommandBase):
    """Add points to the current revision of a series with a numeric axis."""

    checks = OF_POSITIONS


class SaveTimeSeriesPoints(Times, Series, CommandBase):
    """Replace all points of a series by these."""

    checks = OF_TIMES


class SaveNumericPoints(Positions, Series, CommandBase):
    """Replace all points of a series with a numeric axis by these."""

    checks = OF_POSITIONS


class OpenTimeSeriesSave(Save, Series, CommandBase):
    """Begin a save of more points than one command holds; readers see the present points until it is completed."""


class FillTimeSeriesSave(Times, Save, Series, CommandBase):
    """Add points to an open save."""

    checks = OF_TIMES


class FillNumericSave(Positions, Save, Series, CommandBase):
    """Add points to an open save of a series with a numeric axis."""

    checks = OF_POSITIONS


class CompleteTimeSeriesSave(Save, Series, CommandBase):
    """Make the points of an open save those of the series, all at once."""

    points: Points = Field(
        description="How many points the save has: a save that lacks some is not completed."
    )


class AbandonTimeSeriesSave(Save, Series, CommandBase):
    """Give up an open save; the series keeps its present points."""


class LapseTimeSeriesSave(Series, CommandBase):
    """Give up a save for which nothing arrived for too long; the service's own."""


def _event(name: str, command: type[CommandBase], doc: str) -> type[EventBase]:
    return fact_event(name, command, doc)


TimeSeriesPointsAppended = _event(
    "TimeSeriesPointsAppended", AppendTimeSeriesPoints, "Points were added to a series."
)
NumericPointsAppended = _event(
    "NumericPointsAppended", AppendNumericPoints, "Points were added to a series with a numeric axis."
)
TimeSeriesPointsSaved = _event(
    "TimeSeriesPointsSaved", SaveTimeSeriesPoints, "All points of a series were replaced by these."
)
NumericPointsSaved = _event(
    "NumericPointsSaved",
    SaveNumericPoints,
    "All points of a series with a numeric axis were replaced by these.",
)
TimeSeriesSaveOpened = _event("TimeSeriesSaveOpened", OpenTimeSeriesSave, "A save of a series was begun.")
TimeSeriesSaveFilled = _event("TimeSeriesSaveFilled", FillTimeSeriesSave, "A save got points.")
NumericSaveFilled = _event(
    "NumericSaveFilled", FillNumericSave, "A save of a series with a numeric axis got points."
)
TimeSeriesSaveCompleted = _event(
    "TimeSeriesSaveCompleted",
    CompleteTimeSeriesSave,
    "All points of a series were replaced by those of a save.",
)
TimeSeriesSaveAbandoned = _event("TimeSeriesSaveAbandoned", AbandonTimeSeriesSave, "A save was given up.")
