"""A new context: what is written works as it is, without any server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.installation import Installation, Said
from tests.support.waiting import HANGING_S
from tidemill.admin.setup.context_files import ContextNames

NOWHERE = {
    "TIDEMILL_DATABASE_URL": "postgresql://u@127.0.0.1:1/x",
    "TIDEMILL_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "COLUMNS": "200",
}


def new(folder: Path, *arguments: str, expect: int = 0) -> Said:
    return Installation(NOWHERE, folder)(
        "context", "new", *arguments, "--directory", str(folder), expect=expect
    )


def passes(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{':'.join(filter(None, sys.path))}"},
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize("kind", ["--entity", "--facts"])
def test_what_is_written_is_whole_and_its_own_test_passes(tmp_path: Path, kind: str) -> None:
    said = new(tmp_path, "tide-gauges", kind)
    folder = tmp_path / "tide-gauges"
    written = {Path(line.removeprefix("wrote ")) for line in said.out.splitlines()}
    assert written == {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {path.name for path in written} >= {
        "pyproject.toml",
        "__init__.py",
        "fields.py",
        "0001_create_the_tables.py",
        "test_tide_gauges.py",
        "first.jsonl",
    }
    passes(folder)


def test_the_index_of_facts_is_declared_and_drafted(tmp_path: Path) -> None:
    new(tmp_path, "tide-gauges", "--facts")
    package = tmp_path / "tide-gauges/tide_gauges"
    assert 'index=(("source", "time desc"),)' in (package / "__init__.py").read_text()
    (revision,) = (package / "migrations").glob("0*.py")
    wanted = "create index tide_gauges_source_time on public.tide_gauges (source, time desc)"
    assert wanted in " ".join(revision.read_text().split())


def test_its_test_still_passes_when_its_entity_gets_a_life(tmp_path: Path) -> None:
    new(tmp_path, "tide-gauges", "--entity")
    folder = tmp_path / "tide-gauges"
    fields, context = folder / "tide_gauges/fields.py", folder / "tide_gauges/__init__.py"
    fields.write_text(
        fields.read_text() + '    status: str = Field(default="planned", description="How far it is.")\n'
    )
    life = 'life=Life("planned", (step("Install", "Installed", before=("planned",), to="installed"),)), '
    text = context.read_text().replace("import entity, ", "import Life, entity, step, ")
    context.write_text(text.replace('plural="', f'{life}plural="'))
    passes(folder)


def test_its_next_commands_are_said(tmp_path: Path) -> None:
    said = new(tmp_path, "tide-gauges", "--entity").err
    for command in (
        "pip install --editable",
        "tidemill serve all --prepare",
        "tidemill publish CreateTideGauge",
        "tidemill query tide-gauges",
    ):
        assert command in said


def test_this_process_forgets_what_it_has_looked_at(tmp_path: Path) -> None:
    path = list(sys.path)
    new(tmp_path, "tide-gauges", "--entity")
    assert sys.path == path
    assert not [name for name in sys.modules if name.split(".")[0] == "tide_gauges"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Tide", "--entity"], "'Tide': expected lower-case words joined by hyphens"),
        (["class", "--entity"], "'class': expected lower-case words"),
        (["market-data", "--facts"], "there is a context market-data: choose another name"),
        (["json", "--facts"], "this environment has a package json: choose another name"),
        (["tide-gauges"], "say what it is: --entity or --facts"),
        (["tide-gauges", "--entity", "--facts"], "say what it is: --entity or --facts"),
    ],
)
def test_what_cannot_be_begun_is_said(tmp_path: Path, arguments: list[str], says: str) -> None:
    assert says in new(tmp_path, *arguments, expect=2).err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tide-gauges").mkdir()
    assert "exists: choose another name" in new(tmp_path, "tide_gauges", "--entity", expect=2).err


@pytest.mark.parametrize(
    ("aggregate", "name", "words"),
    [
        (
            "tide-gauges",
            "TideGauge",
            {"a_noun": "a tide gauge", "key": "tide_gauge_id", "Title": "Tide gauges"},
        ),
        ("entries", "Entry", {"a_noun": "an entry", "key": "entry_id", "Title": "Entries"}),
    ],
)
def test_the_words_of_the_files_follow_from_the_name(
    aggregate: str, name: str, words: dict[str, Any]
) -> None:
    names = ContextNames(aggregate, name)
    assert {key: names.words[key] for key in words} == words
