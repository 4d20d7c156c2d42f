"""Saves, appends and reads at once, by several programs, while what serves is killed: a reader sees a revision whole.

`TIDEMILL_SERIES_KILLS` (default 1; the trials take 20) says how often it is killed.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Event
from typing import Any

import asyncpg
import pytest

from tests.acceptance.test_all_contexts import Encoder
from tests.support.clients.clients import Outgoing
from tests.support.clients.journeys import Deployment
from tests.support.engine.built_in import BUILT_IN
from tests.support.engine.commands import base
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.contexts.time_series import messages, points_of_series, time_series
from tidemill.domain.messages import CommandBase

KILLS = int(os.environ.get("TIDEMILL_SERIES_KILLS", "1"))
WRITERS = READERS = 4
ROUNDS = 8
FILLS, PER_FILL = 3, 20
APPENDED = -1.0
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = (BEGAN - timedelta(days=1), BEGAN + timedelta(days=1))
CONTEXT = BUILT_IN["time_series"]
CONTEXTS = "connector_profiles,market_data,time_series"
"""The series, and what an outsider expects of every deployment."""
CONSUMED = """
select coalesce(sum(newest), 0)::bigint as records
from (select max(position) as newest from tm.batch join tm.lane using (lane)
      where aggregate = 'time-series' group by lane) as lanes
"""
COUNTED = """
select (select points from public.time_series_metadata_view where id = 's') as points,
       (select count(*) from public.time_series_data_points_view where time_series_id = 's') as rows
