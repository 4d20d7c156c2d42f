"""A deployment that chooses the contexts of many rows: what a person sends, is told, and can balance."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support.servers.installation import Installation

TIME = "2026-01-01T00:00:00Z"


@pytest.fixture
def chosen(installation: Installation) -> Installation:
    environment = dict(installation.environment) | {"TIDEMILL_CONTEXTS": "telemetry-events,system_logs"}
    installation = replace(installation, environment=environment)
    installation("schemas", "register")
    installation("topics", "create")
    return installation


def telemetry(number: int, size: int) -> str:
    events = [
        {"time": TIME, "name": f"load {index}", "value": index / 3, "attributes": "{}"}
        for index in range(size)
    ]
    return json.dumps({"source": "node", "events": events, "command_id": f"t{number}"})


def log_line(level: str) -> str:
    line = {"time": TIME, "level": level, "message": "started", "details": "{}"}
    return json.dumps({"service": "store", "lines": [line]})


def told(installation: Installation, aggregate: str, role: str) -> list[Any]:
    records = installation("tail", aggregate, "--role", role, "--from-beginning", "--no-follow", "--json")
    return [record["value"] for record in records.json_lines()]


def test_every_row_of_a_command_is_applied_told_and_balanced(chosen: Installation) -> None:
    commands = "\n".join([telemetry(1, 300), telemetry(2, 1)])
    with chosen.serving("commands"):
        for _ in range(2):
            chosen("publish", "RecordTelemetryEvents", "-", "--wait", stdin=commands)
        chosen("publish", "RecordSystemLogs", "-", "--wait", stdin=log_line("info"))
        refused = chosen("publish", "RecordSystemLogs", "-", "--wait", stdin=log_line("fatal"), expect=None)
        assert "level" in refused.out + refused.err
        outcomes = told(chosen, "telemetry-events", "outcomes")
        events = told(chosen, "telemetry-events", "events")
        audit = chosen("audit", "--json").json()
    assert [(each["outcome"], each["affected_rows"]) for each in outcomes] == [
        ("applied", 300),
        ("applied", 1),
        ("duplicate", 300),
        ("duplicate", 1),
    ]
    assert [len(event["events"]) for event in events] == [300, 1]
    assert audit["balanced"] is True
    assert {table["table"]: (table["applied"], table["rows"]) for table in audit["tables"]} == {
        "public.telemetry_events": (301, 301),
        "public.system_logs": (1, 1),
    }
