"""Generated SQL about a read model's rows beside those that its events give: what differs, and how it is corrected.

Every statement has a golden test. Rows are compared byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from zlib import crc32

from tidemill.domain.table_shape import ColumnShape, TableShape
from tidemill.storage.database.table_sql import SHADOW, names_of, quoted, view_name


def snapshot_name(table: TableShape) -> str:
    """Return the quoted name of a copy of a read model's live rows; short, whatever the table's name."""
    return f"{SHADOW}.live_{crc32(view_name(table, live=True).encode()):08x}"


def progress_name(table: TableShape) -> str:
    """Return the quoted name of the table that says how far the rows of a state are folded, by lane."""
    return f"{SHADOW}.at_{crc32(view_name(table, live=True).encode()):08x}"


@lru_cache(maxsize=256)
def count_differences(table: TableShape, *, snapshot: bool = True) -> str:
    """Return the statement that counts the rows of two tables, and those that differ.

    One is the rebuilt table, the other the snapshot, or without one the live table.
    """
    return f"select count(*), count(*) filter (where {_differ(table)}) from {_side_by_side(table, snapshot=snapshot)}"


@lru_cache(maxsize=256)
def select_differences(table: TableShape, *, snapshot: bool = True) -> str:
    """Return the statement that shows the first $1 differing rows: the lacking side, its key, both rows, as text.

    `snapshot`: as of `count_differences`.
    """
    keys, columns = list(table.primary_key.columns), list(table.columns)
    first = quoted(keys[0].name)
    key = ", ".join(f"coalesce(l.{quoted(column.name)}, s.{quoted(column.name)})" for column in keys)
    key_text = ", ".join(
        f"coalesce(l.{quoted(column.name)}, s.{quoted(column.name)})::text" for column in keys
    )
    return (
        f"select l.{first} is null as only_rebuilt, s.{first} is null as only_live, array[{key_text}] as key, "
        f"{_texts(columns, 'l')} as live, {_texts(columns, 's')} as rebuilt "
        f"from {_side_by_side(table, snapshot=snapshot)} where {_differ(table)} order by {key} limit $1"
    )


@lru_cache(maxsize=256)
def keep_undeclared(table: TableShape, columns: tuple[str, ...]) -> str:
    """Return the statement that gives the rebuilt rows what the live ones have in `columns`, which are undeclared."""
    values = ", ".join(f"{quoted(name)} = l.{quoted(name)}" for name in columns)
    live, rebuilt = view_name(table, live=True), view_name(table, live=False)
    return f"update {rebuilt} s set {values} from {live} l where {_equal_keys(table)}"


@lru_cache(maxsize=256)
def delete_differing(table: TableShape) -> str:
    """Return the statement that deletes the live rows that are not the rebuilt ones, byte for byte."""
    live, rebuilt = view_name(table, live=True), view_name(table, live=False)
    same = f"{_equal_keys(table)} and not ({_rows_differ(table)})"
    return f"delete from {live} l where not exists (select from {rebuilt} s where {same})"


@lru_cache(maxsize=256)
def insert_missing(table: TableShape, columns: tuple[str, ...]) -> str:
    """Return the statement that inserts the rebuilt rows whose keys no live row has.

    `columns`: those that are not declared, too.
    """
    names = ", ".join([names_of(table.columns), *map(quoted, columns)])
    live, rebuilt = view_name(table, live=True), view_name(table, live=False)
    there = f"select from {live} l where {_equal_keys(table)}"
    return f"insert into {live} ({names}) select {names} from {rebuilt} s where not exists ({there})"


def _side_by_side(table: TableShape, *, snapshot: bool) -> str:
    live = snapshot_name(table) if snapshot else view_name(table, live=True)
    return f"{live} l full join {view_name(table, live=False)} s on {_equal_keys(table)}"


def _equal_keys(table: TableShape) -> str:
    return " and ".join(
        f"l.{quoted(column.name)} = s.{quoted(column.name)}" for column in list(table.primary_key.columns)
    )


def _differ(table: TableShape) -> str:
    """Return the condition that two rows differ in any byte; a row that is missing is null in its key."""
    key = quoted(next(iter(table.primary_key.columns)).name)
    return f"l.{key} is null or s.{key} is null or {_rows_differ(table)}"


def _rows_differ(table: TableShape) -> str:
    columns = list(table.columns)
    # without the cast it would be a comparison column by column, for which json has no operator
    return f"row({names_of(columns, 'l')})::record *<> row({names_of(columns, 's')})::record"


def _texts(columns: Iterable[ColumnShape], alias: str) -> str:
    return f"array[{', '.join(f'{alias}.{quoted(column.name)}::text' for column in columns)}]"
