"""Declared queries: checked when a process starts, asked by name, for those who may read all that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.query import Query
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.table_shape import TableShape
from tidemill.queries.cursors import Cursors, fingerprint_of, mismatch
from tidemill.queries.order import Position
from tidemill.queries.parameters import parameter_value
from tidemill.queries.ports import DeclaredQueryStore, Place, PlacedRow
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.security.principals import Principal, Verb

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1_000
DEFAULT_TIMEOUT_S: Final = 5.0
MAX_TIMEOUT_S: Final = 30.0
RETRY_AFTER_S: Final = 10.0

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class QueryRows:
    """An answer. `rows`: a JSON object each, as text. `more`: there are more rows than were asked for.

    `next`: the cursor of those, if the query has an order.
    """

    rows: Sequence[str]
    more: bool
    next: str | None = None

    @property
    def json(self) -> str:
        """Return the rows as a JSON array."""
        return f"[{','.join(self.rows)}]"


class DeclaredQueries:
    """The queries of a deployment, by name."""

    def __init__(
        self,
        queries: Mapping[str, Query],
        tables: Mapping[str, TableShape],
        store: DeclaredQueryStore,
        cursors: Cursors | None = None,
    ) -> None:
        """`tables`: what readers see of each collection. `store`: with a login that only reads.

        `cursors`: None where nobody goes on in a later request.
        """
        self._cursors = cursors
        self._queries = queries
        self._tables = tables
        self._store = store
        self._checked: dict[str, str | None] = {}

    def visible(self, principal: Principal | None = None) -> list[Query]:
        """Return the queries that a principal may ask, by name; None: all."""
        queries = sorted(self._queries.values(), key=lambda query: query.name)
        return [query for query in queries if principal is None or _may_ask(principal, query)]

    async def check(self) -> dict[str, str]:
        """Compare every query with the database; return name -> what is wrong, which is logged, too.

        A wrong query is refused until it fits; all others work. Raises `Unavailable`.
        """
        for query in self._queries.values():
            await self._check(query)
        return {name: fault for name, fault in self._checked.items() if fault is not None}

    async def run(
        self,
        name: str,
        values: Mapping[str, Any],
        principal: Principal | None = None,
        *,
        limit: int = DEFAULT_LIMIT,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        after: str | None = None,
    ) -> QueryRows:
        """Return the first rows of a query, or those after a cursor.

        `values`: of its parameters, as in JSON or as text.
        `principal`: None for an operator, whose login decides. `timeout_s`: at most 30.

        Raises:
            RequestRefused: NO_QUERY (there is none, or not for this principal), BAD_PARAMETER, BAD_VALUE,
                LIMIT_TOO_LARGE, CURSOR_MISMATCH, REPLACED, QUERY_TIMEOUT, QUERY_UNFIT.
            Unavailable: the database is unavailable.
        """
        query = self._query(name, principal)
        if not 1 <= limit <= MAX_LIMIT:
            raise _too_many(limit)
        arguments = _arguments(query, values)
        place = self._place(query, arguments, after)
        await self._demand_fit(query)
        page = await self._page(query, arguments, limit, timeout_s, place)
        if not page.more or self._cursors is None or not query.order:
            return QueryRows(page.rows, page.more)
        cursor = self._cursors.sealed(Position(page.last or ()), _fingerprint(query, arguments))
        return QueryRows(page.rows, page.more, cursor)

    async def walk(self, name: str, values: Mapping[str, Any], limit: int) -> QueryRows:
        """Return the first rows of a query for an operator, page by page: as many as `limit`, which has no bound.

        A query without an order has one page, of at most `MAX_LIMIT`. Raises what `run` does.
        """
        query = self._query(name, None)
        if not query.order:
            return await self.run(name, values, limit=limit)
        arguments = _arguments(query, values)
        await self._demand_fit(query)
        rows: list[str] = []
        page = _Page([], more=True, last=None)
        while page.more and len(rows) < limit:
            part = min(limit - len(rows), MAX_LIMIT)
            page = await self._page(query, arguments, part, DEFAULT_TIMEOUT_S, page.last)
            rows += page.rows
        return QueryRows(rows, page.more)

    def _query(self, name: str, principal: Principal | None) -> Query:
        query = self._queries.get(name)
        if query is None or not (principal is None or _may_ask(principal, query)):
            raise RequestRefused(RequestCode.NO_QUERY, f"there is no query {name!r}")
        return query

    def _place(self, query: Query, arguments: Sequence[Any], after: str | None) -> Place | None:
        if after is None:
            return None
        if self._cursors is None or not query.order:
            raise mismatch()
        return self._cursors.opened(after, _fingerprint(query, arguments)).values

    async def _demand_fit(self, query: Query) -> None:
        if self._checked.get(query.name, "") is not None and (await self._check(query)) is not None:
            raise self._unfit(query.name)

    async def _page(
        self, query: Query, arguments: Sequence[Any], limit: int, timeout_s: float, after: Place | None
    ) -> _Page:
        rows = await self._store.rows(query, arguments, limit + 1, min(timeout_s, MAX_TIMEOUT_S), after)
        if query.constant and after is not None:
            _demand_constant(query, after, rows)
        last = rows[:limit][-1].place if rows else None
        return _Page([row.json for row in rows[:limit]], more=len(rows) > limit, last=last)

    async def _check(self, query: Query) -> str | None:
        unknown = [name for name in query.reads if name not in self._tables]
        fault = f"there is no collection {', '.join(unknown)}" if unknown else None
        if fault is None:
            fault = await self._store.fault(query, [self._tables[name] for name in query.reads])
        if fault is not None and self._checked.get(query.name) != fault:
            _log.error(Log.QUERY_UNFIT, query=query.name, reason=fault)
        self._checked[query.name] = fault
        return fault

    def _unfit(self, name: str) -> RequestRefused:
        """The reason names tables and columns, so it is in the log."""
        detail = f"query {name} does not fit the database"
        return RequestRefused(RequestCode.QUERY_UNFIT, detail, retry_after_s=RETRY_AFTER_S)


class _Page(NamedTuple):
    """Rows, whether there are more, and the place of the last one."""

    rows: Sequence[str]
    more: bool
    last: Place | None


def _demand_constant(query: Query, after: Place, rows: Sequence[PlacedRow]) -> None:
    """Refuse rows of something else than what was read before. There were more: none means that they were replaced."""
    before = after[len(query.order) :]
    if not rows or any(row.place[len(query.order) :] != before for row in rows):
        detail = f"query {query.name}: what it reads was replaced since the first rows were given"
        raise RequestRefused(RequestCode.REPLACED, detail)


def _fingerprint(query: Query, arguments: Sequence[Any]) -> str:
    """Return what a cursor must agree with."""
    return fingerprint_of(query.name, query.statement, repr(query.order), repr(list(arguments)))


def _too_many(limit: int) -> RequestRefused:
    detail = f"ask for 1 to {MAX_LIMIT} rows, not {limit}"
    return RequestRefused(RequestCode.LIMIT_TOO_LARGE, detail, _fault("limit", ""))


def _may_ask(principal: Principal, query: Query) -> bool:
    """A query is not taken apart: a hidden column of a collection that it reads hides all of it."""
    return all(
        principal.may(Verb.READ, collection) and not principal.hidden(collection)
        for collection in query.reads
    )


def _arguments(query: Query, values: Mapping[str, Any]) -> list[Any]:
    """Return the values in the order of the parameters. Raises `RequestRefused` with all faults."""
    unknown = [_fault(name, "there is no such parameter") for name in values if name not in query.parameters]
    lacking = [_fault(name, "it is required") for name in query.parameters if name not in values]
    if faults := [*unknown, *lacking]:
        raise RequestRefused(RequestCode.BAD_PARAMETER, _listed(query, faults), *faults)
    arguments: list[Any] = []
    for name, kind in query.parameters.items():
        try:
            arguments.append(parameter_value(kind, values[name]))
        except RequestRefused as error:
            faults.append(_fault(name, error.detail, RequestCode.BAD_VALUE))
    if faults:
        raise RequestRefused(RequestCode.BAD_VALUE, _listed(query, faults), *faults)
    return arguments


def _fault(name: str, detail: str, code: str = "") -> RequestFault:
    return RequestFault("pointer", f"/parameters/{name}" if detail else f"/{name}", detail, code)


def _listed(query: Query, faults: Sequence[RequestFault]) -> str:
    named = (f"{fault.where.removeprefix('/parameters/')}: {fault.detail}" for fault in faults)
    return f"query {query.name}: " + "; ".join(named)
