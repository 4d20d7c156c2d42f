"""What callers ask about the service itself: schema, migrations, health, statistics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from tidemill.admin.service.collection_schema import CollectionSchema, SchemaList, SchemaReader, Versioned
from tidemill.admin.service.health import HealthReader, is_serving
from tidemill.admin.service.migrations import MigrationOverview, MigrationPage, MigrationState
from tidemill.admin.service.performance import ConnectionOverview, PerformanceReader
from tidemill.admin.service.statistics import ServiceStats, StatisticsReader
from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.http.answer import HttpAnswer
from tidemill.http.exchange import Exchange
from tidemill.http.models import (
    ConnectionReport,
    HealthResponse,
    MigrationRequest,
    PerformanceStats,
)
from tidemill.http.route_table import Handler, Operation, Parameter
from tidemill.http.routes import shapes
from tidemill.security.principals import Principal

_OPERATOR: Final = (RequestCode.FORBIDDEN,)
_UNCHANGED: Final = ("It still has the ETag.", None)

Look = Callable[[Principal], Awaitable[BaseModel]]


@dataclass(frozen=True, kw_only=True)
class ServiceRoutes:
    """The operations about the service."""

    schemas: SchemaReader
    migrations: MigrationOverview
    statistics: StatisticsReader
    health: HealthReader
    performance: PerformanceReader
    connections: ConnectionOverview

    def operations(self) -> list[Operation]:
        """Return them."""
        return [*self._about_schemas(), *self._about_work()]

    def _about_schemas(self) -> list[Operation]:
        return [
            _get(
                "schema",
                "getSchemas",
                "The schemas of all collections",
                self._schemas,
                SchemaList,
                tag="schema",
                parameters=(shapes.IF_NONE_MATCH,),
                more={304: _UNCHANGED},
            ),
            _get(
                "schema/{collection}",
                "getSchema",
                "The schema of a collection",
                self._schema,
                CollectionSchema,
                tag="schema",
                parameters=(shapes.COLLECTION, shapes.IF_NONE_MATCH),
                codes=(RequestCode.NO_COLLECTION,),
                more={304: _UNCHANGED},
            ),
        ]

    def _about_work(self) -> list[Operation]:
        return [
            _get(
                "migrations",
                "listMigrations",
                "The revisions of the database",
                self._migrations,
                MigrationPage,
                tag="schema",
                parameters=_PAGE,
                codes=(*_OPERATOR, RequestCode.LIMIT_TOO_LARGE),
            ),
            _get(
                "migrations/status",
                "getMigrationStatus",
                "Which revisions are applied, by branch",
                _of(self.migrations.state),
                MigrationState,
                tag="schema",
                codes=_OPERATOR,
            ),
            _get(
                "stats",
                "getStatistics",
                "Rows, bytes, lag",
                _of(self.statistics.read),
                ServiceStats,
                codes=_OPERATOR,
            ),
            _get(
                "health",
                "getHealth",
                "Whether requests can be answered",
                self._health,
                HealthResponse,
                more={503: ("They cannot.", HealthResponse)},
            ),
            _get(
                "performance",
                "getPerformance",
                "What was asked and sent in the last minute",
                _of(self.performance.read),
                PerformanceStats,
                codes=_OPERATOR,
            ),
            _get(
                "connections",
                "getConnections",
                "The pools of connections",
                _of(self.connections.read),
                ConnectionReport,
                codes=_OPERATOR,
            ),
        ]

    async def _schemas(self, exchange: Exchange) -> HttpAnswer:
        _demand_none(exchange)
        return _versioned(await self.schemas.every(exchange.caller), exchange)

    async def _schema(self, exchange: Exchange) -> HttpAnswer:
        _demand_none(exchange)
        name = exchange.segment("collection")
        return _versioned(await self.schemas.one(exchange.caller, name), exchange)

    async def _migrations(self, exchange: Exchange) -> HttpAnswer:
        given = exchange.parameters("_after", "_limit")
        page = await self.migrations.page(
            exchange.caller, after=given.get("_after"), limit=_limit(given.get("_limit", "100"))
        )
        return _of_model(page)

    async def _health(self, exchange: Exchange) -> HttpAnswer:
        _demand_none(exchange)
        health = await self.health.read()
        answer = _of_model(health)
        answer.status = 200 if is_serving(health) else 503
        if answer.status == 503:
            answer.add(b"retry-after", "1")
        return answer


def later_operations() -> list[Operation]:
    """Return what has its place, and comes with a later version: each answers 501."""
    transaction = Parameter("transaction_id", "path", "The transaction.")
    return [
        _later("POST", "migrations", "runMigration", "Apply revisions", body=MigrationRequest),
        _later("POST", "transaction", "beginTransaction", "Begin, or execute, a transaction"),
        _later("GET", "transaction/{transaction_id}", "getTransaction", "A transaction", transaction),
        _later("POST", "transaction/{transaction_id}/commit", "commitTransaction", "Commit it", transaction),
        _later(
            "POST",
            "transaction/{transaction_id}/rollback",
            "rollBackTransaction",
            "Roll it back",
            transaction,
        ),
        _later("POST", "models", "registerModels", "Register models"),
        _later("POST", "search", "search", "Search text in collections"),
        _later(
            "POST", "{collection}/aggregate", "aggregateDocuments", "Aggregate documents", shapes.COLLECTION
        ),
    ]


def _later(
    method: str, path: str, name: str, summary: str, *parameters: Parameter, body: Any = None
) -> Operation:
    async def refuse(_: Exchange) -> HttpAnswer:
        raise RequestRefused(RequestCode.NOT_YET, f"{name} comes with a later version")

    return Operation(
        method=method,
        path=f"/api/db/{path}",
        name=name,
        summary=f"{summary} (later)",
        handler=refuse,
        tag="later",
        abandoned=False,
        parameters=parameters,
        body={"application/json": body or {"type": "object"}} if method == "POST" else {},
        answers={501: ("It comes with a later version.", None)},
        codes=(RequestCode.NOT_YET,),
    )


def _get(  # noqa: PLR0913  the parts of an operation
    path: str,
    name: str,
    summary: str,
    handler: Handler,
    model: type[BaseModel],
    *,
    tag: str = "service",
    parameters: tuple[Parameter, ...] = (),
    codes: tuple[RequestCode, ...] = (),
    more: Mapping[int, tuple[str, Any]] | None = None,
) -> Operation:
    return Operation(
        method="GET",
        path=f"/api/db/{path}",
        name=name,
        summary=summary,
        handler=handler,
        tag=tag,
        parameters=parameters,
        answers={200: ("As asked.", model), **(more or {})},
        codes=codes,
    )


def _of(look: Look) -> Handler:
    async def handler(exchange: Exchange) -> HttpAnswer:
        _demand_none(exchange)
        return _of_model(await look(exchange.caller))

    return handler


def _of_model(model: BaseModel) -> HttpAnswer:
    answer = HttpAnswer(200, model.model_dump_json().encode())
    answer.add(b"cache-control", "private, no-cache")
    return answer


def _versioned(shown: Versioned[Any], exchange: Exchange) -> HttpAnswer:
    tags = (exchange.header("if-none-match") or "").replace("W/", "")
    if tags == "*" or shown.etag in [tag.strip() for tag in tags.split(",")]:
        answer = HttpAnswer(304, media_type=None)
    else:
        answer = _of_model(shown.answer)
    answer.add(b"etag", shown.etag)
    answer.add(b"vary", "Authorization")
    return answer


def _demand_none(exchange: Exchange) -> None:
    exchange.parameters()


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    fault = RequestFault("parameter", "_limit", "is not a number")
    raise RequestRefused(RequestCode.BAD_PARAMETER, "_limit is not a number", fault)


_PAGE: Final = (
    Parameter("_after", "query", "The `next` of the page before."),
    Parameter(
        "_limit",
        "query",
        "At most so many revisions.",
        {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    ),
)
