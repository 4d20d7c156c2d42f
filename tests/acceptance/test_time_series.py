"""Saves, appends and reads at once, by several programs, while what serves is killed: a reader sees a revision whole.

Of a series by time and of one with a numeric axis; superseded points of both are removed meanwhile.

`TIDEMILL_SERIES_KILLS` (default 1; the trials take 20) says how often it is killed; a server once for each ten.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Event
from typing import Any

import asyncpg
import pytest

from tests.acceptance.outsider_series import REMOVALS
from tests.acceptance.test_all_contexts import Encoder
from tests.support.clients.clients import Outgoing
from tests.support.clients.journeys import Deployment
from tests.support.engine.built_in import BUILT_IN
from tests.support.engine.commands import base
from tests.support.seeds import sample
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.contexts.time_series import messages, numeric_points_of_series, points_of_series, time_series
from tidemill.domain.messages import CommandBase
from tidemill_devkit.stack import Stack

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
select coalesce(sum(applied + rejected + duplicate + parked), 0)::bigint as records
from tm.batch join tm.lane using (lane) where aggregate = 'time-series' and to_offset > from_offset
"""
COUNTED = """
select (select points from public.time_series_metadata_view where id = $1) as points,
       (select count(*) from public.{}_view where time_series_id = $1) as rows
"""
OUTCOMES = "select type, code from tm.log join tm.lane using (lane) where aggregate = 'time-series'"
SERVER_ENDED = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,
)
"""The last one is what asyncpg says if a connection breaks between two of its steps."""
REMOVED = "select coalesce(sum(rows), 0)::bigint as rows from tm.log where service = 'tidemill.superseded'"
STAYED = "select count(*) as rows from public.{}"


@dataclass(frozen=True)
class Series:
    """A series of one kind, how it is written, and how it is read."""

    name: str
    axis: str
    save: type[CommandBase]
    append: type[CommandBase]
    fill: type[CommandBase]
    table: str
    query: str
    asked: tuple[Any, ...]

    def about(self, model: type[CommandBase], **fields: Any) -> CommandBase:
        return model.model_validate(base(time_series_id=self.name, **fields))

    def points(self, model: type[CommandBase], value: float, size: int, **fields: Any) -> CommandBase:
        lists: dict[str, Any] = {"column_names": ["open"], "columns": [0] * size, "values": [value] * size}
        if self.axis == "datetime":
            lists["times"] = [BEGAN + timedelta(seconds=second) for second in range(size)]
        else:
            lists["floats"] = [float(second) for second in range(size)]
        return self.about(model, **lists, **fields)


BY_TIME = Series(
    "s",
    "datetime",
    messages.SaveTimeSeriesPoints,
    messages.AppendTimeSeriesPoints,
    messages.FillTimeSeriesSave,
    "time_series_data_points",
    points_of_series.statement,
    ("s", "open", *SPAN),
)
NUMERIC = Series(
    "n",
    "float64",
    messages.SaveNumericPoints,
    messages.AppendNumericPoints,
    messages.FillNumericSave,
    "time_series_numeric_points",
    numeric_points_of_series.statement,
    ("n", "open"),
)
BOTH = (BY_TIME, NUMERIC)


def turns(series: Series, writer: int, phase: int) -> Iterator[Sequence[CommandBase]]:
    """Yield what a writer sends at once: a save of many commands, now and then one of one command, or an append.

    All points of a save have one value, which no other save has.
    """
    for turn in range(ROUNDS):
        value = float(1 + turn + ROUNDS * (writer + WRITERS * phase))
        save = f"{value:.0f}"
        if turn % 4 == 2:
            yield [series.points(series.save, value, FILLS * PER_FILL)]
        elif turn % 4 == 3:
            yield [series.points(series.append, APPENDED, 1)]
        else:
            yield [
                series.about(messages.OpenTimeSeriesSave, save=save),
                *[series.points(series.fill, value, PER_FILL, save=save) for _ in range(FILLS)],
                series.about(messages.CompleteTimeSeriesSave, save=save, points=FILLS * PER_FILL),
            ]


@dataclass
class Readings:
    """What the readers saw. `torn`: reads that were no whole revision. `revisions`: with their series."""

    reads: int = 0
    revisions: set[tuple[str, int]] = field(default_factory=set)
    torn: list[Any] = field(default_factory=list)

    def note(self, series: Series, rows: Sequence[Any], counted: Any) -> None:
        """Compare what one reader got."""
        saved = Counter(row["value"] for row in rows if row["value"] != APPENDED)
        revisions = {row["revision"] for row in rows}
        whole = [*saved.values()] == [FILLS * PER_FILL] and len(revisions) == 1
        if not whole or counted["points"] != counted["rows"]:
            self.torn.append((series.name, saved, revisions, tuple(counted)))
        self.reads += 1
        self.revisions |= {(series.name, revision) for revision in revisions}

    def changes_of(self, series: Series) -> int:
        """Return how many revisions of a series were seen."""
        return sum(name == series.name for name, _ in self.revisions)


async def read_on(database: str, stopped: Event, readings: Readings) -> None:
    """Read as a reader may until it is over; one whose server ended comes back."""
    while not stopped.is_set():
        with suppress(*SERVER_ENDED):
            await _read_on(database, stopped, readings)


