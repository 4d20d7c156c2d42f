"""Declared queries: checked when a process starts, asked by name, for those who may read all that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.query import Query
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.table_shape import TableShape
from tidemill.queries.parameters import parameter_value
from tidemill.queries.ports import DeclaredQueryStore
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
    """An answer. `rows`: a JSON object each, as text. `more`: there are more rows than were asked for."""

    rows: Sequence[str]
    more: bool

    @property
    def json(self) -> str:
        """Return the rows as a JSON array."""
        return f"[{','.join(self.rows)}]"


class DeclaredQueries:
    """The queries of a deployment, by name."""

    def __init__(
        self, queries: Mapping[str, Query], tables: Mapping[str, TableShape], store: DeclaredQueryStore
    ) -> None:
        """`tables`: what readers see of each collection. `store`: with a login that only reads."""
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
    ) -> QueryRows:
        """Return the first rows of a query. `values`: of its parameters, as in JSON or as text.

        `principal`: None for an operator, whose login decides. `timeout_s`: at most 30.

        Raises:
            RequestRefused: NO_QUERY (there is none, or not for this principal), BAD_PARAMETER, BAD_VALUE,
                LIMIT_TOO_LARGE, QUERY_TIMEOUT, QUERY_UNFIT.
            Unavailable: the database is unavailable.
        """
        query = self._queries.get(name)
        if query is None or not (principal is None or _may_ask(principal, query)):
            raise RequestRefused(RequestCode.NO_QUERY, f"there is no query {name!r}")
        if not 1 <= limit <= MAX_LIMIT:
            raise RequestRefused(
                RequestCode.LIMIT_TOO_LARGE,
                f"ask for 1 to {MAX_LIMIT} rows, not {limit}",
                _fault("limit", ""),
            )
        arguments = _arguments(query, values)
        if self._checked.get(name, "") is not None and (await self._check(query)) is not None:
            raise self._unfit(name)
        rows = await self._store.rows(query, arguments, limit + 1, min(timeout_s, MAX_TIMEOUT_S))
        return QueryRows(rows[:limit], more=len(rows) > limit)

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
