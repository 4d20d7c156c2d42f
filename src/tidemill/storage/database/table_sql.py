"""Generated SQL: the statements that depend on a context's tables. Every one has a golden test.

Names come from SQLAlchemy tables and are quoted; values are parameters, one array per column, joined by `unnest`: one
statement for any number of rows, and one plan for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from sqlalchemy import ARRAY, ClauseElement
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from tidemill.domain.errors import ContractError
from tidemill.domain.state import SignInColumns, State, Unique
from tidemill.domain.table_shape import ColumnShape, TableShape

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


def quoted(name: str) -> str:
    """Return an identifier, quoted where PostgreSQL needs it."""
    return _DIALECT.identifier_preparer.quote(name)


def table_name(table: TableShape) -> str:
    """Return `schema.table`, quoted."""
    return f"{quoted(table.schema or 'public')}.{quoted(table.name)}"


def column_type(column: ColumnShape) -> str:
    """Return a column's PostgreSQL type."""
    return type_as_written(column).lower()


def type_as_written(column: ColumnShape) -> str:
    """Return a column's type as SQLAlchemy writes it. Raises its `CompileError` for one without a type."""
    if not isinstance(column.type, TypeEngine):
        raise ContractError(
            f"column {column.name}: {column.type} is not a type of SQLAlchemy's; declare it with one"
        )
    return column.type.compile(dialect=_DIALECT)


def condition(expression: object, *, qualified: bool = True) -> str:
    """Return an expression of SQLAlchemy's with literal values; it comes from a context, never from data.

    `qualified`: its columns are named with their table.
    """
    if not isinstance(expression, ClauseElement):
        raise ContractError(
            f"condition {expression!r} is not SQLAlchemy's: write it with the columns of its table"
        )
    options = {"literal_binds": True} if qualified else {"literal_binds": True, "include_table": False}
    return expression.compile(dialect=_DIALECT, compile_kwargs=options).string


def unnested(columns: Iterable[ColumnShape], alias: str) -> str:
    """Return `unnest($1::type[], ...) as alias (name, ...)` for columns in order."""
    columns = list(columns)
    arrays = ", ".join(f"${at}::{column_type(column)}[]" for at, column in enumerate(columns, start=1))
    names = ", ".join(quoted(column.name) for column in columns)
    return f"unnest({arrays}) as {alias} ({names})"


def names_of(columns: Iterable[ColumnShape], alias: str = "") -> str:
    """Return `alias.name, ...`."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(f"{prefix}{quoted(column.name)}" for column in columns)


WIDTH: Final = "tm_width"
"""With each row: the number of writable columns of its table. A newer version may have added some."""

UNKNOWN_COLUMNS: Final = """
select attname as name from pg_catalog.pg_attribute
where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = '' and attidentity <> 'a'
  and attname <> all($2::text[])
order by attnum
"""


@lru_cache(maxsize=256)
def select_states(state: State) -> str:
    """Return the statement that loads the rows of keys ($1), each with the table's width."""
    key = state.table.columns[state.key]
    regclass = table_name(state.table).replace("'", "''")
    return (
        f"select {names_of(state.table.columns, 't')}, (select count(*) from pg_catalog.pg_attribute "
        f"where attrelid = '{regclass}'::regclass and attnum > 0 and not attisdropped and attgenerated = '' "
        f"and attidentity <> 'a') as {WIDTH} from {unnested([key], 'k')} "
        f"join {table_name(state.table)} t on t.{quoted(key.name)} = k.{quoted(key.name)}"
    )


@lru_cache(maxsize=256)
def select_owners(state: State, unique: Unique) -> str:
    """Return the statement that finds the holders of unique values (one array per column): key, then the value."""
    columns = [state.table.columns[name] for name in unique.columns]
    held = table_name(state.table)  # no alias: the context's condition names the table itself
    equal = " and ".join(f"{held}.{quoted(column.name)} = v.{quoted(column.name)}" for column in columns)
    return (
        f"select {held}.{quoted(state.key)}, {names_of(columns, 'v')} from {unnested(columns, 'v')} "
        f"join {held} on {equal}{_and(unique.where)}"
    )


@lru_cache(maxsize=256)
def select_in_force(state: State, *, locked: bool) -> str:
    """Return the statement that tells which of the keys ($1) have rows in force, in order, locked against deletion."""
    key = state.table.columns[state.key]
    lock = " for share of t" if locked else ""
    return (
        f"select t.{quoted(key.name)} from {unnested([key], 'k')} join {table_name(state.table)} t "
        f"on t.{quoted(key.name)} = k.{quoted(key.name)}{_where_in_force(state, 't')} order by 1{lock}"
    )


