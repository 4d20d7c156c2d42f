"""The table "Where do I change ..." of CONTRIBUTING keeps its word.

Each of its changes is made in a copy of the repository, at the place that the table names and nowhere else; then the
test that it names is red, and says why. All of these tests run without servers, and are green in an untouched copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture import tree
from tests.support.seeds import sample
from tests.support.waiting import HANGING_S

PRODUCT = Path("src/tidemill")
RED = 1
"""What pytest returns for tests that fail; a test that is not there, or cannot be collected, is something else."""

NOWHERE = "127.0.0.1:1"


@dataclass(frozen=True)
class Change:
    """A change as somebody begins it. `row`: the first cell of its row of the table. `place`: below the product.

    `before`: the text that is replaced by `after`; empty for a file that is new. `test`: in the file that the row
    names. `says`: what the failure has to name, so that it is red because of this change.
    """

    row: str
    place: str
    before: str
    after: str
    test: str
    says: str


CHANGES = [
    Change(
        "a code of a rejected or parked record",
        "domain/rejections.py",
        '    TOO_LARGE = "TOO_LARGE",',
        '    EBB_TIDE = "EBB_TIDE", "wait for the flood"\n    TOO_LARGE = "TOO_LARGE",',
        "test_the_page_of_codes_lists_every_code_as_the_code_has_it",
        says="EBB_TIDE",
    ),
    Change(
        "a field of a command or event",
        "contexts/market_data/messages.py",
        "    volume: Volume | None = None\n",
        "    volume: Volume | None = None\n    harbour: Label | None = None\n",
        "test_a_class_says_what_its_schema_says",
        says="harbour",
    ),
    Change(
        "a context",
        "contexts/harbours/__init__.py",
        "",
        "from tidemill.api import Context\n\ncontext = Context(aggregate='harbours', key=str, commands=())\n",
        "test_built_in_contexts_are_found_by_folder",
        says="harbours",
    ),
    Change(
        "a default of a setting",
        "settings/groups.py",
        "    batch_size: int = Field(2_000,",
        "    batch_size: int = Field(12_321,",
        "test_the_page_of_settings_is_the_one_that_is_made",
        says="12321",
    ),
    Change(
        "a metric or a log event",
        "runtime/telemetry/metrics.py",
        "def _gauge(",
        'EBBS = _counter("ebbs", "How often the tide went out.")\n\n\ndef _gauge(',
        "test_every_metric_and_log_event_is_used",
        says="EBBS",
    ),
    Change(
        "a verb",
        "cli/program.py",
        'program.command("audit",',
        'program.command("ebb")(status.status)\nprogram.command("audit",',
        "test_every_verb_is_in_the_table_and_no_other",
        says="'ebb'",
    ),
    Change(
        "the SQL of the outbox",
        "storage/outbox/outbox.sql",
        "select o.position, o.item, o.outcome,",
        "select o.position, o.item, o.at as ebbed_at, o.outcome,",
        "test_a_statement_selects_what_its_row_has",
        says="ebbed_at",
    ),
    Change(
        "a format of the lake",
        "lakehouse/orc.py",
        "",
        "class OrcLake:\n"
        "    def find(self, *arguments): ...\n"
        "    def write(self, *arguments): ...\n"
        "    def publish(self, *arguments): ...\n",
        "test_every_format_there_is_is_tried",
        says="OrcLake",
    ),
    Change(
        "an endpoint",
        "http/health.py",
        'Route("/metrics", metrics)',
        'Route("/ebbs-and-floods", metrics)',
        "test_a_healthy_process_says_so_and_drains_at_sigterm",
        says="HTTP Error 404",
    ),
    Change(
        "a command handler",
        "contexts/connector_profiles/rules.py",
        "return _refusal(profile, command) or accepted(ConnectorProfileDeactivated.of(command))",
        "return accepted(ConnectorProfileDeactivated.of(command))",
        "test_what_is_not_there_or_not_active_any_more_is_not_found",
        says="ConnectorProfileDeactivated",
    ),
]


@dataclass(frozen=True)
class Row:
    """A row of the table. `places`: what the column "in" names; `seen_by`: the file of the test."""

    change: str
    places: frozenset[Path]
    seen_by: str


def table() -> dict[str, Row]:
    section = tree.text(Path("CONTRIBUTING.md")).split("\n## Where do I change ...\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    found = {}
    for change, place, _, seen_by in lines[1:]:
        places = frozenset(map(Path, re.findall(r"`([\w/.]+)`", place)))
        (test,) = re.findall(r"`(tests/[\w/]+\.py)`", seen_by)
        found[change] = Row(change, places, test)
    return found


TABLE = table()


def test_every_row_of_the_table_is_tried() -> None:
    assert [change.row for change in CHANGES] == list(TABLE)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.row)
def test_a_change_begins_where_the_table_says(change: Change) -> None:
    place = Path(change.place)
    named = TABLE[change.row].places
    if change.before:
        assert place in named
    else:
        beside = {each.parent for each in named}
        assert place.parent in beside or place.parent.parent in named


class Copy:
    """The repository in a folder of its own, where tests run without any server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in tree.files():
            if path.suffix != ".whl":
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree.ROOT / path, folder / path)
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True, timeout=HANGING_S)

    def run(self, *tests: str) -> subprocess.CompletedProcess[str]:
        """Run tests until the first is red; a server that one of them asks for is not there."""
        others = ("TIDEMILL_", "PYTEST_", "COV_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        own = {
            "PYTHONPATH": str(self.folder / "src"),
            "TIDEMILL_TEST_DATABASE_URL": f"postgresql://nobody@{NOWHERE}/nothing",
            "TIDEMILL_TEST_KAFKA_BOOTSTRAP": NOWHERE,
        }
        plain = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"]
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-vv", *plain, *tests],
            cwd=self.folder,
            env={**kept, **own},
            capture_output=True,
            text=True,
            timeout=HANGING_S,
            check=False,
        )

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        """The copy with this change."""
        path = self.folder / PRODUCT / change.place
        before = path.read_text(encoding="utf-8") if change.before else ""
        assert before.count(change.before) == 1 or not change.before, f"{path} is not what this change is for"
        is_new_folder = not path.parent.exists()
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            before.replace(change.before, change.after) if before else change.after, encoding="utf-8"
        )
        try:
            yield
        finally:
            if before:
                path.write_text(before, encoding="utf-8")
            else:
                shutil.rmtree(path.parent) if is_new_folder else path.unlink()


def named(change: Change) -> str:
    return f"{TABLE[change.row].seen_by}::{change.test}"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy in which none of the tests is red."""
    made = Copy(tmp_path_factory.mktemp("copy"))
    said = made.run(*map(named, CHANGES))
    assert said.returncode == 0, said.stdout + said.stderr
    return made


@pytest.mark.slow
@pytest.mark.parametrize("change", sample(CHANGES, 3), ids=lambda change: change.row)
def test_a_change_is_seen_by_the_test_of_its_row(copy: Copy, change: Change) -> None:
    with copy.changed(change):
        said = copy.run(named(change))
    assert said.returncode == RED, said.stdout + said.stderr
    assert change.says in said.stdout


def test_a_change_that_no_test_sees_would_be_found(copy: Copy) -> None:
    unseen = Change("a context", "contexts/harbours.txt", "", "harbours", CHANGES[2].test, "harbours")
    with copy.changed(unseen):
        assert copy.run(named(unseen)).returncode == 0
