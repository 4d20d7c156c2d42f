"""Structure: a declared table compared with the one in the database. Pure.

What a declaration promises must exist: the table with its columns, types that take all declared values, the
unique indexes under their names, the rights of the writing login. What exists in addition, or takes
more, is reported and accepted, as long as no write can be refused for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tidemill.catalog.column_types import ColumnType, is_same, is_wider
from tidemill.catalog.table_rights import reader_rights, service_rights, table_grants
from tidemill.catalog.tables import Column, Declared, Difference, FoundTable, Index, Kind, literal

CHUNK_SPAN: Final = "7 days"
"""The span of a chunk in a draft: a person chooses another one."""

FILL_PERCENT: Final = 80
"""How full the pages of a new table are whose rows change in place: an update then finds room on its page."""


def compare(declared: Declared, found: FoundTable | None) -> list[Difference]:
    """Return how the table differs, missing parts first; `found` is None if the table does not exist."""
    if found is None:
        return [_missing_table(declared)]
    if found.kind != "table":
        what = f"it is a {found.kind}, not a table"
        return [Difference(declared.name, what, Kind.DIFFERS)]
    differences = [
        *_columns(declared, found),
        *_others(declared, found),
        *_indexes(declared, found),
        *service_rights(declared, found),
        *reader_rights(declared, found),
        *_chunks(declared, found),
        *_late(declared, found),
    ]
    return sorted(differences, key=lambda each: list(Kind).index(each.kind))


# --- the table and its columns ---------------------------------------------------------------------------------------


def _missing_table(declared: Declared) -> Difference:
    drafts = [
        f"create table {declared.name} ({', '.join(table_lines(declared))}){room(declared)}",
        *(create_index(declared, index) for index in declared.indexes),
        *table_grants(declared),
    ]
    return Difference(declared.name, "the table is missing", Kind.MISSING, "; ".join(drafts))


def table_lines(declared: Declared) -> list[str]:
    """Return the columns and the key as a `create table` lists them."""
    lines = [
        f"{column.name} {column.type or 'text'}{'' if column.nullable else ' not null'}"
        for column in declared.columns
    ]
    return [*lines, f"primary key ({', '.join(declared.key)})"] if declared.key else lines


def room(declared: Declared) -> str:
    """Return the clause by which a new table keeps room for updates in place, empty if it needs none."""
    return f" with (fillfactor = {FILL_PERCENT})" if declared.updated else ""


def _columns(declared: Declared, found: FoundTable) -> Iterator[Difference]:
    there = {each.name: each for each in found.columns}
    for wanted in declared.columns:
        alter = f"alter table {declared.name} alter column {wanted.name}"
        has = there.get(wanted.name)
        if has is None:
            kind = f" ({wanted.type})" if wanted.type else ""
            # without NOT NULL, which a table with rows refuses; writers do not need it
            sql = f"alter table {declared.name} add column {wanted.name} {wanted.type or 'text'}"
            what, undo = (
                f"column {wanted.name}{kind} is missing",
                f"alter table {declared.name} drop column {wanted.name}",
            )
            yield Difference(declared.name, what, Kind.MISSING, sql, undo=undo)
            continue
        if wanted.type is not None and has.type is not None and not is_same(wanted.type, has.type):
            yield _other_type(declared, wanted.name, wanted.type, has.type)
        if has.computed and wanted.name in declared.filled:
            what = f"column {wanted.name} is computed by the database, and takes no value"
            yield Difference(declared.name, what, Kind.DIFFERS, f"{alter} drop expression")
        elif wanted.name not in declared.filled:
            yield from _unfilled(declared, has)
        elif wanted.nullable and not has.nullable:
            what = f"column {wanted.name} is NOT NULL, but null may be written"
            yield Difference(
                declared.name, what, Kind.DIFFERS, f"{alter} drop not null", undo=f"{alter} set not null"
            )
        elif has.nullable and not wanted.nullable:
            yield Difference(declared.name, f"column {wanted.name} takes null too", Kind.EXTRA)


def _other_type(declared: Declared, column: str, wanted: ColumnType, has: ColumnType) -> Difference:
    if is_wider(has, wanted, to_be_read=declared.to_be_read):
        return Difference(declared.name, f"column {column} is {has}, wider than {wanted}", Kind.EXTRA)
    if is_wider(wanted, has):
        alter = f"alter table {declared.name} alter column {column} type"
        what = f"column {column} is {has}, narrower than {wanted}"
        return Difference(declared.name, what, Kind.DIFFERS, f"{alter} {wanted}", undo=f"{alter} {has}")
    return Difference(declared.name, f"column {column} is {has}, not {wanted}", Kind.DIFFERS)


def _others(declared: Declared, found: FoundTable) -> Iterator[Difference]:
    known = {each.name for each in declared.columns}
    for has in found.columns:
        if has.name not in known:
            unfit = list(_unfilled(declared, has))
            yield from unfit or [Difference(declared.name, f"column {has.name} is not declared", Kind.EXTRA)]


def _unfilled(declared: Declared, has: Column) -> Iterator[Difference]:
    """A column that is not written must allow that."""
    if not (has.nullable or has.made or has.computed) and "insert" in declared.rights:
        what = f"column {has.name} is NOT NULL without a default, and nothing fills it"
        alter = f"alter table {declared.name} alter column {has.name}"
        yield Difference(
            declared.name, what, Kind.DIFFERS, f"{alter} drop not null", undo=f"{alter} set not null"
        )


# --- indexes ---------------------------------------------------------------------------------------------------------


def _indexes(declared: Declared, actual: FoundTable) -> Iterator[Difference]:
    used: set[str] = set()
    found = actual.indexes
    for wanted in declared.indexes:
        has = _meant(wanted, found)
        used |= {has.name} if has else set()
        yield from _index(declared, wanted, has)
    key = Index("", declared.key, unique=True)
    able = [has.name for has in found if has.guards(key)]
    if declared.key and not able:
        what, sql = f"the primary key {_listed(key)} is missing", f"add primary key {_listed(key)}"
        alter = f"alter table {declared.name}"
        undo = f"{alter} drop constraint {_with_suffix(declared.table, '_pkey')}"
        yield Difference(
            declared.name, what, Kind.MISSING, f"{alter} {sql}", harmless=not declared.to_be_read, undo=undo
        )
    for has in found:
        if has.name not in {*used, *able} and not _is_of_chunks(has, actual):
            what = f"{_called(has)} {has.name} on {_listed(has)} is not declared"
            yield Difference(declared.name, what, Kind.EXTRA)


def _is_of_chunks(has: Index, actual: FoundTable) -> bool:
    """Return whether it is on the time alone that divides a hypertable: TimescaleDB makes such an index by itself."""
    ordinary = not has.unique and has.method == "btree" and has.where is None
    return ordinary and has.columns == (actual.divided_by,)


def _meant(wanted: Index, found: tuple[Index, ...]) -> Index | None:
    """Return the index of that name, or else an equal one under another name."""
    same = (has for has in found if has.guards(wanted) or (not wanted.unique and has.serves(wanted)))
    return next((has for has in found if has.name == wanted.name), next(same, None))


def _index(declared: Declared, wanted: Index, has: Index | None) -> Iterator[Difference]:
    name, harmless = f"{_called(wanted)} {wanted.name}", not wanted.unique
    if has is None:
        sql, undo = create_index(declared, wanted), f"drop index {declared.schema}.{wanted.name}"
        yield Difference(declared.name, f"{name} is missing", Kind.MISSING, sql, harmless, undo)
        return
    if wrong := _wrong(wanted, has):
        again = None if has.valid else f"reindex index {declared.schema}.{has.name}"
        yield Difference(declared.name, f"{name} {wrong}", Kind.DIFFERS, again, harmless)
    elif has.name != wanted.name and wanted.unique:
        # the name of a violated index tells which value was refused
        sql = f"alter index {declared.schema}.{has.name} rename to {wanted.name}"
        undo = f"alter index {declared.schema}.{wanted.name} rename to {has.name}"
        yield Difference(declared.name, f"{name} is named {has.name}", Kind.DIFFERS, sql, undo=undo)


def _wrong(wanted: Index, has: Index) -> str:
    """Return how an index differs from what is wanted, empty if it does not."""
    if not has.valid:
        return "is not valid: its build was interrupted"
    if has.method != wanted.method:
        return f"is of the method {has.method}, not {wanted.method}"
    if not wanted.unique:
        return "" if has.columns == wanted.columns else f"is on {_listed(has)}, not on {_listed(wanted)}"
    if not has.unique:
        return "is not unique"
    if set(has.columns) != set(wanted.columns):
        return f"is on {_listed(has)}, not on {_listed(wanted)}"
    if has.where != wanted.where:
        return f"guards {_rows(has)}, not {_rows(wanted)}"
    return "" if has.immediate else "is deferrable: it refuses only at the commit, which is too late"


def create_index(declared: Declared, wanted: Index) -> str:
    """Return the statement that creates an index of a table."""
    return f"create {_called(wanted)} {wanted.name} on {declared.name} {as_declared(wanted).written}"


def as_declared(index: Index, listed: str = "") -> Index:
    """Return an index that keeps its definition as it is now. `listed`: its columns, where some are descending."""
    where = f" where {index.where}" if index.where else ""
    using = "" if index.method == "btree" else f"using {index.method} "
    return index if index.written else replace(index, written=f"{using}{listed or _listed(index)}{where}")


def _with_suffix(name: str, suffix: str) -> str:
    return f'{name[:-1]}{suffix}"' if name.endswith('"') else name + suffix


def _called(index: Index) -> str:
    return "unique index" if index.unique else "index"


def _listed(index: Index) -> str:
    return f"({', '.join(index.columns)})"


def _rows(index: Index) -> str:
    return f"rows where {index.where}" if index.where else "all rows"


# --- the archive -----------------------------------------------------------------------------------------------------


def _chunks(declared: Declared, actual: FoundTable) -> Iterator[Difference]:
    """Only chunks can leave for the archive; without a retention an ordinary table is a choice. Writing goes on."""
    column = declared.time_column
    if column is None or actual.divided_by == column:
        return
    if actual.divided_by is not None:
        what = f"it is a hypertable by {actual.divided_by}, not by {column}"
        yield Difference(declared.name, what, Kind.DIFFERS, harmless=True)
    elif declared.archived:
        what, sql = "it is an ordinary table, not a hypertable", make_hypertable(declared, with_rows=True)
        yield Difference(declared.name, what, Kind.MISSING, sql, harmless=True)
    else:
        what = f"it is an ordinary table, not a hypertable by {column}"
        yield Difference(declared.name, what, Kind.EXTRA)


def make_hypertable(declared: Declared, *, with_rows: bool = False) -> str:
    """Return the statement that divides a table by its time. `with_rows`: the table may have some, which move."""
    column = literal((declared.time_column or "").strip('"'))
    moved = ", migrate_data => true" if with_rows else ""
    made = f"select create_hypertable({literal(declared.name)}, by_range({column}, interval '{CHUNK_SPAN}'),"
    return f"{made}\n                         create_default_indexes => false{moved})"


def _late(declared: Declared, actual: FoundTable) -> Iterator[Difference]:
    """Nothing is sealed without a table for late rows; writing goes on."""
    if declared.archived and not actual.late:
        sql = prepare_late(declared)
        yield Difference(declared.name, "it has no table for late rows", Kind.MISSING, sql, harmless=True)


def prepare_late(declared: Declared) -> str:
    """Return the statement that makes a table's place for late rows, or makes it like the table again."""
    return f"call tm.prepare_late({literal(declared.name)})"
