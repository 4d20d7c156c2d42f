"""The archive of a table whose commands have many rows: one cycle, with late rows of both policies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.commands.test_many_rows import audited
from tests.support.archive.site import Archive, archive
from tests.support.engine.commands import Harness, base, codes, create_lanes, outcomes
from tidemill.api import Context, LateRule, Retention
from tidemill.contexts.system_logs import RecordSystemLogs
from tidemill.contexts.system_logs import context as system_logs
from tidemill.contexts.telemetry_events import RecordTelemetryEvents, TelemetryEvent
from tidemill.contexts.telemetry_events import context as built_in
from tidemill.domain.stream import Stream
from tidemill.storage.commands.command_store import CommandDatabase

LONG_AGO = datetime(2010, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def context_of(late: LateRule) -> Context:
    return replace(built_in, partitions=1, retention=policy(late))


def policy(late: LateRule) -> Retention:
    assert built_in.retention is not None
    return replace(built_in.retention, quiet=timedelta(0), again_after=timedelta(0), late=late)


def command(*times: datetime) -> RecordTelemetryEvents:
    events = [
        TelemetryEvent(
            time=time, name="temperature", value=None if index % 3 else index / 7, attributes='{"a": 1}'
        )
        for index, time in enumerate(times)
    ]
    return RecordTelemetryEvents(**base(source="boiler", events=events))


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Archive]:
    async with archive(database, tmp_path / "lake", policy(LateRule.DIVERT)) as made:
        async with made.pool.acquire() as connection:
            await create_lanes(connection, Stream.of(context_of(LateRule.DIVERT)))
        yield made


async def harness_of(world: Archive, late: LateRule) -> Harness:
    harness = Harness(Stream.of(context_of(late)), CommandDatabase(world.pool))
    await harness.claim()
    return harness


async def balanced(world: Archive) -> tuple[int | None, int, int, int]:
    """Rows that commands applied, and where they are: hot, archived, diverted."""
    result = await audited(world.pool, context_of(LateRule.DIVERT))
    assert result.findings == []
    (table,) = result.tables
    return table.applied, table.hot, table.archived, table.diverted


async def test_one_cycle_keeps_every_row_of_commands_that_have_many(world: Archive) -> None:
    harness = await harness_of(world, LateRule.DIVERT)
    now = world.clock.now()
    old = [LONG_AGO + index * timedelta(minutes=1) for index in range(500)]
    await harness.send(command(*old, now), command(now, now))
    assert await balanced(world) == (503, 503, 0, 0)
    await world.settle()
    done = await harness.send(command(LONG_AGO, now, LONG_AGO + DAY), command(LONG_AGO), command(now))
    assert outcomes(done) == {"applied": 3}, "late rows are no outcome of their own"
    assert [row.rows for _, row in done.outcomes] == [3, None, None]
    assert (await world.hot(), await world.late()) == (505, 3)
    assert await balanced(world) == (508, 505, 0, 3)
    await world.answer()
    await world.settle()
    assert await balanced(world) == (508, 5, 500, 3)
    await world.answer()
    await world.settle()
    assert await balanced(world) == (508, 5, 503, 0)
    assert await world.states() == ["dropped", "dropped"]


async def test_one_late_row_refuses_its_command_and_no_other(world: Archive) -> None:
    await (await harness_of(world, LateRule.DIVERT)).send(command(LONG_AGO))
    await world.settle()
    harness = await harness_of(world, LateRule.REJECT)
    harness.topic.ends[0] = 1
    now = world.clock.now()
    done = await harness.send(command(now, now), command(now, LONG_AGO, now), command(now))
    assert codes(done) == [None, "RANGE_CLOSED", None]
    assert await balanced(world) == (4, 4, 0, 0)


async def test_lines_of_a_log_are_found_by_their_words(world: Archive) -> None:
    context = replace(system_logs, partitions=1)
    async with world.pool.acquire() as connection:
        await create_lanes(connection, Stream.of(context))
    harness = Harness(Stream.of(context), CommandDatabase(world.pool))
    await harness.claim()
    now = world.clock.now()
    lines = [
        {"time": now, "level": "error", "message": "Disk full on\nnode-7", "details": '{"free": 0}'},
        {"time": now, "level": "info", "message": "started"},
    ]
    await harness.send(RecordSystemLogs.model_validate(base(lines=lines) | {"service": "store"}))
    words = "to_tsvector('simple', message) @@ to_tsquery('simple', 'disk & full')"
    found = f"select message from system_logs where {words}"
    assert [row[0] for row in await world.pool.fetch(found)] == ["Disk full on\nnode-7"]
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("set local enable_seqscan = off")
        plan = "\n".join(row[0] for row in await connection.fetch(f"explain {found}"))
    assert "system_logs_message" in plan