async def _read_on(database: str, stopped: Event, readings: Readings) -> None:
    """Read by the declared query and by counting."""
    connection = await asyncpg.connect(f"{database}?role=tidemill_reader", timeout=HANGING_S)
    try:
        while not stopped.is_set():
            for series in BOTH:
                rows = await connection.fetch(series.query, *series.asked)
                counted = await connection.fetchrow(COUNTED.format(series.table), series.name)
                readings.note(series, rows, counted)
    finally:
        connection.terminate()


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
        records = [Outgoing(CONTEXT.key(command).encode(), self.encode(command)) for command in commands]
        self.deployment.client.send(topic, records)

    def send_all(self, phase: int) -> None:
        """Let each of them have its turns, all at once."""
        with ThreadPoolExecutor(WRITERS) as pool:
            for count in pool.map(lambda writer: self._write(writer, phase), range(WRITERS)):
                self.sent += count

    def _write(self, writer: int, phase: int) -> int:
        sent = 0
        for of_both in zip(*(turns(series, writer, phase) for series in BOTH), strict=True):
            self.send(*(begin for begin, *_ in of_both))
            # so that all have opened their saves before one of them is completed
            self.together.wait(HANGING_S)
            self.send(*(command for _, *rest in of_both for command in rest))
            sent += sum(map(len, of_both))
        return sent

    def consumed(self) -> int:
        return int(self.deployment.installation.fetch(CONSUMED)[0]["records"])

    def await_consumed(self, records: int) -> None:
        eventually_blocking(lambda: self.consumed() >= records, what=f"{records} records to be consumed")


def with_series(deployment: Deployment) -> Deployment:
    chosen_settings = {"TIDEMILL_CONTEXTS": CONTEXTS, "TIDEMILL_COMMANDS_SUPERSEDED_EVERY_S": "0.1"}
    environment = {**deployment.installation.environment, **chosen_settings}
    chosen = replace(deployment, installation=replace(deployment.installation, environment=environment))
    chosen("migrate")
    chosen("topics", "create")
    return chosen


@pytest.mark.timeout(3600)
def test_every_read_is_one_whole_revision_whatever_is_killed(deployment: Deployment, seed: int) -> None:
    deployment = with_series(deployment)
    workers = [deployment.start("all")]

    def kill() -> None:
        workers.pop().kill()
        workers.append(deployment.start("all"))

    assert_every_read_is_whole(deployment, seed, [kill] * KILLS)


@pytest.mark.breaks_servers
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sample(("postgres", "kafka"), 1))
def test_every_read_is_one_whole_revision_also_when_a_server_is_killed(
    breakable_deployment: Deployment, breakable_stack: Stack, seed: int, name: str
) -> None:
    deployment, server = with_series(breakable_deployment), breakable_stack.servers[name]
    deployment.start("all")

    def restart() -> None:
        server.kill()
        server.start()

    assert_every_read_is_whole(deployment, seed, [restart] * max(1, KILLS // 10))


def assert_superseded_points_leave(deployment: Deployment, series: Series) -> None:
    counted = COUNTED.format(series.table).replace("$1", f"'{series.name}'")
    (points,) = deployment.installation.fetch(counted)
    eventually_blocking(
        lambda: deployment.installation.fetch(STAYED.format(series.table))[0]["rows"] == points["points"],
        what=f"all superseded points of {series.table} to leave",
    )
    removals = f"{REMOVED} and type = '{REMOVALS[series.table]}'"
    assert deployment.installation.fetch(removals)[0]["rows"] > 0


def assert_every_read_is_whole(
    deployment: Deployment, seed: int, kills: Sequence[Callable[[], None]]
) -> None:
    """Save, append and read; each of `kills` comes in the middle of what was sent."""
    source, writers = random.Random(seed), Writers(deployment)
    create = {"time_column": "date", "value_columns": '["open"]'}
    for series in BOTH:
        writers.send(
            series.about(time_series.messages.create, **create, axis=series.axis),
            series.points(series.save, 0.0, FILLS * PER_FILL),
        )
    writers.sent = 4
    writers.await_consumed(4)
    with readers(deployment.installation.environment["TIDEMILL_DATABASE_URL"]) as readings:
        for phase, kill in enumerate(kills):
            before = writers.sent
            writers.send_all(phase)
            writers.await_consumed(before + source.randrange(writers.sent - before))
            kill()
        writers.send_all(len(kills))
        writers.await_consumed(writers.sent)
    assert readings.torn == []
    assert min(map(readings.changes_of, BOTH)) > 1, "the readers saw both series change"
    results = Counter(tuple(row) for row in deployment.installation.fetch(OUTCOMES))
    codes = {code for _, code in results}
    assert {"SAVE_OPEN", "NO_SAVE"} <= codes, "savers met"
    assert results["tidemill.time_series.CompleteTimeSeriesSave", None] > 0
    assert "SAVE_INCOMPLETE" not in codes, "the points of two saves did not mix"
    for series in BOTH:
        assert_superseded_points_leave(deployment, series)
    deployment("audit", "--wait", "300")
    deployment.assert_balanced_by_an_outsider()
    deployment("projections", "verify", "time-series-metadata")
