"""Time series: what commands about points are taken, what they change, and who loses when two save at once."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from tidemill.api import (
    Accepted,
    CommandBase,
    ContractError,
    CurrentFacts,
    Extra,
    Rejected,
    SupersededRemoval,
    entity,
)
from tidemill.contexts.time_series import context, messages, time_series
from tidemill.contexts.time_series.points import SERIES, data_points
from tidemill.contexts.time_series.rules import MAX_REST
from tidemill_devkit.testing import NOW, ContextInMemory, sample

CREATE = time_series.messages.create
MICROSECOND = timedelta(microseconds=1)
POINTS: dict[str, Any] = {"column_names": ["open"], "columns": [0, 0], "values": [1.5, None]}
TIMES: dict[str, Any] = POINTS | {"times": [NOW, NOW + MICROSECOND]}
FLOATS: dict[str, Any] = POINTS | {"floats": [-0.0, 1e300]}
INTEGERS: dict[str, Any] = POINTS | {"integers": [2**53 + 1, -(2**63)]}


def series(axis: str = "datetime") -> ContextInMemory:
    """Return a context with one series."""
    memory = ContextInMemory(context)
    values = {"time_column": "date", "value_columns": '["open", "close"]', "axis": axis}
    assert isinstance(memory.send(sample(CREATE, time_series_id="s", **values)), Accepted)
    return memory


def about(model: type[CommandBase], **values: Any) -> CommandBase:
    return sample(model, time_series_id="s", **values)


def code(memory: ContextInMemory, command: CommandBase) -> str:
    """Return the code of a refused command, an empty text of an accepted one."""
    decision = memory.send(command)
    return decision.code if isinstance(decision, Rejected) else ""


def row(memory: ContextInMemory) -> tuple[int, int, str | None]:
    state = memory.state("s")
    return state.revision, state.points, state.open_save


def opened(save: str) -> CommandBase:
    return about(messages.OpenTimeSeriesSave, save=save)


def filled(save: str, **points: Any) -> CommandBase:
    return about(messages.FillTimeSeriesSave, save=save, **TIMES | points)


def completed(save: str, points: int) -> CommandBase:
    return about(messages.CompleteTimeSeriesSave, save=save, points=points)


# --- points ---


def test_points_become_rows_numbered_in_their_revision() -> None:
    memory = series()
    for _ in range(2):
        assert code(memory, about(messages.AppendTimeSeriesPoints, **TIMES)) == ""
    assert [tuple(each.values()) for each in memory.appended("time_series_data_points")] == [
        (NOW, "s", "open", 1.5, 0, 0),
        (NOW + MICROSECOND, "s", "open", None, 0, 1),
        (NOW, "s", "open", 1.5, 0, 2),
        (NOW + MICROSECOND, "s", "open", None, 0, 3),
    ]
    assert row(memory) == (0, 4, None)


@pytest.mark.parametrize(
    ("axis", "points", "places"),
    [
        ("float64", FLOATS, [(-0.0, None), (1e300, None)]),
        ("int64", INTEGERS, [(None, 2**53 + 1), (None, -(2**63))]),
    ],
)
def test_a_number_stays_of_its_type(axis: str, points: dict[str, Any], places: list[Any]) -> None:
    memory = series(axis)
    assert code(memory, about(messages.AppendNumericPoints, **points)) == ""
    rows = [tuple(each.values())[:2] for each in memory.appended("time_series_numeric_points")]
    assert repr(rows) == repr(places), "also the sign of zero"


def test_a_save_replaces_and_an_append_adds() -> None:
    memory = series()
    memory.send(about(messages.AppendTimeSeriesPoints, **TIMES))
    memory.send(about(messages.SaveTimeSeriesPoints, **TIMES))
    assert row(memory) == (1, 2, None)
    memory.send(about(messages.AppendTimeSeriesPoints, **TIMES))
    assert row(memory) == (1, 4, None)
    revisions = [each["revision"] for each in memory.appended("time_series_data_points")]
    assert revisions == [0, 0, 1, 1, 1, 1]


def test_events_repeat_their_commands() -> None:
    memory = series()
    command = about(messages.SaveTimeSeriesPoints, **TIMES)
    memory.send(command)
    assert memory.events[-1].model_dump() == command.model_dump()


# --- saves of many commands ---


def test_a_save_shows_when_it_is_completed() -> None:
    memory = series()
    memory.send(about(messages.AppendTimeSeriesPoints, **TIMES))
    memory.send(opened("mine"))
    memory.send(filled("mine"))
    memory.send(about(messages.AppendTimeSeriesPoints, **TIMES))
    assert row(memory) == (0, 4, "mine"), "what readers see has not changed but for what was appended"
    memory.send(filled("mine"))
    assert code(memory, completed("mine", 3)) == "SAVE_INCOMPLETE"
    assert code(memory, completed("mine", 4)) == ""
    assert row(memory) == (1, 4, None)


def test_the_second_of_two_savers_loses() -> None:
    memory = series()
    memory.send(opened("mine"))
    assert code(memory, opened("other")) == "SAVE_OPEN"
    assert code(memory, filled("other")) == "NO_SAVE"
    assert code(memory, completed("other", 0)) == "NO_SAVE"
    assert code(memory, about(messages.SaveTimeSeriesPoints, **TIMES)) == "SAVE_OPEN"
    memory.send(filled("mine"))
    assert code(memory, completed("mine", 2)) == ""
    assert code(memory, filled("mine")) == "NO_SAVE", "it is completed"
    assert code(memory, opened("other")) == ""


def test_a_save_that_rests_too_long_is_given_up_by_the_time_of_the_batch() -> None:
    memory = series()
    memory.send(opened("mine"))
    memory.now += MAX_REST - MICROSECOND
    assert code(memory, filled("mine")) == "", "and what arrives prolongs it"
    memory.now += MAX_REST - MICROSECOND
    assert code(memory, opened("other")) == "SAVE_OPEN"
    memory.now += MICROSECOND
    assert code(memory, filled("mine")) == "NO_SAVE"
    assert code(memory, completed("mine", 2)) == "NO_SAVE"
    assert code(memory, opened("other")) == ""
    memory.send(filled("other"))
    assert code(memory, completed("other", 2)) == ""
    assert row(memory) == (2, 2, None), "the number of the revision that was given up is not used again"


def test_a_save_of_one_command_also_ends_one_that_rests_too_long() -> None:
    memory = series()
    memory.send(opened("mine"))
    memory.now += MAX_REST
    assert code(memory, about(messages.SaveTimeSeriesPoints, **TIMES)) == ""
    assert row(memory) == (2, 2, None)
    assert code(memory, filled("mine")) == "NO_SAVE"


def test_a_save_can_be_given_up() -> None:
    memory = series()
    memory.send(opened("mine"))
    assert code(memory, about(messages.AbandonTimeSeriesSave, save="other")) == "NO_SAVE"
    assert code(memory, about(messages.AbandonTimeSeriesSave, save="mine")) == ""
    assert row(memory) == (0, 0, None)
    assert code(memory, opened("other")) == ""


# --- refused ---


@pytest.mark.parametrize(
    "command",
    [
        about(messages.AppendTimeSeriesPoints, **TIMES),
        about(messages.AppendNumericPoints, **FLOATS),
        about(messages.SaveTimeSeriesPoints, **TIMES),
        about(messages.SaveNumericPoints, **INTEGERS),
        opened("mine"),
        filled("mine"),
        about(messages.FillNumericSave, save="mine", **FLOATS),
        completed("mine", 0),
        about(messages.AbandonTimeSeriesSave, save="mine"),
    ],
    ids=lambda command: type(command).__name__,
)
def test_an_unknown_series_is_named_also_after_its_deletion(command: CommandBase) -> None:
    assert code(ContextInMemory(context), command) == "NO_SERIES"
    memory = series()
    memory.send(about(time_series.messages.delete))
    assert code(memory, command) == "NO_SERIES"


@pytest.mark.parametrize(
    ("axis", "model", "points"),
    [
        ("datetime", messages.AppendNumericPoints, FLOATS),
        ("datetime", messages.SaveNumericPoints, INTEGERS),
        ("float64", messages.AppendTimeSeriesPoints, TIMES),
        ("float64", messages.AppendNumericPoints, INTEGERS),
        ("int64", messages.SaveNumericPoints, FLOATS),
    ],
)
def test_points_of_another_type_than_the_axis_are_refused(
    axis: str, model: type[CommandBase], points: dict[str, Any]
) -> None:
    assert code(series(axis), about(model, **points)) == "WRONG_AXIS"


def test_a_column_that_the_series_has_not_is_refused() -> None:
    assert (
        code(series(), about(messages.AppendTimeSeriesPoints, **TIMES | {"column_names": ["x"]}))
        == "NO_COLUMN"
    )


def test_an_axis_cannot_change_and_columns_can() -> None:
    memory = series()
    update = time_series.messages.update
    assert code(memory, about(update, axis="int64")) == "AXIS_FIXED"
    assert code(memory, about(update, axis="datetime", value_columns='["x"]')) == ""
    assert code(memory, about(messages.AppendTimeSeriesPoints, **TIMES | {"column_names": ["x"]})) == ""


@pytest.mark.parametrize(
    ("model", "points", "wrong", "told"),
    [
        (messages.AppendTimeSeriesPoints, TIMES, {"values": [1.0]}, "values are 1"),
        (messages.AppendTimeSeriesPoints, TIMES, {"times": [NOW]}, "times are 1"),
        (messages.AppendTimeSeriesPoints, TIMES, {"columns": [0, 1]}, "columns.1 is 1"),
        (messages.AppendTimeSeriesPoints, TIMES, {"columns": [0, -1]}, "columns.1"),
        (messages.AppendTimeSeriesPoints, TIMES, {"column_names": []}, "column_names"),
        (messages.AppendTimeSeriesPoints, TIMES, {"column_names": ["\x00"]}, "column_names.0"),
        (messages.AppendTimeSeriesPoints, TIMES, {"values": [1.0, math.nan]}, "values.1 is NaN"),
        (
            messages.AppendTimeSeriesPoints,
            TIMES,
            {"times": [NOW, NOW.replace(tzinfo=None)]},
            "times.1 has no time zone",
        ),
        (
            messages.AppendTimeSeriesPoints,
            TIMES,
            {"times": [NOW, datetime(1899, 12, 31, tzinfo=UTC)]},
            "times.1 1899",
        ),
        (
            messages.AppendTimeSeriesPoints,
            TIMES,
            {"times": [datetime(2100, 1, 1, tzinfo=UTC), NOW]},
            "times.0 2100",
        ),
        (messages.AppendNumericPoints, FLOATS, {"floats": [1.0, math.nan]}, "floats.1 is NaN"),
        (messages.AppendNumericPoints, FLOATS, {"integers": [1, 2]}, "floats are 2, integers are 2"),
        (messages.AppendNumericPoints, FLOATS, {"floats": []}, "floats are 0, integers are 0"),
        (messages.AppendNumericPoints, INTEGERS, {"integers": [1, 2**63]}, "integers.1"),
        (messages.CompleteTimeSeriesSave, {"save": "a"}, {"points": -1}, "points"),
    ],
)
def test_what_could_not_be_stored_is_refused_and_named(
    model: type[CommandBase], points: dict[str, Any], wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        about(model, **points | wrong)
    (fault,) = refused.value.errors()
    assert told in ".".join(map(str, fault["loc"])) + fault["msg"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "[1]",
        '["a", "a"]',
        '[""]',
        '["\\u0000"]',
        '["\\ud800"]',
        f'["{"x" * 201}"]',
        "[" * 60,
        "[" * 60_000,
    ],
)
def test_value_columns_are_an_array_of_names(text: str) -> None:
    with pytest.raises(ValidationError):
        about(CREATE, time_column="date", value_columns=text)


def test_a_command_has_at_most_ten_thousand_points() -> None:
    def sized(count: int) -> CommandBase:
        lists = {"columns": [0] * count, "values": [1.0] * count, "times": [NOW] * count}
        return about(messages.AppendTimeSeriesPoints, **POINTS | lists)

    sized(10_000)
    for count in (0, 10_001):
        with pytest.raises(ValidationError):
            sized(count)


# --- the declaration ---


def test_rows_leave_only_where_a_deployment_says_so() -> None:
    assert context.retention is not None
    assert not context.retention.enabled


def test_a_field_that_only_own_events_fill_begins_with_its_default() -> None:
    with pytest.raises(ContractError, match="needs a default"):
        entity(messages.TimeSeries, more=Extra(fields=("time_column",)))
    with pytest.raises(ContractError, match="no field height"):
        entity(messages.TimeSeries, more=Extra(fields=("height",)))


REMOVAL = SupersededRemoval(command="Remove", newest="newest_revision", filled="open_save")


@pytest.mark.parametrize(
    ("removal", "fault"),
    [
        (replace(REMOVAL, newest="height"), "lacks a column"),
        (replace(REMOVAL, filled="height"), "lacks a column"),
    ],
)
def test_a_removal_is_of_columns_that_there_are(removal: SupersededRemoval, fault: str) -> None:
    shown = replace(context.current[0], removal=removal)
    with pytest.raises(ContractError, match=fault):
        replace(context, current=(shown,))


@pytest.mark.parametrize("wrong", [{"of": "users"}, {"owner": "height"}, {"revision": "value"}])
def test_current_facts_name_an_owner_and_a_revision_that_there_are(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"of": SERIES, "owner": "time_series_id", "revision": "revision"}
    view = context.current[0].view
    with pytest.raises(ContractError, match="time-series"):
        time_series.context(
            aggregate="time-series", current=(CurrentFacts(table=data_points, view=view, **right | wrong),)
        )