@lru_cache(maxsize=256)
def select_expired(state: State, column: str) -> str:
    """Return the statement that lists rows whose time is over, by that time and their key: $3 after ($1, $2)."""
    ends, key = quoted(column), quoted(state.key)
    return (
        f"select t.{ends}, t.{key} from {table_name(state.table)} t "
        f"where t.{ends} <= now(){_where_in_force(state, 't')} "
        f"and (t.{ends}, t.{key}) > ($1, $2) order by t.{ends}, t.{key} limit $3"
    )


@lru_cache(maxsize=256)
def lock_states(state: State) -> str:
    """Return the statement that locks the rows of keys ($1), in order: nobody begins to refer to them."""
    key = state.table.columns[state.key]
    return (
        f"select from {unnested([key], 'k')} join {table_name(state.table)} t "
        f"on t.{quoted(key.name)} = k.{quoted(key.name)} order by t.{quoted(key.name)} for update of t"
    )


@lru_cache(maxsize=256)
def select_referred_to(child: State, column: str) -> str:
    """Return the statement that tells to which of the keys ($1) a row in force refers by `column`."""
    by = child.table.columns[column]
    return (
        f"select k.{quoted(by.name)} from {unnested([by], 'k')} where exists (select from "
        f"{table_name(child.table)} t where t.{quoted(by.name)} = k.{quoted(by.name)}{_where_in_force(child, 't')})"
    )


@lru_cache(maxsize=256)
def select_account(state: State, columns: SignInColumns) -> str:
    """Return the statement that finds the row in force of a folded name ($1): key, hash, whether it may sign in."""
    active = "true" if columns.active is None else f"t.{quoted(columns.active)}"
    return (
        f"select t.{quoted(state.key)} as key, t.{quoted(columns.password_hash)} as password_hash, "
        f"{active} as is_active from {table_name(state.table)} t "
        f"where t.{quoted(columns.folded_name)} = $1{_where_in_force(state, 't')}"
    )


def _where_in_force(state: State, alias: str) -> str:
    return "" if state.deleted is None else f" and not {alias}.{quoted(state.deleted)}"


@lru_cache(maxsize=256)
def update_states(state: State, names: tuple[str, ...]) -> str:
    """Return the statement that updates rows in place (an array per column) that still have the versions of the last.

    `names`: the columns, with that of the key. What the rows hold in others, such as those not declared, stays.
    """
    key = state.table.columns[state.key]
    columns = [column for column in _columns(state.table) if column.name in names]
    columns.sort(key=lambda column: names.index(column.name))
    values = ", ".join(
        f"{quoted(column.name)} = n.{quoted(column.name)}" for column in columns if column is not key
    )
    arrays = ", ".join(f"${at}::{column_type(column)}[]" for at, column in enumerate(columns, start=1))
    before = f"${len(columns) + 1}::bigint[]"
    return (
        f"update {table_name(state.table)} t set {values} "
        f"from unnest({arrays}, {before}) as n ({names_of(columns)}, tm_before) "
        f"where t.{quoted(key.name)} = n.{quoted(key.name)} and t.version = n.tm_before returning 1"
    )


@lru_cache(maxsize=256)
def delete_states(state: State) -> str:
    """Return the statement that deletes rows of keys ($1) that still have versions ($2)."""
    key, version = state.table.columns[state.key], state.table.columns["version"]
    return (
        f"delete from {table_name(state.table)} t using {unnested([key, version], 'o')} "
        f"where t.{quoted(key.name)} = o.{quoted(key.name)} and t.version = o.version returning 1"
    )


@lru_cache(maxsize=256)
def select_unknown(state: State) -> str:
    """Return the statement that reads, for keys ($1), the columns other than the known ones ($2), as JSON."""
    key = state.table.columns[state.key]
    return (
        f"select t.{quoted(key.name)} as key, (to_jsonb(t) - $2::text[])::text as kept from {unnested([key], 'k')} "
        f"join {table_name(state.table)} t on t.{quoted(key.name)} = k.{quoted(key.name)}"
    )


@lru_cache(maxsize=256)
def update_unknown(state: State, columns: tuple[str, ...]) -> str:
    """Return the statement that writes `columns`, which are not declared, for keys ($1) from their JSON ($2)."""
    key = state.table.columns[state.key]
    name = table_name(state.table)
    values = ", ".join(f"{quoted(column)} = kept.{quoted(column)}" for column in columns)
    return (
        f"update {name} t set {values} from unnest($1::{column_type(key)}[], $2::text[]) as o (tm_key, tm_kept), "
        f"jsonb_populate_record(null::{name}, o.tm_kept::jsonb) as kept where t.{quoted(key.name)} = o.tm_key"
    )


