"""Generated SQL: the statements that depend on a context's tables. Every one is golden-tested.

Names come from SQLAlchemy tables and are quoted; values are parameters, one array per column, joined by `unnest`: one
statement for any number of rows, and one plan for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

from tidemill.domain.context import State, Unique

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


def quoted(name: str) -> str:
    """Return an identifier, quoted where PostgreSQL needs it."""
    return _DIALECT.identifier_preparer.quote(name)


def table_name(table: Table) -> str:
    """Return `schema.table`, quoted."""
    return f"{quoted(table.schema or 'public')}.{quoted(table.name)}"


def column_type(column: Column[Any]) -> str:
    """Return a column's PostgreSQL type."""
    return column.type.compile(dialect=_DIALECT).lower()


def unnested(columns: Iterable[Column[Any]], alias: str) -> str:
    """Return `unnest($1::type[], ...) as alias (name, ...)` for columns in order."""
    columns = list(columns)
    arrays = ", ".join(f"${at}::{column_type(column)}[]" for at, column in enumerate(columns, start=1))
    names = ", ".join(quoted(column.name) for column in columns)
    return f"unnest({arrays}) as {alias} ({names})"


def names_of(columns: Iterable[Column[Any]], alias: str = "") -> str:
    """Return `alias.name, ...`."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(f"{prefix}{quoted(column.name)}" for column in columns)


@lru_cache(maxsize=256)
def select_states(state: State) -> str:
    """Return the statement that loads the rows of keys ($1)."""
    key = state.table.columns[state.key]
    return (
        f"select {names_of(state.table.columns, 't')} from {unnested([key], 'k')} "
        f"join {table_name(state.table)} t on t.{quoted(key.name)} = k.{quoted(key.name)}"
    )


@lru_cache(maxsize=256)
def select_owners(state: State, unique: Unique) -> str:
    """Return the statement that finds who holds unique values (one array per column): key, then the value."""
    columns = [state.table.columns[name] for name in unique.columns]
    held = table_name(state.table)  # no alias: the context's condition names the table itself
    equal = " and ".join(f"{held}.{quoted(column.name)} = v.{quoted(column.name)}" for column in columns)
    return (
        f"select {held}.{quoted(state.key)}, {names_of(columns, 'v')} from {unnested(columns, 'v')} "
        f"join {held} on {equal}{_and(unique.where)}"
    )


@lru_cache(maxsize=256)
def delete_states(state: State) -> str:
    """Return the statement that deletes rows of keys ($1) that still have versions ($2)."""
    key, version = state.table.columns[state.key], state.table.columns["version"]
    return (
        f"delete from {table_name(state.table)} t using {unnested([key, version], 'o')} "
        f"where t.{quoted(key.name)} = o.{quoted(key.name)} and t.version = o.version returning 1"
    )


def _and(condition: Any) -> str:
    """Return ` and (condition)` with literal values; conditions come from contexts, never from data."""
    if condition is None:
        return ""
    text = condition.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True})
    return f" and ({text})"
