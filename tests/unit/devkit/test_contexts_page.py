"""The page for authors of contexts: its package is written as it stands there, and its tests run."""

import inspect
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.architecture import tree
from tests.support.clients.walkthrough import File, steps
from tests.support.event_table import event_table
from tests.support.waiting import HANGING_S
from tidemill import api
from tidemill.api import (
    CommandBase,
    Context,
    Json,
    Label,
    append,
    decide,
    entity,
    fact_event,
    fact_table,
    family,
)
from tidemill.catalog.table_changes import table_changes
from tidemill.storage.catalog.structure import StructureDatabase

PAGE = Path("docs/contexts.md")


def test_the_package_of_the_page_passes_its_own_tests(tmp_path: Path) -> None:
    files = [step for step in steps(tree.text(PAGE)) if isinstance(step, File)]
    for file in files:
        path = tmp_path / file.path
        path.parent.mkdir(exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    (test,) = (file for file in files if file.path.startswith("test_"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            test.path,
        ],
        cwd=tmp_path,
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tests = len(re.findall(r"^def test_", test.text, re.MULTILINE))
    assert f"{tests} passed" in done.stdout


# --- the table of an entity's options ---

OPTION = re.compile(r"^\| (`\w+=.*?`) \|(.*?)\|(.*?)\|(.*?)\|$", re.MULTILINE)
OPTIONS = [
    pytest.param(
        row[0].strip("`"), *(re.findall("`([^`]+)`", cell) for cell in row[1:]), id=row[0].strip("`")
    )
    for row in OPTION.findall(tree.text(PAGE))
]
DATABASE: Any = None  # a comparison with nothing needs none


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """What the options of the table are written with: the page's classes and the public surface."""
    (text,) = (
        step.text
        for step in steps(tree.text(PAGE))
        if isinstance(step, File) and step.path == "sensors/calibrations.py"
    )
    names = {**vars(api), "__name__": "calibrations"}
    exec(compile(text, "sensors/calibrations.py", "exec"), names)
    return names


def generated(names: dict[str, Any], option: str) -> tuple[set[str], set[str], list[str]]:
    """Names of commands, events and columns; codes; the statements of a draft, each in one line."""
    made = eval(f"entity(Calibration, {option})", names)
    parents = [names["benches"]] if made.naming.parent else []
    context = family("calibrations", *parents, made)
    classes = {spec.model.__name__ for spec in context.commands} | {
        event.__name__ for event in context.events
    }
    draft = table_changes(StructureDatabase(DATABASE).compare_with_nothing(context))
    return (
        classes | {*made.table.columns.keys()},
        {*made.codes},
        [" ".join(sql.split()) for sql in draft.upgrade],
    )


@pytest.mark.parametrize(("option", "names", "codes", "sql"), OPTIONS)
def test_an_option_adds_what_the_page_shows(
    written: dict[str, Any], option: str, names: list[str], codes: list[str], sql: list[str]
) -> None:
    plain_names, plain_codes, plain_sql = generated(written, "")
    all_names, all_codes, statements = generated(written, option)
    own = {name for name in all_names - plain_names if "Bench" not in name}
    assert (own, all_codes - plain_codes) == (set(names), set(codes))
    added = [statement for statement in statements if statement not in plain_sql]
    assert all(any(line.startswith(statement) for line in added) for statement in sql), added
    assert len([line for line in added if " index " in line]) == len(
        [line for line in sql if " index " in line]
    )


def test_the_facts_of_the_page_have_the_sql_that_it_shows() -> None:
    blocks = re.findall(r"```(python|sql)\n(.*?)```", tree.text(PAGE), re.DOTALL)
    (declared,) = (text for kind, text in blocks if kind == "python" and "class RecordSamples" in text)
    (shown,) = (text for kind, text in blocks if kind == "sql" and "public.sample" in text)
    names: dict[str, Any] = {"__name__": "samples"}
    exec(compile(declared, "samples", "exec"), names)
    draft = table_changes(StructureDatabase(DATABASE).compare_with_nothing(names["context"]))
    assert shown.splitlines() == "\n".join(draft.upgrade).splitlines()


class RecordNote(CommandBase):
    """What the indexes of the page are declared of."""

    time: datetime
    place: Label
    title: str
    text: str
    data: Json = "{}"


NoteRecorded = fact_event("NoteRecorded", RecordNote, "A note was recorded.")
INDEX = re.compile(r"^\| `(\(.+?\)|\w+\(.+?\))` \| `(create index .*)` \|$", re.MULTILINE)


def test_the_indexes_of_facts_have_the_sql_that_the_page_shows() -> None:
    rows = [(declared, sql.replace(r"\|", "|")) for declared, sql in INDEX.findall(tree.text(PAGE))]
    notes = fact_table("note", RecordNote, index=[eval(declared, vars(api)) for declared, _ in rows])
    command = append(RecordNote, into=notes, event=NoteRecorded)
    context = Context(aggregate="notes", key=lambda note: note.place, commands=(command,))
    draft = table_changes(StructureDatabase(DATABASE).compare_with_nothing(context)).upgrade
    assert len(rows) == 6
    assert sorted(sql for _, sql in rows) == sorted(line for line in draft if line.startswith("create index"))


def test_the_page_says_what_every_event_of_a_built_in_context_carries() -> None:
    """`python -m tests.support.event_table` prints the table."""
    table = tree.text(PAGE).partition("built-in contexts carry")[2]
    assert [line for line in table.splitlines() if line.startswith("|")] == event_table()


@pytest.mark.parametrize("declares", [append, decide, family])
def test_every_option_of_the_others_is_on_the_page(declares: Any) -> None:
    parameters = inspect.signature(declares).parameters.values()
    options = {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    page = tree.text(PAGE)
    assert {name for name in options if f"`{name}" not in page and f"{name}=" not in page} == set()


def test_every_option_is_on_the_page() -> None:
    options = set(inspect.signature(entity).parameters) - {"model"}
    in_table = {row[0].strip("`").partition("=")[0] for row in OPTION.findall(tree.text(PAGE))}
    in_words = set(re.findall(r"^- `(\w+)=", tree.text(PAGE), re.MULTILINE))
    assert options <= in_table | in_words