SHADOW: Final = "tm_shadow"
"""The schema where read models are rebuilt, under their own names."""


def view_name(table: TableShape, *, live: bool) -> str:
    """Return the quoted name of a read model's rows: the live ones, or the rebuilt ones."""
    return table_name(table) if live else f"{SHADOW}.{quoted(table.name)}"


@lru_cache(maxsize=256)
def select_rows(table: TableShape, *, live: bool) -> str:
    """Return the statement that loads and locks the rows of keys (one array per key column), in the keys' order."""
    keys = _keys(table)
    arrays = ", ".join(f"${at}::{column_type(column)}[]" for at, column in enumerate(keys, start=1))
    wanted = f"unnest({arrays}) with ordinality as k ({names_of(keys)}, tm_place)"
    return (
        f"select {names_of(table.columns, 't')} from {wanted} join {view_name(table, live=live)} t "
        f"on {_equal(keys, 'k')} order by k.tm_place for update of t"
    )


@lru_cache(maxsize=256)
def insert_rows(table: TableShape, *, live: bool) -> str:
    """Return the statement that inserts rows (one array per column)."""
    columns = _columns(table)
    return (
        f"insert into {view_name(table, live=live)} ({names_of(columns)}) "
        f"select {names_of(columns, 'n')} from {unnested(columns, 'n')}"
    )


@lru_cache(maxsize=256)
def update_rows(table: TableShape, *, live: bool) -> str:
    """Return the statement that replaces rows by key (one array per column)."""
    keys = _keys(table)
    others = [column for column in _columns(table) if column not in keys]
    values = ", ".join(f"{quoted(column.name)} = n.{quoted(column.name)}" for column in others)
    return (
        f"update {view_name(table, live=live)} t set {values} "
        f"from {unnested(table.columns, 'n')} where {_equal(keys, 'n')}"
    )


@lru_cache(maxsize=256)
def delete_rows(table: TableShape, *, live: bool) -> str:
    """Return the statement that deletes rows by key (one array per key column)."""
    keys = _keys(table)
    return (
        f"delete from {view_name(table, live=live)} t using {unnested(keys, 'o')} where {_equal(keys, 'o')}"
    )


@lru_cache(maxsize=256)
def select_page(
    table: TableShape, conditions: tuple[tuple[str, str], ...], newest_by: str | None = None
) -> str:
    """Return the statement that reads rows of which conditions hold, by key or, of a table without one, newest first.

    `conditions`: columns with `=`, `>=` or `<`; their values are parameters, as text. The last parameter is the maximum
    number of rows. `newest_by`: the time of a table without a key.
    """
    wanted = [
        f"t.{quoted(name)} {comparison} cast(${at}::text as {column_type(table.columns[name])})"
        for at, (name, comparison) in enumerate(conditions, start=1)
    ]
    where = f" where {' and '.join(wanted)}" if wanted else ""
    return (
        f"select {names_of(table.columns, 't')} from {table_name(table)} t{where} "
        f"order by {_order(table, newest_by)} limit ${len(conditions) + 1}"
    )


def _order(table: TableShape, newest_by: str | None) -> str:
    if keys := _keys(table):
        return names_of(keys, "t")
    names = [name for name in (newest_by, "command_id") if name and name in table.columns]
    columns = [f"t.{quoted(name)}{' desc' if name == newest_by else ''}" for name in names]
    return ", ".join(columns) or "1"


def _keys(table: TableShape) -> list[ColumnShape]:
    return list(table.primary_key.columns)


def _columns(table: TableShape) -> list[ColumnShape]:
    """Return the columns, all of types that an array can hold."""
    nested = [column.name for column in table.columns if isinstance(column.type, ARRAY)]
    if nested:
        raise ContractError(
            f"table {table.name}: {', '.join(nested)} are arrays, which unnest would flatten; use jsonb"
        )
    return list(table.columns)


def _equal(keys: Iterable[ColumnShape], alias: str) -> str:
    return " and ".join(f"t.{quoted(column.name)} = {alias}.{quoted(column.name)}" for column in keys)


def _and(expression: object) -> str:
    """Return ` and (condition)`, nothing for none."""
    return "" if expression is None else f" and ({condition(expression)})"
