"""kill -9 of the service and of the archiver at every step of a slice: it goes on, with one copy, and nothing is lost.

By default a few of the points. `TIDEMILL_ARCHIVE_KILLS` lists others with commas between, or is `full` for all of
them. `-s` shows how long each took to mend.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.acceptance.conftest import make_deployment
from tests.support.archiving import THAW
from tests.support.dying import FREEZE, LABEL_FILE
from tests.support.journeys import Deployment, Worker, assert_dense
from tests.support.siege import account
from tests.support.waiting import eventually_blocking
from tidemill.devstack import Stack
from tidemill.domain.archival import archival_topics

ROOT = Path(__file__).parents[2]
ROWS = 40
CONVERGES_S = 90.0

STEPS = ("seal", "measure", "request", "heartbeat", "confirm", "verify", "drop")
POINTS = (
    ("retention", "choose:stored"),
    *(("retention", f"{step}:{when}") for step in STEPS for when in ("stored", "committed")),
    ("retention", "event:to be published"),
    ("retention", "event:published"),
    ("retention", "copy:to be read"),
    ("retention", "copy:read"),
    ("retention", "drop:locked"),
    ("archiver", "beginning:to be sent"),
    ("archiver", "beginning:sent"),
    ("archiver", "rows:half read"),
    ("archiver", "file:written"),
    ("archiver", "file:in place"),
    ("archiver", "manifest:written"),
    ("archiver", "manifest:in place"),
    ("archiver", "copy:published"),
    ("archiver", "answer:to be sent"),
    ("archiver", "answer:sent"),
    ("archiver", "request:done"),
)
SAMPLE = (
    ("retention", "seal:stored"),
    ("retention", "drop:stored"),
    ("archiver", "file:in place"),
    ("archiver", "answer:sent"),
)
WANTED = os.environ.get("TIDEMILL_ARCHIVE_KILLS", "")
FULL = WANTED == "full"
CHOSEN = POINTS if FULL else tuple(each for each in POINTS if each[1] in WANTED.split(",")) or SAMPLE

_FILL = """
insert into public.market_data (time, symbol, price, source, command_id)
select make_timestamptz({year}, 1, 5, 0, 0, 0, 'UTC') + i * interval '1 day', 'S' || i % 3, i / 7.0, 'kills',
       gen_random_uuid()
