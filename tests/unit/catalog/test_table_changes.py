"""The steps that bring tables to what is declared: their order, what undoes them, what is left to a person."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidemill.catalog.column_types import ColumnType
from tidemill.catalog.structure import compare
from tidemill.catalog.table_changes import TableChanges, table_changes
from tidemill.catalog.tables import (
    Column,
    Comparison,
    Declared,
    DeclaredView,
    FoundTable,
    Index,
    Kind,
    TableComparison,
    ViewComparison,
)
from tidemill.catalog.view_structure import compare_view

TEXT, TIME = ColumnType("text"), ColumnType("timestamp with time zone")
ALL = frozenset({"usage", "select", "insert", "update", "delete"})
USERS = Declared(
    schema="public",
    table="users",
    columns=(Column("id", TEXT), Column("name", TEXT), Column("email", TEXT, nullable=True)),
    key=("id",),
    indexes=(Index("users_email", ("email",), unique=False),),
    filled=frozenset({"id", "name", "email"}),
    rights=ALL,
)
TICKS = Declared(
    schema="public",
    table="ticks",
    columns=(Column("time", TIME), Column("price", ColumnType("double precision"))),
    key=(),
    indexes=(),
    filled=frozenset({"time", "price"}),
    rights=frozenset({"usage", "insert"}),
    time_column="time",
    archived=True,
)
VIEW = DeclaredView("public", "users_view", "public.users", ("id", "name", "email"), frozenset({"deleted"}))
FOUND = FoundTable(
    columns=USERS.columns,
    indexes=(Index("users_pkey", ("id",), unique=True), Index("users_email", ("email",), unique=False)),
    rights=ALL,
)
SEEN = FoundTable(
    columns=USERS.columns,
    kind="view",
    readers=frozenset({"usage", "select"}),
    definition=" SELECT id, name, email FROM users;",
)


def changes(
    declared: Declared, found: FoundTable | None, *views: tuple[DeclaredView, FoundTable | None]
) -> TableChanges:
    compared: list[Comparison] = [TableComparison(declared, found, tuple(compare(declared, found)))]
    compared += [ViewComparison(view, seen, tuple(compare_view(view, seen))) for view, seen in views]
    return table_changes(compared)


def without(column: str) -> FoundTable:
    return replace(FOUND, columns=tuple(item for item in FOUND.columns if item.name != column))


def test_nothing_is_drafted_for_what_is_as_declared() -> None:
    assert changes(USERS, FOUND, (VIEW, SEEN)) == TableChanges((), (), archive=False)


def test_a_new_table_comes_with_its_indexes_rights_and_view() -> None:
    drafted = changes(USERS, None, (VIEW, None))
    assert drafted.upgrade == [
        "create table public.users (\n  id text not null,\n  name text not null,\n  email text,\n  primary key (id))",
        "create index users_email on public.users (email)",
        "grant delete, insert, select, update on public.users to tidemill_service",
        "create view public.users_view as\n  select id, name, email\n  from public.users",
        "grant select on public.users_view to tidemill_reader",
    ]
    assert drafted.downgrade == ["drop view public.users_view", "drop table public.users"]


def test_a_table_whose_rows_change_in_place_keeps_room_for_them() -> None:
    made = changes(replace(USERS, updated=True), None).upgrade[0]
    assert made.endswith("primary key (id)) with (fillfactor = 80)")


def test_a_table_in_a_schema_of_its_own_comes_with_the_schema() -> None:
    drafted = changes(replace(USERS, schema="accounts"), None)
    assert drafted.upgrade[:2] == [
        "create schema if not exists accounts",
        "grant usage on schema accounts to tidemill_service, tidemill_reader",
    ]
    assert drafted.downgrade == ["drop table accounts.users"]


def test_facts_by_time_are_a_hypertable_and_what_leaves_has_a_place_for_late_rows() -> None:
    drafted = changes(TICKS, None)
    table, chunks, grant, late = drafted.upgrade
    assert "time timestamptz not null" in table
    assert "create_hypertable('public.ticks', by_range('time', interval '7 days'),\n" in chunks
    assert grant == "grant insert, select on public.ticks to tidemill_service", "the audit counts its rows"
    assert late == "call tm.prepare_late('public.ticks')"
    assert drafted.downgrade == [
        "call tm.refuse_to_forget('public.ticks')",
        "drop table tm_late.public__ticks",
        "drop table public.ticks",
    ]
    assert drafted.archive


def test_a_column_of_what_leaves_is_added_to_late_rows_too() -> None:
    found = FoundTable(columns=TICKS.columns[:1], rights=TICKS.rights, late=True, divided_by="time")
    drafted = changes(TICKS, found)
    assert drafted.upgrade == [
        "alter table public.ticks add column price double precision",
        "call tm.prepare_late('public.ticks')",
    ]
    assert drafted.downgrade == [
        "alter table public.ticks drop column price",
        "alter table tm_late.public__ticks drop column price",
        "call tm.prepare_late('public.ticks')",
    ]


def test_an_ordinary_table_of_what_leaves_becomes_a_hypertable_before_its_place_for_late_rows() -> None:
    drafted = changes(TICKS, FoundTable(columns=TICKS.columns, rights=TICKS.rights))
    chunks, late = drafted.upgrade
    assert chunks.startswith("select create_hypertable('public.ticks', by_range('time', interval '7 days'),")
    assert chunks.endswith("migrate_data => true)")
    assert late == "call tm.prepare_late('public.ticks')"
    (decision,) = drafted.decisions
    assert decision.startswith("public.ticks: its rows move into chunks while nothing else can use the table")


@pytest.mark.parametrize(
    ("declared", "divided_by", "difference"),
    [
        (TICKS, None, ("it is an ordinary table, not a hypertable", Kind.MISSING)),
        (TICKS, "seen", ("it is a hypertable by seen, not by time", Kind.DIFFERS)),
        (
            replace(TICKS, archived=False),
            None,
            ("it is an ordinary table, not a hypertable by time", Kind.EXTRA),
        ),
        (replace(TICKS, time_column=None, archived=False), None, None),
        (TICKS, "time", None),
    ],
)
def test_whether_a_table_is_a_hypertable_is_compared_and_stops_nothing(
    declared: Declared, divided_by: str | None, difference: tuple[str, Kind] | None
) -> None:
    actual = FoundTable(columns=TICKS.columns, rights=TICKS.rights, late=True, divided_by=divided_by)
    differences = compare(declared, actual)
    assert [(each.what, each.kind) for each in differences] == ([difference] if difference else [])
    assert all(each.harmless or each.kind is Kind.EXTRA for each in differences)


def test_a_view_is_made_anew_around_a_column_that_it_shows() -> None:
    narrow = (Column("id", TEXT), Column("name", ColumnType("character varying", (20,))), USERS.columns[2])
    drafted = changes(USERS, replace(FOUND, columns=narrow), (VIEW, SEEN))
    assert [statement.split(" as")[0] for statement in drafted.upgrade] == [
        "drop view public.users_view",
        "alter table public.users alter column name type text",
        "create view public.users_view",
        "grant select on public.users_view to tidemill_reader",
    ]
    assert [statement.split(" as")[0] for statement in drafted.downgrade] == [
        "drop view public.users_view",
        "alter table public.users alter column name type character varying(20)",
        "create view public.users_view",
        "grant select on public.users_view to tidemill_reader",
    ]


def test_a_column_that_rows_must_have_is_said() -> None:
    assert changes(USERS, without("email")).decisions == ()
    (decision,) = changes(USERS, without("name")).decisions
    assert decision.startswith("public.users: column name may be null in rows that exist: fill it in them")


def test_what_has_no_draft_is_a_decision_and_no_statement() -> None:
    other = (Column("id", ColumnType("bigint")), *USERS.columns[1:])
    drafted = changes(USERS, replace(FOUND, columns=other))
    assert drafted.upgrade == []
    assert [decision.split(": nothing")[0] for decision in drafted.decisions] == [
        "public.users: column id is bigint, not text"
    ]


def test_a_view_that_has_more_than_its_table_is_left_alone() -> None:
    more = replace(SEEN, columns=(Column("id", TEXT), Column("orders", TEXT)))
    drafted = changes(USERS, FOUND, (VIEW, more))
    assert drafted.upgrade == []
    assert len(drafted.decisions) == 2, "name and email are missing"


def test_rights_that_were_granted_anew_are_said() -> None:
    hidden = replace(SEEN, columns=(*SEEN.columns, Column("deleted", TEXT)))
    drafted = changes(USERS, FOUND, (VIEW, hidden))
    assert drafted.decisions == ("public.users_view is made anew: repeat what else was granted on it",)
    assert drafted.downgrade[-1] == "grant select on public.users_view to tidemill_reader"
