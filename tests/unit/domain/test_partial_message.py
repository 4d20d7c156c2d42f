"""A command with invalid fields is told all that is wrong with it: its other fields are checked, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from tidemill.domain import checks
from tidemill.domain.context import CommandSpec
from tidemill.domain.messages import CommandBase, Label, Message
from tidemill.domain.partial_message import InvalidMessage, PartialMessage, Path

AT = datetime(2026, 1, 1, tzinfo=UTC)
EARLY, LATER = datetime(1999, 1, 1, tzinfo=UTC), AT + timedelta(hours=1)
WITHIN = checks.Within("time", since=datetime(2000, 1, 1, tzinfo=UTC), ahead=timedelta(0))
BEFORE = "lies before 2000-01-01T00:00:00+00:00, the earliest time that is accepted"


class Sample(Message):
    checks = (WITHIN,)

    time: datetime
    value: float


class Place(BaseModel):
    name: Label


class Record(CommandBase):
    checks = (checks.Zoned("time"), checks.NotBelow("high", "low"), WITHIN)

    time: datetime
    high: float | None = None
    low: float | None = None
    source: Label
    samples: list[Sample] = Field(default=[], max_length=5)
    place: Place = Place(name="here")


VALUES: dict[str, Any] = {
    "command_id": "1",
    "service_name": "tests",
    "timestamp": AT,
    "time": AT,
    "source": "a",
}


def invalid(**fields: Any) -> InvalidMessage:
    values = VALUES | fields
    with pytest.raises(ValidationError) as refused:
        Record.model_validate(values)
    found: list[tuple[Path, str]] = [
        (fault["loc"], fault["msg"].removeprefix("Value error, ")) for fault in refused.value.errors()
    ]
    return InvalidMessage(Record, values, found, CommandSpec(Record).timed_checks)


def test_other_fields_are_checked() -> None:
    message = invalid(source="", high=1.0, low=2.0, time=EARLY)
    assert message.faults == ["String should have at least 1 character", "high 1.0 is below low 2.0"]
    assert message.faults_at(AT) == [f"time 1999-01-01T00:00:00+00:00 {BEFORE}"]


def test_one_fault_is_told_once_and_by_itself() -> None:
    message = invalid(high=1.0, low=2.0)
    assert message.faults == ["high 1.0 is below low 2.0"]
    assert message.faults_at(AT) == []
    assert invalid(source="").faults == ["String should have at least 1 character"]


def test_what_only_the_clock_knows_follows_the_clock() -> None:
    message = invalid(source="", time=LATER)
    assert len(message.faults_at(AT)) == 1
    assert message.faults_at(LATER) == []


def test_a_check_of_an_invalid_field_is_left_out() -> None:
    message = invalid(time="yesterday", high="much", low=2.0)
    assert len(message.faults) == 2
    assert message.faults_at(AT) == []
    assert invalid(time=AT.replace(tzinfo=None)).faults_at(AT) == [], "a time without zone compares with none"


def test_valid_records_and_valid_fields_of_invalid_ones_are_checked() -> None:
    records = [
        {"time": AT, "value": "much"},
        {"time": EARLY, "value": 1.0},
        {"time": "yesterday", "value": 1.0},
        {"time": EARLY, "value": "much"},
        "no record",
    ]
    (fault,) = invalid(samples=records).faults_at(AT)
    assert fault == f"samples.1: time 1999-01-01T00:00:00+00:00 {BEFORE}; samples.3 is refused likewise"
    assert invalid(samples=[records[1]] * 6).faults_at(AT) == [], "a list that is too long is not looked at"
    (fault,) = invalid(samples=[records[1]], source="").faults_at(AT)
    assert fault.startswith("samples.0: time")


def test_fields_are_read_as_their_types_have_them() -> None:
    message = PartialMessage(
        Record, {"time": "2026-01-01T00:00:00Z", "place": {"name": "there"}}, [("source",)]
    )
    assert message.time == AT
    assert (message.high, message.place) == (None, Place(name="there"))
    for name in ("source", "nothing"):
        with pytest.raises(AttributeError):
            getattr(message, name)
