"""kill -9 of the service, the archiver and an operator's calls at every step of a slice: it goes on, nothing is lost.

By default a few of the points. `TIDEMILL_ARCHIVE_KILLS` lists others with commas between, or is `full` for all of
them. `-s` shows how long each took to repair.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.acceptance.conftest import make_deployment
from tests.support.archive.operator import flip
from tests.support.archive.site import THAW
from tests.support.clients.journeys import assert_dense
from tests.support.faults.doomed import ROWS, STEPS, Doomed
from tests.support.faults.siege import account
from tidemill.domain.archive.messages import archival_topics
from tidemill.retention.transition_table import TRANSITIONS, Action
from tidemill_devkit.stack import Stack

ON_THE_WAY = (
    Action.CHOOSE,
    Action.SEAL,
    Action.MEASURE,
    Action.REQUEST,
    Action.HEARTBEAT,
    Action.CONFIRM,
    Action.VERIFY,
    Action.DROP,
)
"""What is done to every slice that leaves; what is done to others is in `STORIES`."""

POINTS = (
    *(("retention", f"{action}:{when}") for action in ON_THE_WAY for when in STEPS),
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
    ("archiver", "answer:sent"),
    ("retention", "seal:stored"),
    ("archiver", "file:in place"),
    ("retention", "drop:stored"),
)
"""The first archiver is not missed before the second: its session ends while that of the service does."""

_DROPS = """
select count(*) as drops, count(distinct (table_name, range_start, generation)) as slices
from tm.archive_trail where after = 'dropped' and before = 'verified'
"""


# --- what is done to some slices only: each is killed before its commit and behind it, then the slice leaves ---


@dataclass(frozen=True)
class Story:
    """How a chunk comes to transitions that most never see. `kills`: those that it kills, at every step of each."""

    kills: tuple[Action, ...]
    tell: Callable[[Doomed], None]

    def labels(self, steps: tuple[str, ...] = STEPS) -> list[str]:
        """Return the points where somebody dies, in order."""
        return [f"{action}:{when}" for action in self.kills for when in steps]


def an_operator_thinks_again(doomed: Doomed) -> None:
    """A chunk is held, let go and given up while no archiver is there; its late row goes back where it belongs."""
    doomed.stop("archiver")
    doomed.fill()
    doomed.await_state("requested")
    doomed.write_late()
    doomed.operator_dies_at(Action.HOLD, "hold", *doomed.span, "--reason", "kills")
    assert doomed.states() == {"held"}
    doomed.operator_dies_at(Action.RESUME_HELD, "release", "--hold", *doomed.span, "--reason", "kills")
    assert doomed.states() == {"requested"}
    assert doomed.counted() == (ROWS, 1)
    doomed.operator_dies_at(Action.RELEASE, "release", doomed.time, "--reason", "kills")
    assert doomed.states() == {"aborted"}
    assert doomed.counted() == (ROWS + 1, 0)
    doomed.start("archiver")
    doomed.let_rest()
    doomed.await_dropped()


def nobody_answers(doomed: Doomed) -> None:
    """The service gives a chunk up by itself."""
    doomed.stop("archiver")
    doomed.fill()
    doomed.await_state("requested")
    doomed.write_late()
    doomed.service_dies_at(Action.GIVE_UP, lambda: doomed.let_pass("sealed_at"))
    doomed.await_state("aborted")
    assert doomed.counted() == (ROWS + 1, 0)
    doomed.start("archiver")
    doomed.let_rest()
    doomed.await_dropped()


def the_disk_is_full(doomed: Doomed) -> None:
    """The archiver fails, and is asked again."""
    away = doomed.lake.rename(doomed.lake.with_name("away"))
    doomed.lake.touch()
    doomed.service_dies_at(Action.FAIL, doomed.fill)
    doomed.await_failure()
    doomed.lake.unlink()
    away.rename(doomed.lake)
    doomed.service_dies_at(Action.REQUEST_AGAIN, lambda: doomed.let_pass("deadline"))
    doomed.await_dropped()


def no_copy_can_hold_a_value(doomed: Doomed) -> None:
    """Somebody mends it a day later."""
    execute = doomed.deployment.installation.execute
    execute(
        "alter table public.market_data add column seen timestamptz default 'infinity'",
        "call tm.prepare_late('public.market_data')",
    )
    doomed.service_dies_at(Action.REFUSE, doomed.fill)
    doomed.await_state("aborted")
    execute("update public.market_data set seen = null")
    doomed.let_rest()
    doomed.await_dropped()


def a_copy_rots(doomed: Doomed) -> None:
    """It is set aside when it is read back, until an operator has it made anew."""
    doomed.set_trap("confirm:committed")
    doomed.fill()
    doomed.await_death("retention")
    flip(doomed.files()[-1])
    doomed.service_dies_at(Action.QUARANTINE, doomed.start_service)
    doomed.await_state("quarantined")
    doomed.operator_dies_at(Action.RETRY, "retry", doomed.time, "--reason", "kills")
    doomed.await_dropped()


def rows_come_back_and_leave(doomed: Doomed) -> None:
    """The service drops what was restored when its time is over, for the copy that is there."""
    doomed.fill()
    doomed.await_dropped()
    hot, _ = doomed.counted()
    doomed.operator_dies_at(Action.RESTORE, "restore", *doomed.span, "--days", "1", "--yes")
    assert doomed.counted() == (hot + ROWS, 0)
    doomed.service_dies_at(Action.EVICT, lambda: doomed.let_pass("restore_until"))
    doomed.await_dropped()


def rows_come_back_and_change(doomed: Doomed) -> None:
    """Somebody writes to what was restored: it is set aside, and leaves by a copy of its own."""
    doomed.fill()
    doomed.await_dropped()
    doomed.order("restore", *doomed.span, "--days", "1", "--yes")
    doomed.deployment.installation.execute(THAW)
    doomed.write(1)
    doomed.service_dies_at(Action.QUARANTINE_CHANGED, lambda: doomed.let_pass("restore_until"))
    doomed.await_state("quarantined")
    doomed.order("retry", doomed.time, "--reason", "kills")
    doomed.dropped += 1
    doomed.await_dropped()


def an_external_writer_follows_the_verification(doomed: Doomed) -> None:
    """The service is dead meanwhile; then it sees that the chunk changed: never a drop of it."""
    doomed.set_trap("verify:committed")
    doomed.fill()
    doomed.await_death("retention")
    doomed.deployment.installation.execute(THAW)
    doomed.write(1)
    doomed.service_dies_at(Action.RESEAL, doomed.start_service)
    doomed.await_dropped()


def an_archiver_freezes_over_its_folder(doomed: Doomed) -> None:
    """Nobody puts files there before it is awake, or dead: its successor says so, and is asked again."""
    frozen = doomed.freeze_at("file:written", "archiver")
    doomed.await_failure()
    frozen.thaw()
    doomed.let_pass("deadline")
    doomed.await_dropped()
    frozen.stop()


STORIES = (
    Story((Action.HOLD, Action.RESUME_HELD, Action.RELEASE), an_operator_thinks_again),
    Story((Action.RESTORE, Action.EVICT), rows_come_back_and_leave),
    Story((Action.RESEAL,), an_external_writer_follows_the_verification),
    Story((Action.GIVE_UP,), nobody_answers),
    Story((Action.FAIL, Action.REQUEST_AGAIN), the_disk_is_full),
    Story((Action.QUARANTINE, Action.RETRY), a_copy_rots),
    Story((Action.QUARANTINE_CHANGED,), rows_come_back_and_change),
    Story((), an_archiver_freezes_over_its_folder),
    Story(
        (Action.REFUSE,), no_copy_can_hold_a_value
    ),  # last: the column that it adds stays, infinity and all
)

# What is chosen of them.

WANTED = os.environ.get("TIDEMILL_ARCHIVE_KILLS", "")
FULL = WANTED == "full"
NAMED = set(WANTED.split(","))
CHOSEN = POINTS if FULL else tuple(each for each in POINTS if each[1] in NAMED)
TOLD = STORIES if FULL else tuple(each for each in STORIES if NAMED & {*each.labels(), each.tell.__name__})
STORY_STEPS: tuple[str, ...] = STEPS
if not CHOSEN and not TOLD:
    CHOSEN, TOLD, STORY_STEPS = SAMPLE, STORIES[:1], STEPS[:1]


@pytest.fixture
def doomed(stack: Stack, database: str, topic_prefix: str, tmp_path: Path, exit_stack: ExitStack) -> Doomed:
    lake = tmp_path / "lake"
    lake.mkdir()
    made = make_deployment(stack, database, topic_prefix, 1, tmp_path, exit_stack)
    told = {**made.installation.environment, "TIDEMILL_LAKE_ROOT": str(lake)}
    made = replace(made, installation=replace(made.installation, environment=told))
    return Doomed(made, lake, tmp_path / "dies-at", steps=STORY_STEPS)


@pytest.fixture
def exit_stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def assert_all_well(doomed: Doomed) -> None:
    """One copy of every row, and no row in the database; every event once, in order, none left out."""
    installation = doomed.deployment.installation
    written = asyncio.run(account(installation.database, doomed.lake))
    assert (sum(written.hot.values()), sum(written.late.values())) == (0, 0)
    assert len(written.cold) == doomed.rows
    assert set(written.cold.values()) == {1}, "a row is in the lake twice"
    (done,) = installation.fetch(_DROPS)
    assert (done["drops"], done["slices"]) == (doomed.dropped, doomed.slices)
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


def test_every_action_of_the_table_has_its_points() -> None:
    """A transition that nobody kills is one of which nobody knows what becomes of it."""
    killed = {label for _, label in POINTS} | {label for story in STORIES for label in story.labels()}
    every = {f"{action}:{when}" for _, action, _, _ in TRANSITIONS for when in STEPS}
    assert not every - killed
    assert set(Action) == {action for _, action, _, _ in TRANSITIONS}


@pytest.mark.slow
def test_every_answer_is_acted_upon_at_once(doomed: Doomed) -> None:
    """Who is told of it before it is committed looks, sees nothing, and sleeps until the next look is due."""
    doomed.every_s = "600"
    for _ in range(4):
        doomed.fill()
    doomed.start("archiver")
    doomed.start("retention")
    doomed.await_dropped()
    assert_all_well(doomed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_archive_goes_on_after_kill_9_at_any_point(doomed: Doomed) -> None:
    doomed.start("archiver")
    doomed.start("retention")
    for process, label in CHOSEN:
        doomed.set_trap(label)
        doomed.fill()
        doomed.await_death(process)
        began = time.monotonic()
        doomed.start(process)
        doomed.await_dropped()
        tell(f"{process} at {label}: mended within {time.monotonic() - began:.1f} s")
    for story in TOLD:
        before, began = len(doomed.killed), time.monotonic()
        story.tell(doomed)
        assert doomed.killed[before:] == story.labels(doomed.steps)
        name = story.tell.__name__.replace("_", " ")
        tell(
            f"{name}, killed at {', '.join(doomed.killed[before:]) or 'no point'}: {time.monotonic() - began:.1f} s"
        )
    assert_all_well(doomed)
    assert_files_as_verified(doomed)


def tell(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "label"),
    [
        ("retention", "drop:locked"),
        *((("retention", "copy:read"), ("archiver", "copy:published")) * FULL),
    ],
)
def test_who_was_frozen_and_replaced_changes_nothing_when_it_wakes(
    doomed: Doomed, process: str, label: str
) -> None:
    """It stops in the middle of its work, another one does that work, then it goes on as if no time had passed."""
    doomed.start("archiver")
    doomed.start("retention")
    frozen = doomed.freeze_at(label, process)
    doomed.await_dropped()
    frozen.thaw()
    doomed.fill()
    doomed.await_dropped()
    assert_all_well(doomed)
    assert_files_as_verified(doomed)
