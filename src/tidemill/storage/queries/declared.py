"""Declared queries on TimescaleDB: `queries.ports.DeclaredQueryStore`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from tidemill.domain.errors import RequestRefused, TableMisfit
from tidemill.domain.query import SQL_TYPES, Query
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.table_shape import TableShape
from tidemill.queries.ports import Place, PlacedRow
from tidemill.storage.database.errors import on_tables
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.database.table_sql import quoted, table_name
from tidemill.storage.queries.json_sql import json_scalar

CHECK_TIMEOUT_S: Final = 5.0

_SQL = load_statements(Path(__file__).with_name("declared.sql"))

JsonExpression = Callable[[type, str], str]
"""Returns, for a type of `SQL_TYPES` and the SQL of a value, the SQL that `row_to_json` gets."""


def json_expression(kind: type, value: str) -> str:
    """Return how a value is written: as that of a collection's column of this type."""
    return json_scalar(SQL_TYPES[kind][0], value)


def rows_statement(
    query: Query, expression: JsonExpression = json_expression, after: Sequence[str] = ()
) -> str:
    """Return the statement for a query's rows as JSON, with their places as a JSON array.

    Its parameters are the query's, the maximum number of rows, then the values of `after`: columns of the query's order
    that the place has before the first row.
    """
    members = ", ".join(
        f"{expression(kind, f'q.{quoted(name)}')} as {quoted(name)}" for name, kind in query.returns.items()
    )
    place = ", ".join(f"q.{quoted(name)}::text" for name in (*query.order, *query.constant))
    limit = len(query.parameters) + 1
    return (
        f"select (select row_to_json(e)::text from (select {members}) e) as row, "
        f"json_build_array({place})::text as place\nfrom (\n{query.statement}\n) q\n"
        f"{_later(query, after, limit + 1)}{_in_order(query)}limit ${limit}"
    )


def _later(query: Query, after: Sequence[str], first: int) -> str:
    """Return the condition of the rows behind a place. `first`: the number of its first parameter."""
    if not after:
        return ""
    values = [
        f"${first + number}::text::{SQL_TYPES[query.returns[name]][0]}" for number, name in enumerate(after)
    ]
    return f"where ({', '.join(f'q.{quoted(name)}' for name in after)}) > ({', '.join(values)})\n"


def _in_order(query: Query) -> str:
    return f"order by {', '.join(f'q.{quoted(name)}' for name in query.order)}\n" if query.order else ""


class DeclaredQueryDatabase:
    """Runs queries in transactions that cannot write, each with its time-out."""

    def __init__(self, pool: Lender, expression: JsonExpression = json_expression) -> None:
        """`pool`: of a login that needs only SELECT."""
        self._pool = pool
        self._expression = expression

    async def fault(self, query: Query, tables: Sequence[TableShape]) -> str | None:
        allowed = [table_name(table) for table in tables]
        async with self._reading(CHECK_TIMEOUT_S) as borrowed:
            try:
                with on_tables():
                    prepared = await borrowed.prepare(rows_statement(query, self._expression))
                    del prepared
                    own = await borrowed.prepare(query.statement)
                    await borrowed.execute(f"explain (generic_plan) {query.statement}")
            except (TableMisfit, asyncpg.PostgresError) as error:
                return f"it cannot be planned: {error}"
            if (differing := _difference(query, own.get_attributes())) is not None:
                return differing
            others = await borrowed.fetch(_SQL["relations_read"], allowed)
        if others:
            return f"it reads {', '.join(row['name'] for row in others)}, which is not among what it declares"
        return None

    async def rows(
        self, query: Query, values: Sequence[Any], limit: int, timeout_s: float, after: Place | None = None
    ) -> list[PlacedRow]:
        # a column that is null at a place is null in all rows, so it decides nothing
        behind = {
            name: value for name, value in zip(query.order, after or (), strict=False) if value is not None
        }
        statement = rows_statement(query, self._expression, tuple(behind))
        async with self._reading(timeout_s) as borrowed:
            try:
                with on_tables():
                    rows = await borrowed.fetch(statement, *values, limit, *behind.values())
            except (TableMisfit, asyncpg.ReadOnlySQLTransactionError) as misfit:
                detail = f"query {query.name} does not fit the database"
                raise RequestRefused(RequestCode.QUERY_UNFIT, detail) from misfit
            except asyncpg.DataError as error:
                raise RequestRefused(
                    RequestCode.BAD_VALUE, f"query {query.name}: the database refuses a value"
                ) from error
            except asyncpg.QueryCanceledError as error:
                raise RequestRefused(
                    RequestCode.QUERY_TIMEOUT, f"query {query.name} did not end within {timeout_s:g} s"
                ) from error
        if not query.order:
            return [PlacedRow(row["row"], ()) for row in rows]
        return [PlacedRow(row["row"], tuple(json.loads(row["place"]))) for row in rows]

    @asynccontextmanager
    async def _reading(self, timeout_s: float) -> AsyncIterator[Connection]:
        """Lend a connection in a read-only transaction, whose plans are made for the values."""
        async with connection(self._pool) as borrowed, borrowed.transaction(readonly=True):
            await borrowed.execute(
                f"set local statement_timeout = {max(1, round(timeout_s * 1000)):d}; "
                "set local plan_cache_mode = force_custom_plan"
            )
            yield borrowed


def _difference(query: Query, attributes: Sequence[asyncpg.Attribute]) -> str | None:
    """Return how the columns of a query differ from what it declares; names and order count."""
    columns = [(attribute.name, attribute.type.name) for attribute in attributes]
    names = [name for name, _ in columns]
    if names != list(query.returns):
        return f"it returns {', '.join(names)}, and declares {', '.join(query.returns)}"
    for name, of_database in columns:
        if of_database not in SQL_TYPES[query.returns[name]]:
            return f"its column {name} is {of_database}, declared is {query.returns[name].__name__}"
    return None
