"""Rows of times that are far apart need a chunk each, and a lock for each: one sender may not use up what all share.

A context bounds the times of its rows (T14 of docs/security.md). As many chunks as there can be within these bounds,
for several such commands at once, need no more locks than a new PostgreSQL has: 64 for each of 100 connections.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.databases import execute, fetch
from tests.support.servers.installation import Installation, installation_on
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.runtime.clock import SystemClock
from tidemill_devkit.stack import Stack

pytestmark = [pytest.mark.breaks_servers, pytest.mark.slow]

DEFAULT_LOCKS = 64 * 100
WEEK = timedelta(days=7)
FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_CHUNKS = "select count(*) from timescaledb_information.chunks where hypertable_name = 'telemetry_events'"


def restart_with(stack: Stack, change: str) -> None:
    execute(stack.database_url, f"alter system {change}")
    stack.postgres.stop()
    stack.postgres.start()


@pytest.fixture
def installation(
    breakable_stack: Stack, breakable_database: str, unique_name: Callable[[str], str], tmp_path: Path
) -> Iterator[Installation]:
    """Two contexts on a server that has as many locks as a new one."""
    ((connections,),) = fetch(breakable_database, "select current_setting('max_connections')::int")
    restart_with(breakable_stack, f"set max_locks_per_transaction = {DEFAULT_LOCKS // connections}")
    made = installation_on(breakable_stack, breakable_database, unique_name("scattered"), tmp_path, 4)
    own = {"TIDEMILL_CONTEXTS": "telemetry_events,market_data"}
    installation = Installation({**made.environment, **own}, tmp_path)
    for verb in (("migrate",), ("schemas", "register"), ("topics", "create")):
        installation(*verb)
    yield installation
    restart_with(breakable_stack, "reset max_locks_per_transaction")


def every_week(until: datetime) -> list[dict[str, Any]]:
    """An event of each week that the check of the context's times lets in."""
    weeks = (until - FIRST) // WEEK
    return [
        {"time": (FIRST + week * WEEK).isoformat(), "name": "tide", "value": 1.0} for week in range(weeks)
    ]


def outcomes(installation: Installation, command: str, *fields: dict[str, Any]) -> list[str]:
    lines = "\n".join(map(json.dumps, fields))
    said = installation("publish", command, "-", "--wait", "--json", "--timeout", str(HANGING_S), stdin=lines)
    return [json.loads(line)["outcome"] for line in said.out.splitlines()]


def test_a_row_in_every_chunk_that_there_can_be_takes_nothing_from_others(installation: Installation) -> None:
    events = every_week(SystemClock().now())
    with installation.serving() as serving:
        eventually_blocking(serving.well, what="health")
        quote = {"symbol": "AAPL", "time": "2013-02-01T00:00:00Z", "price": 1.0, "source": "test"}
        scattered = [{"source": f"device-{number}", "events": events} for number in range(8)]
        assert outcomes(installation, "RecordTelemetryEvents", *scattered) == ["applied"] * 8
        assert outcomes(installation, "RecordMarketData", quote) == ["applied"]
        assert serving.well()
    ((chunks,),) = installation.fetch(_CHUNKS)
    assert chunks >= len(events) > 1_000


def test_a_time_outside_of_the_bounds_makes_no_chunk(installation: Installation) -> None:
    early = {"time": (FIRST - WEEK).isoformat(), "name": "tide", "value": 1.0}
    with installation.serving() as serving:
        eventually_blocking(serving.well, what="health")
        said = installation(
            "publish",
            "RecordTelemetryEvents",
            "-",
            "--wait",
            "--json",
            stdin=json.dumps({"source": "device", "events": [early]}),
            expect=None,
        )
        assert "INVALID" in said.out + said.err
    assert installation.fetch(_CHUNKS) == [(0,)]
