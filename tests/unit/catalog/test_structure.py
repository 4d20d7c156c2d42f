"""A declared table beside one that is there: what breaks a promise, what passes, what would repair it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidemill.catalog.column_types import ColumnType
from tidemill.catalog.structure import compare
from tidemill.catalog.tables import Column, Declared, Difference, FoundTable, Index, Kind

TEXT, INTEGER, BIGINT = ColumnType("text"), ColumnType("integer"), ColumnType("bigint")
RIGHTS = frozenset({"usage", "select", "insert"})
GUARD = Index("things_name", ("name",), unique=True, where="active")
DECLARED = Declared(
    schema="public",
    table="things",
    columns=(Column("id", TEXT), Column("name", TEXT, nullable=True), Column("size", INTEGER)),
    key=("id",),
    indexes=(GUARD,),
    filled=frozenset({"id", "name", "size"}),
    rights=RIGHTS,
)
FOUND = FoundTable(
    columns=DECLARED.columns,
    indexes=(Index("things_pkey", ("id",), unique=True), GUARD),
    rights=RIGHTS,
)


def column(name: str, **changes: object) -> FoundTable:
    """The table with one column that is otherwise."""
    return replace(
        FOUND,
        columns=tuple(
            replace(each, **changes) if each.name == name else each  # type: ignore[arg-type]  # names of its fields
            for each in FOUND.columns
        ),
    )


def guard(*indexes: Index) -> FoundTable:
    """The table with other indexes beside its key."""
    return replace(FOUND, indexes=(FOUND.indexes[0], *indexes))


def more(added: Column) -> FoundTable:
    return replace(FOUND, columns=(*FOUND.columns, added))


def told(found: FoundTable | None, declared: Declared = DECLARED) -> list[tuple[str, Kind]]:
    return [(each.what, each.kind) for each in compare(declared, found)]


def test_a_table_that_is_as_declared() -> None:
    assert compare(DECLARED, FOUND) == []


def test_a_table_that_is_missing_is_one_difference_with_one_draft() -> None:
    (difference,) = compare(DECLARED, None)
    assert str(difference) == "public.things: the table is missing"
    assert difference.sql == (
        "create table public.things (id text not null, name text, size integer not null, primary key (id)); "
        "create unique index things_name on public.things (name) where active; "
        "grant insert, select on public.things to tidemill_service"
    )


BREAKS = {
    "a column that is missing": (
        replace(FOUND, columns=FOUND.columns[:2]),
        "column size (integer) is missing",
        "alter table public.things add column size integer",
    ),
    "a narrower type": (
        column("size", type=ColumnType("smallint")),
        "column size is smallint, narrower than integer",
        "alter table public.things alter column size type integer",
    ),
    "another type": (column("size", type=TEXT), "column size is text, not integer", None),
    "null that is refused": (
        column("name", nullable=False),
        "column name is NOT NULL, but null may be written",
        "alter table public.things alter column name drop not null",
    ),
    "a value that is computed": (
        column("name", computed=True),
        "column name is computed by the database, and takes no value",
        "alter table public.things alter column name drop expression",
    ),
    "a column that nobody fills": (
        more(Column("more", TEXT)),
        "column more is NOT NULL without a default, and nothing fills it",
        "alter table public.things alter column more drop not null",
    ),
    "no guard": (
        guard(),
        "unique index things_name is missing",
        "create unique index things_name on public.things (name) where active",
    ),
    "a guard under another name": (
        guard(replace(GUARD, name="other")),
        "unique index things_name is named other",
        "alter index public.other rename to things_name",
    ),
    "a guard of more rows": (
        guard(replace(GUARD, where=None)),
        "unique index things_name guards all rows, not rows where active",
        None,
    ),
    "a guard of other rows": (
        guard(replace(GUARD, where="size > 1")),
        "unique index things_name guards rows where size > 1, not rows where active",
        None,
    ),
    "a guard of other columns": (
        guard(replace(GUARD, columns=("name", "size"))),
        "unique index things_name is on (name, size), not on (name)",
        None,
    ),
    "no guard but an index": (
        guard(replace(GUARD, unique=False)),
        "unique index things_name is not unique",
        None,
    ),
    "a guard that was not built": (
        guard(replace(GUARD, valid=False)),
        "unique index things_name is not valid: its build was interrupted",
        "reindex index public.things_name",
    ),
    "a guard that comes too late": (
        guard(replace(GUARD, immediate=False)),
        "unique index things_name is deferrable: it refuses only at the commit, which is too late",
        None,
    ),
    "no primary key": (
        replace(FOUND, indexes=(GUARD,)),
        "the primary key (id) is missing",
        "alter table public.things add primary key (id)",
    ),
    "no right": (
        replace(FOUND, rights=frozenset({"usage", "select"})),
        "this login may not insert",
        "grant insert on public.things to tidemill_service",
    ),
    "no right on the schema": (
        replace(FOUND, rights=RIGHTS - {"usage"}),
        "this login may not use schema public",
        "grant usage on schema public to tidemill_service",
    ),
    "no table": (FoundTable(kind="view"), "it is a view, not a table", None),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_a_promise(name: str) -> None:
    found, what, sql = BREAKS[name]
    (difference,) = [each for each in compare(DECLARED, found) if each.breaks]
    assert (difference.what, difference.sql) == (what, sql)


PASSES = {
    "a wider type": (column("size", type=BIGINT), "column size is bigint, wider than integer"),
    "null that is allowed": (column("size", nullable=True), "column size takes null too"),
    "a column that may be null": (more(Column("more", TEXT, nullable=True)), "column more is not declared"),
    "a column with a default": (more(Column("more", TEXT, made=True)), "column more is not declared"),
    "a column that is computed": (more(Column("more", TEXT, computed=True)), "column more is not declared"),
    "an index": (
        guard(GUARD, Index("fast", ("size",), unique=False)),
        "index fast on (size) is not declared",
    ),
    "a guard of something else": (
        guard(GUARD, Index("strict", ("size",), unique=True)),
        "unique index strict on (size) is not declared",
    ),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_is_wider_or_extra_passes_and_is_told(name: str) -> None:
    found, what = PASSES[name]
    assert told(found) == [(what, Kind.EXTRA)]
    assert not any(each.breaks for each in compare(DECLARED, found))


def test_the_order_of_a_guards_columns_and_the_name_of_the_key_do_not_matter() -> None:
    pair = replace(GUARD, columns=("name", "size"))
    declared = replace(DECLARED, indexes=(pair,))
    turned = replace(
        FOUND, indexes=(Index("mine", ("id",), unique=True), replace(pair, columns=("size", "name")))
    )
    assert told(turned, declared) == []


def test_a_right_on_every_column_that_is_written_is_enough_to_add_rows() -> None:
    rows = replace(
        FOUND,
        rights=frozenset({"usage", "select"}),
        columns=tuple(replace(each, rights=frozenset({"insert"})) for each in FOUND.columns),
    )
    assert told(rows) == []
    some = replace(rows, columns=(*rows.columns[:2], FOUND.columns[2]))
    assert told(some) == [("this login may not insert", Kind.MISSING)]


def test_a_column_that_is_declared_and_not_filled_must_do_without_us() -> None:
    declared = replace(DECLARED, filled=DECLARED.filled - {"name"})
    assert told(column("name", nullable=False, made=True), declared) == []
    assert told(column("name", nullable=False), declared) == [
        ("column name is NOT NULL without a default, and nothing fills it", Kind.DIFFERS)
    ]


def test_what_makes_us_slower_breaks_no_promise() -> None:
    declared = replace(DECLARED, indexes=(GUARD, Index("fast", ("size",), unique=False)))
    (missing,) = compare(declared, FOUND)
    assert missing == Difference(
        "public.things",
        "index fast is missing",
        Kind.MISSING,
        "create index fast on public.things (size)",
        harmless=True,
        undo="drop index public.fast",
    )
    assert not missing.breaks
    under_another_name = guard(GUARD, Index("quick", ("size",), unique=False))
    assert compare(declared, under_another_name) == []


def test_the_index_that_timescaledb_makes_for_chunks_is_expected() -> None:
    by_time = Index("things_size_idx", ("size",), unique=False)
    assert told(replace(guard(GUARD, by_time), divided_by="size")) == []
    for other in (
        replace(by_time, unique=True),
        replace(by_time, method="brin"),
        replace(by_time, where="active"),
    ):
        ((_, kind),) = told(replace(guard(GUARD, other), divided_by="size"))
        assert kind is Kind.EXTRA


def test_what_is_missing_is_told_first() -> None:
    found = replace(column("size", type=TEXT), indexes=(Index("x", ("size",), unique=False),))
    assert [each.kind for each in compare(DECLARED, found)] == [
        Kind.MISSING,
        Kind.MISSING,
        Kind.DIFFERS,
        Kind.EXTRA,
    ]


def test_a_table_that_is_only_added_to_keeps_numbers_as_it_likes() -> None:
    facts = replace(DECLARED, rights=RIGHTS - {"select"}, key=(), indexes=())
    decimals = replace(column("size", type=ColumnType("numeric")), indexes=())
    assert told(decimals, facts) == [("column size is numeric, wider than integer", Kind.EXTRA)]
    assert told(decimals, replace(facts, rights=RIGHTS)) == [
        ("column size is numeric, not integer", Kind.DIFFERS)
    ]