from generate_series(1, {rows}) i
"""
_STATES = "select state from tm.archive where extract(year from range_start + interval '30 days') = $1"
_DROPS = """
select count(*) as drops, count(distinct (table_name, range_start, generation)) as slices
from tm.archive_trail where after = 'dropped' and before = 'verified'
"""


@dataclass
class Doomed:
    """A deployment whose archive processes die where a trap is set."""

    deployment: Deployment
    lake: Path
    trap: Path
    workers: dict[str, Worker] = field(default_factory=dict)
    year: int = 1980
    every_s: str = "0.3"

    def start(self, process: str) -> None:
        environment = {
            "module": "tests.support.dying",
            "PYTHONPATH": str(ROOT),
            LABEL_FILE: str(self.trap),
            "TIDEMILL_RETENTION_EVERY_S": self.every_s,
            "TIDEMILL_RETENTION_AS_OF": "2026-01-01T00:00:00Z",  # which takes no chunk for one that is written to
        }
        self.workers[process] = self.deployment.launch(process, **environment)

    def fill(self) -> None:
        """Make a chunk that is to leave."""
        self.year += 1
        self.write()

    def write(self, rows: int = ROWS) -> None:
        self.deployment.installation.execute(_FILL.format(year=self.year, rows=rows))

    def await_death(self, process: str) -> None:
        worker = self.workers[process]
        eventually_blocking(lambda: worker.process.poll() is not None, CONVERGES_S, f"{process} to die")
        assert worker.process.returncode == -9, worker.log.read_text()[-3000:]
        assert not self.trap.exists()

    def await_dropped(self) -> None:
        """Wait until the chunk has left, and every slice of its range with it."""

        def gone() -> bool:
            states = {row["state"] for row in self.deployment.installation.fetch(_STATES, self.year)}
            assert "aborted" not in states
            assert "quarantined" not in states
            return states == {"dropped"}

        eventually_blocking(gone, CONVERGES_S, f"the chunk of {self.year} to leave")


@pytest.fixture
def doomed(stack: Stack, database: str, topic_prefix: str, tmp_path: Path, ending: ExitStack) -> Doomed:
    lake = tmp_path / "lake"
    lake.mkdir()
    made = make_deployment(stack, database, topic_prefix, 1, tmp_path, ending)
    told = {**made.installation.environment, "TIDEMILL_LAKE_ROOT": str(lake)}
    made = replace(made, installation=replace(made.installation, environment=told))
    return Doomed(made, lake, tmp_path / "dies-at")


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def assert_all_well(doomed: Doomed, rows: int, drops: int) -> None:
    """One copy of every row, and no row in the database; every event once, in order, none left out."""
    installation = doomed.deployment.installation
    written = asyncio.run(account(installation.database, doomed.lake))
    assert (sum(written.hot.values()), sum(written.late.values())) == (0, 0)
    assert len(written.cold) == rows
    assert set(written.cold.values()) == {1}, "a row is in the lake twice"
    (done,) = installation.fetch(_DROPS)
    assert (done["drops"], done["slices"]) == (drops, drops)
    assert not list(doomed.lake.rglob(".*.tmp*")), "half a file is left behind"
    events = doomed.deployment.client.read(archival_topics(prefix=installation.prefix).events)
    assert_dense(events)
    assert set(Counter(seen.text("ce_id") for seen in events).values()) == {1}


def assert_files_as_verified(doomed: Doomed) -> None:
    """Nobody wrote over a file after it was read back."""
    for row in doomed.deployment.installation.fetch(
        "select verified->'copy'->'files' as files from tm.archive"
    ):
        for path, _, _, sha256 in json.loads(row["files"]):
            assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_answer_is_acted_upon_at_once(doomed: Doomed) -> None:
    """Who is told of it before it is committed looks, sees nothing, and sleeps until the next look is due."""
    doomed.every_s = "600"
    for _ in range(4):
        doomed.fill()
    doomed.start("archiver")
    doomed.start("retention")
    doomed.await_dropped()
    assert_all_well(doomed, 4 * ROWS, 4)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_archive_goes_on_after_kill_9_at_any_point(doomed: Doomed) -> None:
    doomed.start("archiver")
    doomed.start("retention")
    for process, label in CHOSEN:
        doomed.trap.write_text(label)
        doomed.fill()
        doomed.await_death(process)
        began = time.monotonic()
        doomed.start(process)
        doomed.await_dropped()
        sys.stdout.write(f"{process} at {label}: mended within {time.monotonic() - began:.1f} s\n")
        sys.stdout.flush()
    assert_all_well(doomed, ROWS * len(CHOSEN), len(CHOSEN))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("process", "label"),
    [
        ("retention", "drop:locked"),
        *((("retention", "copy:read"), ("archiver", "file:written"), ("archiver", "copy:published")) * FULL),
    ],
)
def test_who_was_frozen_and_replaced_changes_nothing_when_it_wakes(
    doomed: Doomed, process: str, label: str
) -> None:
    """It stops in the middle of its work, another one does that work, then it goes on as if no time had passed."""
    doomed.start("archiver")
    doomed.start("retention")
    frozen = doomed.workers[process]
    doomed.trap.write_text(f"{FREEZE}{label}")
    doomed.fill()
    eventually_blocking(lambda: not doomed.trap.exists(), CONVERGES_S, f"{process} to freeze")
    doomed.start(process)
    doomed.await_dropped()
    frozen.thaw()
    doomed.fill()
    doomed.await_dropped()
    assert_all_well(doomed, 2 * ROWS, 2)
    assert_files_as_verified(doomed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["stored", "committed"] if FULL else ["stored"])
def test_a_stranger_writes_while_the_service_is_dead(doomed: Doomed, when: str) -> None:
    """It dies behind the verification, comes back, sees that the chunk changed, dies over that: never a drop of it."""
    doomed.start("archiver")
    doomed.start("retention")
    doomed.trap.write_text("verify:committed")
    doomed.fill()
    doomed.await_death("retention")
    doomed.deployment.installation.execute(THAW)
    doomed.write(1)
    doomed.trap.write_text(f"reseal:{when}")
    doomed.start("retention")
    doomed.await_death("retention")
    doomed.start("retention")
    doomed.await_dropped()
    assert_all_well(doomed, ROWS + 1, 1)
