"""Declared checks: one answer names every fault, of a list the first ten by their places, and counts the others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from tidemill.domain import checks
from tidemill.domain.checks import AllBetween, FieldCheck, NotNaN, OfRecords, PlacesIn, Within
from tidemill.domain.messages import Message

FIRST, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
IN_TIME, EARLY = datetime(2026, 1, 1, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC)
SPAN = "in 2000-01-01 to 2100-01-01"


class Record(Message):
    time: datetime


class Lists(Message):
    model_config = ConfigDict(allow_inf_nan=True)
    checks = (
        AllBetween("times", FIRST, END),
        NotNaN("values"),
        PlacesIn("columns", "names"),
        checks.SameLength("values", "times"),
    )

    names: tuple[str, ...] = ("a", "b")
    times: tuple[datetime, ...] = ()
    values: tuple[float | None, ...] = ()
    columns: tuple[int, ...] = ()


def faults(**lists: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        Lists(**lists)
    (fault,) = refused.value.errors()
    return str(fault["msg"].removeprefix("Value error, "))


def test_one_fault_is_told_as_before() -> None:
    assert faults(times=[EARLY], values=[1.0]) == f"times.0 1999-01-01T00:00:00+00:00 is not {SPAN}"
    unzoned = faults(times=[IN_TIME, IN_TIME.replace(tzinfo=None)], values=[1.0, None])
    assert unzoned == "times.1 has no time zone: say which, or Z"
    not_a_number = faults(times=[IN_TIME], values=[math.nan])
    assert not_a_number == "values.0 is NaN: send null, or leave the number out"
    assert faults(columns=[0, 2]) == "columns.1 is 2, but names has 2: places begin with 0"


def test_every_faulty_item_is_named() -> None:
    times = [EARLY, IN_TIME, END]
    text = "times.0 1999-01-01T00:00:00+00:00 and times.2 2100-01-01T00:00:00+00:00"
    assert faults(times=times, values=[1.0] * 3) == f"{text} are not {SPAN}"
    assert faults(columns=[-1, 0, 7, 2]).startswith("columns.0 is -1, columns.2 is 7 and columns.3 is 2, but")


@pytest.mark.parametrize(
    ("count", "end"), [(10, " and values.9"), (11, ", values.9 and 1 more"), (47, "and 37 more")]
)
def test_of_many_the_first_ten_are_named_and_the_others_counted(count: int, end: str) -> None:
    text = faults(times=[IN_TIME] * count, values=[math.nan] * count)
    assert text.endswith(f"{end} are NaN: send null, or leave the number out")
    assert text.count("values.") == 10
    unzoned = faults(times=[IN_TIME.replace(tzinfo=None)] * count, values=[None] * count)
    assert unzoned.count("times.") == 10
    assert unzoned.endswith("have no time zone: say which, or Z")


def test_faults_of_several_lists_are_in_one_answer() -> None:
    text = faults(times=[EARLY, IN_TIME], values=[math.nan], columns=[5])
    parts = text.split("; ")
    assert [part.split(" ")[0] for part in parts] == ["times.0", "values.0", "columns.0", "values"]


def test_of_records_the_first_is_explained_and_the_others_are_named() -> None:
    check = OfRecords("samples", Within("time", since=FIRST, ahead=timedelta(0)))

    def fault(*times: datetime) -> str | None:
        class Samples(Message):
            samples: list[Record]

        return check.fault_at(Samples(samples=[Record(time=time) for time in times]), IN_TIME)

    before = "time 1999-01-01T00:00:00+00:00 lies before 2000-01-01T00:00:00+00:00, the earliest time that is accepted"
    assert fault(IN_TIME, IN_TIME) is None
    assert fault() is None
    assert fault(IN_TIME, EARLY) == f"samples.1: {before}"
    assert fault(EARLY, IN_TIME, END) == f"samples.0: {before}; samples.2 is refused likewise"
    many = fault(*[EARLY] * 48)
    assert many is not None
    assert many.endswith("samples.10 and 37 more are refused likewise")


def test_a_message_is_checked_once_also_as_an_item_of_others() -> None:
    """The engine validates commands as the items of a list."""
    counted = Counted("values")

    class Single(Message):
        checks = (counted,)
        values: float = 1.0

    class Many(Message):
        items: list[Single]

    for validate in (Single.model_validate, TypeAdapter(Single).validate_python):
        validate({})
    TypeAdapter(list[Single]).validate_python([{}])
    Many.model_validate({"items": [{}]})
    TypeAdapter(list[Many]).validate_python([{"items": [{}]}])
    assert len(counted.seen) == 5


@dataclass(frozen=True)
class Counted(FieldCheck):
    """Finds no fault, and notes that it was asked."""

    seen: list[Any] = field(default_factory=list)

    @property
    def words(self) -> str:
        return ""

    def fault(self, message: Any) -> str | None:
        self.seen.append(message)
        return None
