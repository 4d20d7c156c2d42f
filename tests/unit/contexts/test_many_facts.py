"""Telemetry events and system logs: what is taken, what is refused and in which words, and the rows that it becomes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from tidemill.api import Accepted, Context, Rejected
from tidemill.contexts.system_logs import LogLine, RecordSystemLogs
from tidemill.contexts.system_logs import context as system_logs
from tidemill.contexts.telemetry_events import RecordTelemetryEvents, TelemetryEvent
from tidemill.contexts.telemetry_events import context as telemetry_events
from tidemill_devkit.testing import NOW, ContextInMemory, sample

EVENT: dict[str, Any] = {"time": NOW, "name": "load"}
LINE: dict[str, Any] = {"time": NOW, "level": "info", "message": "started"}


def telemetry(*events: dict[str, Any]) -> RecordTelemetryEvents:
    return sample(RecordTelemetryEvents, source="node-7", events=events)


def logs(*lines: dict[str, Any]) -> RecordSystemLogs:
    return sample(RecordSystemLogs, service="store", lines=lines)


def test_an_event_becomes_a_row_with_the_source_of_its_command() -> None:
    memory = ContextInMemory(telemetry_events)
    command = telemetry(EVENT | {"value": 1.5, "attributes": '{"core": 1}'}, EVENT)
    decision = memory.send(command)
    assert isinstance(decision, Accepted)
    row = {"time": NOW, "name": "load", "source": "node-7", "command_id": command.command_id}
    assert memory.appended("telemetry_events") == [
        row | {"value": 1.5, "attributes": '{"core": 1}'},
        row | {"value": None, "attributes": "{}"},
    ]
    (event,) = memory.events
    assert event.model_dump() == command.model_dump(), "the event says what the command says"


def test_a_line_becomes_a_row_with_the_service_of_its_command() -> None:
    memory = ContextInMemory(system_logs)
    command = logs(LINE | {"message": "a\nb", "level": "error", "details": '{"x": 1}'})
    memory.send(command)
    assert memory.appended("system_logs") == [
        {"time": NOW, "service": "store", "level": "error", "message": "a\nb", "details": '{"x": 1}'}
        | {"command_id": command.command_id}
    ]


@pytest.mark.parametrize(
    ("make", "record", "wrong", "field"),
    [
        (telemetry, EVENT, {"value": float("nan")}, "events.1.value"),
        (telemetry, EVENT, {"value": float("inf")}, "events.1.value"),
        (telemetry, EVENT, {"name": ""}, "events.1.name"),
        (telemetry, EVENT, {"name": "x" * 201}, "events.1.name"),
        (telemetry, EVENT, {"attributes": "[]"}, "events.1.attributes"),
        (telemetry, EVENT, {"attributes": '{"a": 1e400}'}, "events.1.attributes"),
        (logs, LINE, {"level": "fatal"}, "lines.1.level"),
        (logs, LINE, {"message": ""}, "lines.1.message"),
        (logs, LINE, {"message": "a\x00"}, "lines.1.message"),
        (logs, LINE, {"message": "x" * 16_385}, "lines.1.message"),
        (logs, LINE, {"details": '{"a": "\\u0000"}'}, "lines.1.details"),
    ],
)
def test_what_could_not_be_stored_is_refused_and_named(
    make: Any, record: dict[str, Any], wrong: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        make(record, record | wrong)
    assert [".".join(map(str, fault["loc"])) for fault in refused.value.errors()] == [field]


@pytest.mark.parametrize(("make", "record"), [(telemetry, EVENT), (logs, LINE)])
def test_a_command_has_at_least_one_and_at_most_ten_thousand(make: Any, record: dict[str, Any]) -> None:
    for count in (0, 10_001):
        with pytest.raises(ValidationError):
            make(*[record] * count)
    assert make(*[record] * 10_000)


@pytest.mark.parametrize(
    ("context", "command", "place"),
    [
        (telemetry_events, lambda time: telemetry(EVENT, EVENT | {"time": time}), "events.1"),
        (system_logs, lambda time: logs(LINE, LINE | {"time": time}), "lines.1"),
    ],
    ids=["telemetry events", "system logs"],
)
def test_a_time_that_cannot_be_is_refused_for_the_whole_command(
    context: Context, command: Any, place: str
) -> None:
    memory = ContextInMemory(context)
    ahead = memory.send(command(NOW + timedelta(minutes=6)))
    assert isinstance(ahead, Rejected)
    assert (ahead.code, ahead.message.split(":")[0]) == ("INVALID", place)
    assert isinstance(memory.send(command(NOW - timedelta(days=365 * 27))), Rejected)
    assert isinstance(memory.send(command(NOW + timedelta(minutes=4))), Accepted)


@pytest.mark.parametrize("context", [telemetry_events, system_logs], ids=lambda context: context.name)
def test_facts_have_sixteen_lanes_and_leave_after_a_time(context: Context) -> None:
    assert context.partitions == 16
    assert context.retention is not None
    assert context.max_batch_bytes == 1 << 20


def test_the_classes_of_records_are_those_of_the_events() -> None:
    """So the event is published in the command's own bytes."""
    for record, context in ((TelemetryEvent, telemetry_events), (LogLine, system_logs)):
        (event,) = context.events
        held = next(info.annotation for info in event.model_fields.values() if "list" in str(info.annotation))
        assert held.__args__[0].__name__ == record.__name__  # type: ignore[union-attr]
        assert held.__args__[0] is not record  # type: ignore[union-attr]
