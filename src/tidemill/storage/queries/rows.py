"""Collections on TimescaleDB, read only: `queries.ports.CollectionStore`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any, Final

import asyncpg

from tidemill.domain.errors import DataError, RequestRefused, TableMisfit, TransientError
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.collections import VisibleCollection
from tidemill.queries.filters import EVERYTHING, Filter, predicates, shape_of
from tidemill.queries.order import is_shared
from tidemill.queries.ports import (
    MAX_CAPPED_COUNT,
    CountedRows,
    CountQuery,
    Document,
    DocumentQuery,
    PageQuery,
    PageRows,
)
from tidemill.queries.request import CountMode
from tidemill.queries.value_types import Bound, from_cursor, value_type
from tidemill.storage.database.errors import on_tables
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.sessions import session_of
from tidemill.storage.database.table_sql import table_name
from tidemill.storage.queries import select_sql
from tidemill.storage.queries.select_sql import AfterKey, PageShape

ACQUIRE_TIMEOUT_S: Final = 1.0
RETRY_AFTER_S: Final = 1.0
GRACE_S: Final = 5.0
"""How much longer than the server's own time-out a client waits: then the server does not answer at all."""

_TEXT: Final = value_type("text")


class CollectionDatabase:
    """Reads with a login that needs only SELECT; whatever takes longer ends by the server's own time-out."""

    def __init__(
        self,
        pool: Lender,
        count_pool: Lender,
        *,
        page_pool: Lender | None = None,
        acquire_timeout_s: float = ACQUIRE_TIMEOUT_S,
    ) -> None:
        """`pool`: for documents. `count_pool`: for counts, which take long.

        `page_pool`: for pages, `pool` if it is None. Their sessions keep what pages set, which makes a plan for each
        statement: a document costs the server twice as much there.
        """
        self._pool = pool
        self._page_pool = page_pool or pool
        self._count_pool = count_pool
        self._acquire_timeout_s = acquire_timeout_s

    async def document(self, query: DocumentQuery) -> Document | None:
        """A document is found by its key: one statement without a transaction, and the client's own time-out."""
        as_text = tuple(value.as_text for value in query.key)
        sql = select_sql.select_document(query.collection, query.fields, as_text, native=query.numbers_native)
        values = [value.value for value in query.key]
        async with self._lent(self._pool, query.collection) as borrowed:
            try:
                row = await borrowed.fetchrow(sql, *values, timeout=query.timeout_s)
            except TimeoutError as error:
                raise _took_too_long(query.timeout_s) from error
        return None if row is None else Document(row["body"], row["version"], sql)

    async def page(self, query: PageQuery) -> PageRows:
        sql, values = _page_statement(query)
        async with self._lent(self._page_pool, query.collection) as borrowed:
            await _settle(borrowed, query.timeout_s)
            row = await borrowed.fetchrow(sql, *values, timeout=query.timeout_s + GRACE_S)
        assert row is not None
        last = row["last"]
        return PageRows(
            rows=row["rows"],
            row_count=row["row_count"],
            more=row["read_count"] > row["row_count"],
            last=None if last is None else tuple(json.loads(last)),
            equal=row["equal"] or 0,
            sql=sql,
        )

    async def count(self, query: CountQuery) -> CountedRows:
        async with self._lent(self._count_pool, query.collection) as borrowed:
            if query.mode is CountMode.ESTIMATED:
                return CountedRows(await _estimated(borrowed, query))
            shape, values = shape_of(query.where), _filter_values(query.where, query.collection)
            if query.mode is CountMode.CAPPED:
                sql = select_sql.count_capped(query.collection, shape)
                row = await _fetched(borrowed, query.timeout_s, sql, [*values, MAX_CAPPED_COUNT])
                return CountedRows(row[0], at_least=row[0] == MAX_CAPPED_COUNT, sql=sql)
            sql = select_sql.count_rows(query.collection, shape)
            return CountedRows((await _fetched(borrowed, query.timeout_s, sql, values))[0], sql=sql)

    @asynccontextmanager
    async def _lent(self, pool: Lender, collection: VisibleCollection) -> AsyncIterator[Connection]:
        """Lend a connection; errors within become refusals."""
        lent = False
        try:
            async with connection(pool, timeout_s=self._acquire_timeout_s) as borrowed:
                lent = True
                with _refused(collection):
                    yield borrowed
        except TransientError as error:
            if not lent and isinstance(error.__cause__, TimeoutError):
                raise _overloaded() from error
            raise _unavailable() from error


# --- statements ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=100)
def _settings(verb: str, timeout_s: float) -> str:
    """Return what sets what a statement needs: its time-out, a plan for its values, and how values are written.

    `verb`: `set` for the session, `set local` for the transaction.
    """
    settings = {
        "statement_timeout": f"{round(timeout_s * 1000):d}",
        "plan_cache_mode": "force_custom_plan",
        "datestyle": "iso",
        "extra_float_digits": "1",
        "timezone": "'UTC'",
    }
    return "; ".join(f"{verb} {name} = {value}" for name, value in settings.items())


