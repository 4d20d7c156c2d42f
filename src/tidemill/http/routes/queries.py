"""Declared queries, by name."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tidemill.admin.service.query_records import QueryOperation, QueryRecorder, QueryRun
from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.query import SQL_TYPES, Query
from tidemill.domain.request_codes import RequestCode
from tidemill.http.accept import demand_json
from tidemill.http.answer import HttpAnswer, json_answer
from tidemill.http.exchange import Exchange
from tidemill.http.model_body import model_of
from tidemill.http.models import QueryRequest, QueryResponse
from tidemill.http.preferences import READ_WAIT_S
from tidemill.http.route_table import Operation, Parameter
from tidemill.http.routes import shapes
from tidemill.http.routes.read_run import recorded_code
from tidemill.queries.archived import ArchivedSpans
from tidemill.queries.collections import Collections
from tidemill.queries.declared import DEFAULT_LIMIT, DeclaredQueries, QueryRows
from tidemill.queries.ports import TimeSpan
from tidemill.queries.seen import HEADER, parse_seen
from tidemill.queries.seen_waiter import SeenWaiter


@dataclass(frozen=True, kw_only=True)
class QueryRoutes:
    """The operations for declared queries. `timeout_s`: of the database, if the request names no other."""

    collections: Collections
    queries: DeclaredQueries
    waiter: SeenWaiter
    archived: ArchivedSpans
    recorder: QueryRecorder
    timeout_s: float = 5.0

    def operations(self) -> list[Operation]:
        """Return them."""
        return [
            Operation(
                method="GET",
                path="/api/db/query",
                name="listQueries",
                summary="The declared queries that may be asked",
                handler=self._list,
                tag="query",
                answers={200: ("By name.", _LIST)},
            ),
            Operation(
                method="POST",
                path="/api/db/query",
                name="runQuery",
                summary="Ask a declared query",
                handler=self._run,
                tag="query",
                units=2.0,
                parameters=(_LIMIT, _AFTER, shapes.PREFER, shapes.SEEN),
                body={"application/json": QueryRequest},
                answers={
                    200: (
                        "Its rows; `data.more` says whether there are more, `data.next` how to go on.",
                        QueryResponse,
                    )
                },
                codes=(
                    *shapes.READ_CODES,
                    RequestCode.NO_QUERY,
                    RequestCode.QUERY_UNFIT,
                    RequestCode.BAD_BODY,
                    RequestCode.BAD_VALUE,
                    RequestCode.BODY_TOO_LARGE,
                    RequestCode.MEDIA_TYPE,
                    RequestCode.LIMIT_TOO_LARGE,
                    RequestCode.REPLACED,
                    RequestCode.SERVICE_MISMATCH,
                ),
            ),
        ]

    async def _list(self, exchange: Exchange) -> HttpAnswer:
        return json_answer({"queries": [_shown(query) for query in self.queries.visible(exchange.caller)]})

    async def _run(self, exchange: Exchange) -> HttpAnswer:
        demand_json(exchange.header("accept"))
        request, page = await model_of(QueryRequest, exchange), _page(exchange)
        shapes.demand_own_service(exchange, request.service_name)
        await self._wait(exchange, request.query)
        began_s, rows = time.perf_counter(), 0
        code: str | None = None
        try:
            answer, incomplete = await self._rows(exchange, request, page)
            rows = len(answer.rows)
        except BaseException as error:
            code = recorded_code(error)
            raise
        finally:
            seconds = time.perf_counter() - began_s
            self._note(exchange, request.query, seconds, rows, code)
        return HttpAnswer(200, _response(answer, incomplete, seconds))

    async def _rows(
        self, exchange: Exchange, request: QueryRequest, page: _PageArguments
    ) -> tuple[QueryRows, list[dict[str, str]]]:
        def read() -> Awaitable[QueryRows]:
            timeout_s = self.timeout_s if request.timeout is None else float(request.timeout)
            return self.queries.run(
                request.query,
                request.parameters or {},
                exchange.caller,
                **page._asdict(),
                timeout_s=timeout_s,
            )

        table = next(iter(self._of_reads(exchange, request.query, lambda one: one.retention)), None)
        if table is None:
            return await read(), []
        rows, partial = await self.archived.answer(table, TimeSpan(), read, strict=exchange.prefer.strict)
        return rows, partial.as_json()

    async def _wait(self, exchange: Exchange, name: str) -> None:
        """Return when every collection that the query reads shows what the client has seen."""
        header = exchange.header(HEADER.lower())
        if header is None:
            return
        seen, wait_s = parse_seen(header), exchange.prefer.wait_s
        projections = self._of_reads(exchange, name, lambda one: one.projection) or [None]
        for projection in projections:
            await self.waiter.reached(seen, projection, READ_WAIT_S if wait_s is None else wait_s)

    def _of_reads(self, exchange: Exchange, name: str, what: Callable[[Any], str | None]) -> list[Any]:
        """Return what the collections have that a query reads; nothing of one that the principal may not ask."""
        (reads, *_) = [q.reads for q in self.queries.visible(exchange.caller) if q.name == name] or [()]
        values = (what(self.collections.visible(read).collection) for read in reads)
        return list(dict.fromkeys(value for value in values if value is not None))

    def _note(self, exchange: Exchange, name: str, seconds: float, rows: int, code: str | None) -> None:
        query = self.recorder.query(exchange.caller.name, exchange.header("x-correlation-id"))
        run = QueryRun(
            collection=name if code != RequestCode.NO_QUERY else "none",
            operation=QueryOperation.FIND,
            pattern=f"query {name}" if code != RequestCode.NO_QUERY else "query",
            seconds=seconds,
            rows=rows,
            code=code,
        )
        self.recorder.note(query, run)


def _shown(query: Query) -> Mapping[str, Any]:
    return {
        "name": query.name,
        "parameters": {name: SQL_TYPES[kind][0] for name, kind in query.parameters.items()},
        "returns": {name: SQL_TYPES[kind][0] for name, kind in query.returns.items()},
        "reads": list(query.reads),
    }


def _response(answer: QueryRows, incomplete: list[dict[str, str]], seconds: float) -> bytes:
    more: dict[str, Any] = {"next": answer.next, "more": answer.more}
    if incomplete:
        more["incomplete"] = incomplete
    members = "".join(f', "{name}": {json.dumps(value)}' for name, value in more.items())
    return (
        f'{{"success": true, "data": {{"rows": {answer.json}{members}}}, "execution_time": {seconds:.6f}, '
        f'"row_count": {len(answer.rows)}, "cache_hit": false, "error_message": null}}'
    ).encode()


class _PageArguments(NamedTuple):
    limit: int
    after: str | None


def _page(exchange: Exchange) -> _PageArguments:
    given = exchange.parameters("_limit", "_after")
    limit = given.get("_limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
        fault = RequestFault("parameter", "_limit", "it is a number", RequestCode.BAD_PARAMETER)
        raise RequestRefused(RequestCode.BAD_PARAMETER, "_limit: it is a number", fault)
    return _PageArguments(int(limit), given.get("_after"))


_LIMIT: Final = Parameter(
    "_limit",
    "query",
    "At most so many rows.",
    {"type": "integer", "minimum": 1, "maximum": 1000, "default": DEFAULT_LIMIT},
)
_AFTER: Final = Parameter(
    "_after", "query", "The cursor of the next rows, from `data.next`; the rest stays as it was."
)
_LIST: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"queries": {"type": "array", "items": {"type": "object"}}},
}
