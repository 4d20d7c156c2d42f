"""A context's own code that raises: its author is told the line, and a flood is one traceback."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.engine.intakes import STREAM, TOPIC, World
from tidemill.commands.crashes import crashed
from tidemill.domain.partitioner import partition_of
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.tracebacks import frames_of, place_of
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord


def rule(text: str) -> None:
    json.loads(text)


def raised(text: str) -> Exception:
    with pytest.raises(ValueError, match="Expecting value") as caught:
        rule(text)
    return caught.value


def test_the_innermost_line_of_the_context_is_named_and_not_the_librarys() -> None:
    line = rule.__code__.co_firstlineno + 1
    assert place_of(raised("no JSON")) == f"{__name__}:{line} in rule"
    assert "in rule" in frames_of(raised("no JSON"))
    assert place_of(ValueError("never raised")) is None


def test_a_record_is_parked_with_the_line() -> None:
    fault = crashed(raised("no JSON"))
    assert fault.code == "CRASHED"
    assert fault.detail.startswith("the context's code raised JSONDecodeError: Expecting value")
    assert fault.detail.endswith(f"({place_of(raised('no JSON'))})")


def test_a_flood_is_one_traceback_and_quotes_nothing_that_may_be_secret() -> None:
    class Leak(ValueError):
        pass

    def leaking() -> Exception:
        try:
            raise Leak("hunter2")
        except Leak as leak:
            return leak

    with capture_logs() as lines:
        for _ in range(50):
            assert "hunter2" not in crashed(leaking(), quoted=False).detail
    (line,) = lines
    assert line["event"] == Log.CONTEXT_CRASHED
    assert "in leaking" in line["traceback"]
    assert line["place"].startswith(f"{__name__}:")
    assert "hunter2" not in str(line["error"])


async def test_the_line_about_parked_records_names_the_first_with_lane_code_and_detail() -> None:
    def key(command: Any) -> str:
        raise ZeroDivisionError(command.profile_id)

    world = World(replace(STREAM, key=key))
    world.send("p1")
    partition = partition_of(b"p1", STREAM.partitions)
    world.broker.write(TOPIC, partition, OutboundRecord(b"k" * 5000, b"large", ()))
    with capture_logs() as lines:
        async with world.running():
            await world.until_logged(2)
    parked = [line for line in lines if line["event"] == Log.RECORD_PARKED]
    assert sum(line["records"] for line in parked) == 2
    assert {code for line in parked for code in line["codes"]} == {"CRASHED", "TOO_BIG"}
    first, lane = parked[0], f"{STREAM.aggregate}/{partition}"
    assert (first["lane"], first["offset"]) == (lane, 0)
    assert first["detail"].startswith("the context's code raised ZeroDivisionError: ")
    assert f"{__name__}:" in first["detail"], "with the line of the context's code"
    assert first["next"] == f"tidemill dead-letters show {lane} 1"
