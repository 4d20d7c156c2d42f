"""What may happen to the points of a series. A rule sees the series' row, and so whichever save is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any

from tidemill.api import Decision, EventBase, Rejected, accepted, rejected
from tidemill.contexts.time_series import messages
from tidemill.contexts.time_series.messages import DATETIME, FLOAT64, INT64, column_names

MAX_REST = timedelta(hours=1)
"""How long an open save may rest: a saver that died blocks the next one for so long."""

CODES = {
    "NO_SERIES": "no series in force has this id: create it first, or correct the id",
    "NO_COLUMN": "the series has no such value column: correct the name, or add it to value_columns first",
    "WRONG_AXIS": "the axis of the series has another type: send the command, and the list, for its type",
    "AXIS_FIXED": "the axis of a series cannot change: create another series",
    "SAVE_OPEN": "another save of the series is open: wait until it is completed or given up, then save anew",
    "NO_SAVE": "no such save is open: it was never opened, was completed, given up or came after another one; open one",
    "SAVE_INCOMPLETE": "the save lacks points, or has more than was said: look for rejected commands, or abandon it",
}

Row = tuple[Any, ...]
Rule = Callable[[Any, Any, datetime], Decision]


def fixed_axis(series: Any, command: Any, at: datetime) -> Rejected | None:
    """Refuse an update that would give the points another type."""
    del at
    if series is None or getattr(command, "axis", None) in (None, series.axis):
        return None
    return Rejected("AXIS_FIXED", f"{_named(command)} has an axis of {series.axis}, not {command.axis}")


def append_points(event: type[EventBase]) -> Rule:
    """Return the rule of a command that adds points to the current revision."""

    def rule(series: Any, command: Any, at: datetime) -> Decision:
        del at
        return _unfit(series, command) or _with_points(event, command, series.revision, series.points)

    return rule


def save_points(event: type[EventBase]) -> Rule:
    """Return the rule of a command that replaces all points by its own."""

    def rule(series: Any, command: Any, at: datetime) -> Decision:
        refusal = _unfit(series, command) or _rival(series, command, at)
        return refusal or _with_points(event, command, series.newest_revision + 1, 0)

    return rule


def fill_save(event: type[EventBase]) -> Rule:
    """Return the rule of a command that adds points to an open save."""

    def rule(series: Any, command: Any, at: datetime) -> Decision:
        refusal = _not_open(series, command, at) or _unfit(series, command)
        return refusal or _with_points(event, command, series.newest_revision, series.open_points)

    return rule


def open_save(series: Any, command: messages.OpenTimeSeriesSave, at: datetime) -> Decision:
    """Accept a save while no other one is open."""
    refusal = _absent(series, command) or _rival(series, command, at)
    return refusal or accepted(messages.TimeSeriesSaveOpened.of(command))


def complete_save(series: Any, command: messages.CompleteTimeSeriesSave, at: datetime) -> Decision:
    """Accept the end of a save that has all of its points."""
    if refusal := _not_open(series, command, at):
        return refusal
    if command.points != series.open_points:
        return rejected(
            "SAVE_INCOMPLETE",
            f"save {command.save!r} of {_named(command)} has {series.open_points} points, not {command.points}",
        )
    return accepted(messages.TimeSeriesSaveCompleted.of(command))


def abandon_save(series: Any, command: messages.AbandonTimeSeriesSave, at: datetime) -> Decision:
    """Accept the end of a save without its points."""
    return _not_open(series, command, at) or accepted(messages.TimeSeriesSaveAbandoned.of(command))


def lapse_save(series: Any, command: messages.LapseTimeSeriesSave, at: datetime) -> Decision:
    """Accept the end of an open save that rested too long; one for which something arrived meanwhile stays open."""
    if _absent(series, command) or series.open_save is None or at < series.open_expires_at:
        return rejected("NO_SAVE", f"no save of {_named(command)} rested too long")
    fields = {**command.model_dump(), "save": series.open_save}
    return accepted(messages.TimeSeriesSaveAbandoned.model_validate(fields))


# --- why not ---


def _absent(series: Any, command: Any) -> Rejected | None:
    if series is None or series.deleted:
        return rejected("NO_SERIES", f"there is no {_named(command)}")
    return None


def _not_open(series: Any, command: Any, at: datetime) -> Rejected | None:
    if refusal := _absent(series, command):
        return refusal
    if series.open_save == command.save and at < series.open_expires_at:
        return None
    return rejected("NO_SAVE", f"save {command.save!r} of {_named(command)} is not open")


def _rival(series: Any, command: Any, at: datetime) -> Rejected | None:
    """Refuse a save while another one is open; one that rested too long is no rival."""
    if series.open_save is None or at >= series.open_expires_at:
        return None
    until = series.open_expires_at.isoformat(timespec="seconds")
    return rejected(
        "SAVE_OPEN", f"save {series.open_save!r} of {_named(command)} is open, until {until} or longer"
    )


def _unfit(series: Any, command: Any) -> Rejected | None:
    if refusal := _absent(series, command):
        return refusal
    if (axis := _axis_of(command)) != series.axis:
        return rejected("WRONG_AXIS", f"{_named(command)} has an axis of {series.axis}, not {axis}")
    if unknown := sorted(set(command.column_names) - column_names(series.value_columns)):
        return rejected("NO_COLUMN", f"{_named(command)} has no column {', '.join(map(repr, unknown))[:200]}")
    return None


def _axis_of(command: Any) -> str:
    if hasattr(command, "times"):
        return DATETIME
    return FLOAT64 if command.floats else INT64


def _named(command: Any) -> str:
    return f"time series {command.time_series_id!r}"


# --- rows ---


def _with_points(event: type[EventBase], command: Any, revision: int, first: int) -> Decision:
    return accepted(event.of(command), rows=point_rows(command, revision, first))


def point_rows(command: Any, revision: int, first: int) -> list[Row]:
    """Return a row for each point, numbered from `first` in its revision, in the order of its table's columns."""
    count = len(command.values)
    positions: Sequence[Sequence[Any]]
    if hasattr(command, "times"):
        positions = (command.times,)
    else:
        nothing = [None] * count
        positions = (command.floats or nothing, command.integers or nothing)
    series, revisions = repeat(command.time_series_id, count), repeat(revision, count)
    names = map(command.column_names.__getitem__, command.columns)
    numbers = range(first, first + count)
    return list(zip(*positions, series, names, command.values, revisions, numbers, strict=True))
