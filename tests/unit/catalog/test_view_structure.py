"""A declared view beside what is there: what readers miss, and what they must not see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidemill.catalog.tables import Column, DeclaredView, FoundTable, Kind
from tidemill.catalog.view_structure import compare_view, replacement

DECLARED = DeclaredView(
    schema="public",
    view="users_view",
    source="public.users",
    columns=("id", "name", "email"),
    left_out=frozenset({"hashed_password", "deleted"}),
    where="not deleted",
)
FOUND = FoundTable(
    columns=tuple(Column(name, None) for name in DECLARED.columns),
    kind="view",
    readers=frozenset({"usage", "select"}),
    definition=" SELECT id,\n    name,\n    email\n   FROM users\n  WHERE NOT deleted;",
)


def with_columns(*names: str) -> FoundTable:
    return replace(FOUND, columns=tuple(Column(name, None) for name in names))


def test_a_view_that_is_as_declared() -> None:
    assert compare_view(DECLARED, FOUND) == []


def test_how_a_condition_is_written_is_the_servers_business() -> None:
    written = replace(FOUND, definition=" SELECT users.id FROM users\n  WHERE (NOT users.deleted);")
    assert compare_view(DECLARED, written) == []


def test_a_view_that_is_missing_is_drafted_with_the_right_to_read_it() -> None:
    (difference,) = compare_view(DECLARED, None)
    assert str(difference) == "public.users_view: the view is missing"
    assert difference.sql == (
        "create view public.users_view as\n  select id, name, email\n  from public.users where not deleted; "
        "grant select on public.users_view to tidemill_reader"
    )
    assert difference.undo == "drop view public.users_view"


DIFFERS = {
    "a column that readers miss": (with_columns("id", "name"), "column email is missing", Kind.MISSING),
    "a column that is hidden": (
        with_columns("id", "name", "email", "hashed_password"),
        "it shows column hashed_password, which no reader is to see",
        Kind.DIFFERS,
    ),
    "rows that are deleted": (
        replace(FOUND, definition=" SELECT id FROM users;"),
        "it shows all rows, not rows where not deleted",
        Kind.DIFFERS,
    ),
    "other rows": (
        replace(FOUND, definition=" SELECT id FROM users WHERE users.name <> ''::text;"),
        "it shows rows where name <> ''::text, not rows where not deleted",
        Kind.DIFFERS,
    ),
    "no right to read": (
        replace(FOUND, readers=frozenset({"usage"})),
        "tidemill_reader may not select",
        Kind.MISSING,
    ),
    "no right to use its schema": (
        replace(FOUND, readers=frozenset({"select"})),
        "tidemill_reader may not use schema public",
        Kind.MISSING,
    ),
    "a table in its place": (replace(FOUND, kind="table"), "it is a table, not a view", Kind.DIFFERS),
    "a column of others": (
        with_columns("id", "name", "email", "orders"),
        "column orders is not declared",
        Kind.EXTRA,
    ),
}


@pytest.mark.parametrize("name", DIFFERS)
def test_what_differs_is_named_and_stops_no_lane(name: str) -> None:
    found, what, kind = DIFFERS[name]
    (difference,) = compare_view(DECLARED, found)
    assert (difference.what, difference.kind, difference.breaks) == (what, kind, False)


def test_a_column_is_added_in_place_and_everything_else_makes_the_view_anew() -> None:
    (added,) = replacement(DECLARED, with_columns("id", "email"))
    assert added.startswith("create or replace view public.users_view as\n  select id, email, name\n")
    anew = replacement(DECLARED, with_columns("id", "name", "email", "hashed_password"))
    assert [statement.split(" public")[0] for statement in anew] == [
        "drop view",
        "create view",
        "grant select on",
    ]


def test_a_view_with_columns_of_others_is_left_to_a_person() -> None:
    missing = next(iter(compare_view(DECLARED, with_columns("id", "name", "orders"))))
    assert (missing.what, missing.sql) == ("column email is missing", None)