async def _settle(borrowed: Connection, timeout_s: float) -> None:
    """Set for a session what pages need, unless it is: in a transaction each would take two messages more."""
    session, wanted = session_of(borrowed), _settings("set", timeout_s)
    if session.settled != wanted:
        await borrowed.execute(wanted)
        session.settled = wanted


async def _fetched(borrowed: Connection, timeout_s: float, sql: str, values: list[Any]) -> asyncpg.Record:
    """Run a statement in a transaction with its settings: two short messages around it.

    What is left open by an error, or by a task that is cancelled, is rolled back when the connection returns.
    """
    await borrowed.execute(f"begin read only; {_settings('set local', timeout_s)}")
    row = await borrowed.fetchrow(sql, *values, timeout=timeout_s + GRACE_S)
    await borrowed.execute("commit")
    assert row is not None
    return row


def _page_statement(query: PageQuery) -> tuple[str, list[Any]]:
    after, cursor_values = None, []
    if query.after is not None:
        kinds = [
            _TEXT if key.column is None else query.collection.columns[key.column].type for key in query.order
        ]
        keys = [
            None if text is None else from_cursor(kind, text)
            for kind, text in zip(kinds, query.after.values, strict=True)
        ]
        after = tuple(AfterKey(key is None, key is not None and key.as_text) for key in keys)
        cursor_values = [key.value for key in keys if key is not None]
    shape = PageShape(
        collection=query.collection,
        fields=query.fields,
        where=shape_of(query.where),
        order=query.order,
        after=after,
        repeats=query.after is not None and query.after.given > 0,
        native=query.numbers_native,
    )
    values = [*_filter_values(query.where, query.collection), *cursor_values, query.limit, query.max_bytes]
    if is_shared(query.order):
        values.append(0 if query.after is None else query.after.given)
    return select_sql.select_rows(shape), values


def _filter_values(where: Filter, collection: VisibleCollection) -> list[Any]:
    """Return the values of a filter as they are bound, a list as one."""
    values = []
    for predicate in predicates(where):
        if predicate.operator.startswith("is "):
            continue
        of_array = collection.columns[predicate.column].type.element is not None
        is_list = predicate.operator in ("in", "nin") or (of_array and predicate.operator != "has")
        values.append(_plain(predicate.values) if is_list else predicate.values[0].value)
    return values


def _plain(values: tuple[Bound, ...]) -> list[Any]:
    return [value.value for value in values]


async def _estimated(borrowed: Connection, query: CountQuery) -> int:
    collection = query.collection.collection
    if query.where == EVERYTHING and collection.time_column is not None and collection.revisions is None:
        table = table_name(collection.written)
        sql = "select approximate_row_count($1::text::regclass)"
        return int((await _fetched(borrowed, query.timeout_s, sql, [table]))[0])
    sql = select_sql.explain_rows(query.collection, shape_of(query.where))
    values = _filter_values(query.where, query.collection)
    row = await _fetched(borrowed, query.timeout_s, sql, values)
    return int(json.loads(row[0])[0]["Plan"]["Plan Rows"])


# --- refusals --------------------------------------------------------------------------------------------------------


@contextmanager
def _refused(collection: VisibleCollection) -> Iterator[None]:
    """Raise what the database refuses as the refusal of a request; its words stay in the cause, for the log."""
    try:
        with on_tables():
            yield
    except asyncpg.QueryCanceledError as error:
        raise RequestRefused(
            RequestCode.QUERY_TIMEOUT, "the database did not answer in the time that was allowed"
        ) from error
    except (asyncpg.DataError, DataError, OverflowError) as error:
        raise RequestRefused(RequestCode.BAD_VALUE, "the database refuses a value of the request") from error
    except TableMisfit as misfit:
        detail = f"{collection.name} cannot be read: its table is not as declared; `tidemill status` says how to fix it"
        raise RequestRefused(RequestCode.DATABASE_AWAY, detail, retry_after_s=RETRY_AFTER_S) from misfit


def _took_too_long(timeout_s: float) -> RequestRefused:
    return RequestRefused(RequestCode.QUERY_TIMEOUT, f"the database did not answer within {timeout_s:g} s")


def _overloaded() -> RequestRefused:
    return RequestRefused(
        RequestCode.OVERLOADED, "all connections to the database are in use", retry_after_s=RETRY_AFTER_S
    )


def _unavailable() -> RequestRefused:
    return RequestRefused(
        RequestCode.DATABASE_AWAY, "the database is unavailable", retry_after_s=RETRY_AFTER_S
    )
