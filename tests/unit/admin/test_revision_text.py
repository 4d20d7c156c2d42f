"""The file of a drafted revision: Python that runs the statements, each by itself."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tidemill.admin.setup.revision_text import file_name, revision_text
from tidemill.admin.setup.revisions import NextRevision
from tidemill.catalog.table_changes import Change, TableChanges

FIRST = NextRevision("users", 1, Path("users"))
SECOND = NextRevision("users", 2, Path("users"), ("users_0001",))
CHANGES = TableChanges((Change(("create table users (id text)",), ("drop table users",)),), (), archive=False)


def run(text: str, function: str) -> list[str]:
    """The statements that a revision runs."""
    ran: list[str] = []
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if not isinstance(node, ast.ImportFrom)]
    names: dict[str, Any] = {"run_script": ran.append}
    exec(compile(tree, "revision", "exec"), names)
    names[function]()
    return [statement.strip() for statement in ran]


def constants(text: str) -> dict[str, Any]:
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def test_the_first_revision_of_a_context_begins_its_branch() -> None:
    text = revision_text(FIRST, "Create the tables", CHANGES)
    assert constants(text) == {
        "revision": "users_0001",
        "down_revision": None,
        "branch_labels": ("users",),
        "depends_on": "core_0001",
    }
    assert text.startswith('"""Create the tables.\n\nRevision ID: users_0001\nRevises:\n')


def test_a_later_one_revises_the_last() -> None:
    changes = TableChanges(CHANGES.changes, (), archive=True)
    assert constants(revision_text(SECOND, "More", changes)) == {
        "revision": "users_0002",
        "down_revision": "users_0001",
        "branch_labels": None,
        "depends_on": "core_0002",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "create table users (id text)",
        "create table users (\n  id text)",
        'alter table "Users" add column "order" text',
        "select '\\d' as pattern",
        'select \'"""\'',
        f"select '{'x' * 200}'",
        f"create unique index {'x' * 50} on public.users ({'y' * 50}) where not deleted",
    ],
)
def test_a_statement_runs_as_it_is(statement: str) -> None:
    text = revision_text(FIRST, "It", TableChanges((Change((statement,)),), (), archive=False))
    assert "".join(run(text, "upgrade")).split() == statement.split()
    assert run(text, "downgrade") == []


def test_a_line_that_is_long_is_broken_before_its_table() -> None:
    long = f"create unique index {'x' * 50} on public.users ({'y' * 30}) where not deleted"
    text = revision_text(FIRST, "It", TableChanges((Change((long,)),), (), archive=False))
    assert f"{'x' * 50}\n        on public.users" in text


def test_statements_stand_alone_and_are_undone_from_the_last() -> None:
    two = TableChanges((*CHANGES.changes, Change(("b",), ("undo b",))), (), archive=False)
    text = revision_text(FIRST, "It", two)
    assert run(text, "upgrade") == ["create table users (id text)", "b"]
    assert run(text, "downgrade") == ["undo b", "drop table users"]


def test_a_decision_is_a_comment() -> None:
    text = revision_text(FIRST, "It", TableChanges(CHANGES.changes, ("decide " * 40,), archive=False))
    assert text.count("    # decide decide") == 3


@pytest.mark.parametrize(
    ("about", "name"),
    [
        ("Create the tables", "0001_create_the_tables.py"),
        ("Add: the 'spread', and a note that is so long", "0001_add_the_spread_and_a_note_that_is_so_lon.py"),
        ("...", "0001_tables.py"),
    ],
)
def test_a_file_is_named_after_what_it_does(about: str, name: str) -> None:
    assert file_name(FIRST, about) == name