"""
OUTCOMES = "select type, code from tm.log join tm.lane using (lane) where aggregate = 'time-series'"


def about(model: type[CommandBase], **fields: Any) -> CommandBase:
    return model.model_validate(base(time_series_id="s", **fields))


def points(model: type[CommandBase], value: float, size: int, **fields: Any) -> CommandBase:
    times = [BEGAN + timedelta(seconds=second) for second in range(size)]
    lists = {"column_names": ["open"], "columns": [0] * size, "values": [value] * size, "times": times}
    return about(model, **lists, **fields)


def turns(writer: int, phase: int) -> Iterator[Sequence[CommandBase]]:
    """Yield what a writer sends at once: a save of many commands, now and then one of one command, or an append.

    All points of a save have one value, which no other save has.
    """
    for turn in range(ROUNDS):
        value = float(1 + turn + ROUNDS * (writer + WRITERS * phase))
        save = f"{value:.0f}"
        if turn % 4 == 2:
            yield [points(messages.SaveTimeSeriesPoints, value, FILLS * PER_FILL)]
        elif turn % 4 == 3:
            yield [points(messages.AppendTimeSeriesPoints, APPENDED, 1)]
        else:
            yield [
                about(messages.OpenTimeSeriesSave, save=save),
                *[points(messages.FillTimeSeriesSave, value, PER_FILL, save=save) for _ in range(FILLS)],
                about(messages.CompleteTimeSeriesSave, save=save, points=FILLS * PER_FILL),
            ]


@dataclass
class Readings:
    """What the readers saw. `torn`: reads that were no whole revision."""

    reads: int = 0
    revisions: set[int] = field(default_factory=set)
    torn: list[Any] = field(default_factory=list)

    def note(self, rows: Sequence[Any], counted: Any) -> None:
        """Compare what one reader got."""
        saved = Counter(row["value"] for row in rows if row["value"] != APPENDED)
        revisions = {row["revision"] for row in rows}
        whole = [*saved.values()] == [FILLS * PER_FILL] and len(revisions) == 1
        if not whole or counted["points"] != counted["rows"]:
            self.torn.append((saved, revisions, tuple(counted)))
        self.reads += 1
        self.revisions |= revisions


async def read_on(database: str, stopped: Event, readings: Readings) -> None:
    """Read as a reader may, by the declared query and by counting, until it is over."""
    connection = await asyncpg.connect(f"{database}?role=tidemill_reader", timeout=HANGING_S)
    try:
        while not stopped.is_set():
            rows = await connection.fetch(points_of_series.statement, "s", "open", *SPAN)
            readings.note(rows, await connection.fetchrow(COUNTED))
    finally:
        await connection.close()


@contextmanager
def readers(database: str) -> Iterator[Readings]:
    """Let several readers read meanwhile."""
    readings, stopped = Readings(), Event()
    with ThreadPoolExecutor(READERS) as pool:
        running: list[Future[None]] = [
            pool.submit(asyncio.run, read_on(database, stopped, readings)) for _ in range(READERS)
        ]
        try:
            yield readings
        finally:
            stopped.set()
        for reader in running:
            reader.result(HANGING_S)


@dataclass
class Writers:
    """Programs that save and append, each for itself."""

    deployment: Deployment
    encode: Encoder = field(default_factory=lambda: Encoder(CONTEXT))
    together: Barrier = field(default_factory=lambda: Barrier(WRITERS))
    sent: int = 0

    def send(self, *commands: CommandBase) -> None:
        """Send commands in order; they are acknowledged when this returns."""
        topic = f"{self.deployment.installation.prefix}.{CONTEXT.aggregate}.commands.v1"
        self.deployment.client.send(topic, [Outgoing(b"s", self.encode(command)) for command in commands])

    def send_all(self, phase: int) -> None:
        """Let each of them have its turns, all at once."""
        with ThreadPoolExecutor(WRITERS) as pool:
            for count in pool.map(lambda writer: self._write(writer, phase), range(WRITERS)):
                self.sent += count

    def _write(self, writer: int, phase: int) -> int:
        commands = list(turns(writer, phase))
        for begin, *rest in commands:
            self.send(begin)
            self.together.wait(
                HANGING_S
            )  # so that all have opened their saves before one of them is completed
            self.send(*rest)
        return sum(map(len, commands))

    def consumed(self) -> int:
        return int(self.deployment.installation.fetch(CONSUMED)[0]["records"])

    def await_consumed(self, records: int) -> None:
        eventually_blocking(lambda: self.consumed() >= records, what=f"{records} records to be consumed")


def with_series(deployment: Deployment) -> Deployment:
    environment = {**deployment.installation.environment, "TIDEMILL_CONTEXTS": CONTEXTS}
    chosen = replace(deployment, installation=replace(deployment.installation, environment=environment))
    chosen("migrate")
    chosen("topics", "create")
    return chosen


@pytest.mark.timeout(3600)
def test_every_read_is_one_whole_revision_whatever_is_killed(deployment: Deployment, seed: int) -> None:
    deployment = with_series(deployment)
    source, writers = random.Random(seed), Writers(deployment)
    worker = deployment.start("all")
    writers.send(
        about(time_series.messages.create, time_column="date", value_columns='["open"]'),
        points(messages.SaveTimeSeriesPoints, 0.0, FILLS * PER_FILL),
    )
    writers.sent = 2
    writers.await_consumed(2)
    with readers(deployment.installation.environment["TIDEMILL_DATABASE_URL"]) as readings:
        for phase in range(KILLS):
            before = writers.sent
            writers.send_all(phase)
            writers.await_consumed(before + source.randrange(writers.sent - before))
            worker.kill()
            worker = deployment.start("all")
        writers.send_all(KILLS)
        writers.await_consumed(writers.sent)
    assert readings.torn == []
    assert len(readings.revisions) > 1, "the readers saw the series change"
    results = Counter(tuple(row) for row in deployment.installation.fetch(OUTCOMES))
    codes = {code for _, code in results}
    assert {"SAVE_OPEN", "NO_SAVE"} <= codes, "savers met"
    assert results["tidemill.time_series.CompleteTimeSeriesSave", None] > 0
    assert "SAVE_INCOMPLETE" not in codes, "the points of two saves did not mix"
    deployment("audit", "--wait", "300")
    deployment.assert_balanced_by_an_outsider()
    deployment("projections", "verify", "time-series-metadata")
