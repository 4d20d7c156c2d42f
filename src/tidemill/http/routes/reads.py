"""Reading collections: a document by its key, pages, counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from tidemill.domain.collection import CollectionKind
from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.http.accept import demand_json
from tidemill.http.access import readable
from tidemill.http.answer import HttpAnswer, json_answer
from tidemill.http.exchange import Exchange
from tidemill.http.models import QueryResponse
from tidemill.http.preferences import none_match
from tidemill.http.route_table import Operation, Parameter
from tidemill.http.routes import shapes
from tidemill.http.routes.read_run import ReadParts, ReadRun
from tidemill.queries.archived import PartialAnswer
from tidemill.queries.collections import VisibleCollection, no_document, parse_key
from tidemill.queries.complete_reads import CompleteReads
from tidemill.queries.filters import Filter, predicates
from tidemill.queries.ports import Document
from tidemill.queries.reader import CountAnswer, PageAnswer
from tidemill.queries.request import PageRequest, count_request, fields_request, page_request
from tidemill.queries.request_body import body_request


@dataclass(frozen=True, kw_only=True)
class ReadRoutes(ReadParts):
    """The operations that read. `timeout_s`: of the database."""

    reads: CompleteReads
    timeout_s: float = 5.0

    def operations(self) -> list[Operation]:
        """Return them."""
        return [
            Operation(
                method="GET",
                path="/api/db/{collection}/{id}",
                name="getDocument",
                summary="A document by its key",
                handler=self._document,
                parameters=(
                    shapes.COLLECTION,
                    shapes.ID,
                    shapes.FIELDS,
                    shapes.IF_NONE_MATCH,
                    shapes.PREFER,
                    shapes.SEEN,
                ),
                answers={
                    200: ("The document, with its ETag.", shapes.DOCUMENT),
                    304: ("It still has the ETag.", None),
                },
                codes=(*shapes.READ_CODES, RequestCode.NO_DOCUMENT, RequestCode.BAD_VALUE),
            ),
            Operation(
                method="GET",
                path="/api/db/{collection}",
                name="listDocuments",
                units=2.0,
                summary="A page of documents, by filters `field.operator=value`",
                handler=self._page,
                parameters=_PAGE,
                answers={200: ("A page; `data.next` is null at the end.", QueryResponse)},
                codes=shapes.PAGE_CODES,
            ),
            *self._by_body(),
            Operation(
                method="GET",
                path="/api/db/{collection}/count",
                name="countDocuments",
                units=10.0,
                summary="How many documents pass a filter",
                handler=self._count,
                parameters=(shapes.COLLECTION, shapes.WHERE, _MODE, shapes.PREFER, shapes.SEEN),
                answers={200: ("The number.", _COUNT)},
                codes=shapes.PAGE_CODES,
            ),
        ]

    def _by_body(self) -> list[Operation]:
        by_post = Operation(
            method="POST",
            path="/api/db/{collection}/query",
            name="queryDocuments",
            units=2.0,
            summary="A page of documents, by a query as JSON",
            handler=self._query,
            parameters=(shapes.COLLECTION, shapes.PREFER, shapes.SEEN),
            body={"application/json": _QUERY},
            answers={200: ("A page; `data.next` is null at the end.", QueryResponse)},
            codes=(
                *shapes.PAGE_CODES,
                RequestCode.BAD_BODY,
                RequestCode.BODY_TOO_LARGE,
                RequestCode.MEDIA_TYPE,
            ),
        )
        by_query = replace(
            by_post,
            method="QUERY",
            path="/api/db/{collection}",
            name="queryDocumentsByQuery",
            described=False,
        )  # RFC 10008; OpenAPI 3.1 has no name for the method
        return [by_post, by_query]

    async def _document(self, exchange: Exchange) -> HttpAnswer:
        collection, native = readable(self.collections, exchange), demand_json(exchange.header("accept"))
        key = parse_key(collection, exchange.raw["id"])
        fields = fields_request(collection, exchange.pairs)
        read = await ReadRun.begin(self, exchange, collection)
        with read.timed(_pattern(collection, "by key")) as run:
            document = await self.reads.reader.document(
                collection, key, fields, numbers_native=native, timeout_s=self.timeout_s
            )
            if document is not None:
                run.rows, run.sql = 1, document.sql
        if document is None:
            raise no_document()
        tag = _tag(collection, document)
        if tag is not None and none_match(exchange.header("if-none-match")) & {tag, "*"}:
            answer = HttpAnswer(304, media_type=None)
        else:
            answer = HttpAnswer(200, document.body)
        if tag is not None:
            answer.add(b"etag", f'"{tag}"')
            answer.add(b"tidemill-version", str(document.version))
        return read.finished(answer)

    async def _page(self, exchange: Exchange) -> HttpAnswer:
        collection, native = readable(self.collections, exchange), demand_json(exchange.header("accept"))
        request = page_request(collection, exchange.pairs)
        answer, page = await self._paged(exchange, collection, request, native=native)
        if page.next is not None:
            answer.add(b"link", f'<{_next_url(exchange, page.next)}>; rel="next"')
        return answer

    async def _query(self, exchange: Exchange) -> HttpAnswer:
        collection, native = readable(self.collections, exchange), demand_json(exchange.header("accept"))
        _demand_no_parameters(exchange)
        request = body_request(collection, await exchange.json())
        answer, _ = await self._paged(exchange, collection, request, native=native)
        return answer

    async def _paged(
        self, exchange: Exchange, collection: VisibleCollection, request: PageRequest, *, native: bool
    ) -> tuple[HttpAnswer, PageAnswer]:
        read = await ReadRun.begin(self, exchange, collection)
        whole = replace(request, numbers_native=native, timeout_s=self.timeout_s)
        with read.timed(_page_pattern(collection, request)) as run:
            page, partial = await self.reads.page(collection, whole, strict=exchange.prefer.strict)
            run.rows, run.sql = page.row_count, page.sql
        return read.finished(HttpAnswer(200, _query_response(page, partial, read.seconds))), page

    async def _count(self, exchange: Exchange) -> HttpAnswer:
        collection = readable(self.collections, exchange)
        demand_json(exchange.header("accept"))
        request = count_request(collection, exchange.pairs)
        read = await ReadRun.begin(self, exchange, collection)
        with read.timed(
            _pattern(collection, f"count {request.mode} {_filter_pattern(request.where)}")
        ) as run:
            counted, partial = await self.reads.count(
                collection, replace(request, timeout_s=self.timeout_s), strict=exchange.prefer.strict
            )
            run.sql = counted.sql
        incomplete = partial.as_json()
        return read.finished(
            json_answer(_counted(counted) | ({"incomplete": incomplete} if incomplete else {}))
        )


def _page_pattern(collection: VisibleCollection, request: PageRequest) -> str:
    """Return the shape of what is asked, without values."""
    where = _filter_pattern(request.where)
    sort = ",".join(("-" if key.descending else "") + key.column for key in request.sort)
    return _pattern(collection, f"page {where} sort {sort}")


def _filter_pattern(where: Filter) -> str:
    return "&".join(f"{part.column}.{part.operator}" for part in predicates(where))


def _pattern(collection: VisibleCollection, what: str) -> str:
    return f"{collection.name}: {what}"


def _tag(collection: VisibleCollection, document: Document) -> str | None:
    """Return the tag of a version: of a state `v`, which commands may demand; of a read model `r`, its own count."""
    if document.version is None:
        return None
    kind = "v" if collection.collection.kind is CollectionKind.STATE else "r"
    return f"{kind}{document.version}"


def _query_response(page: PageAnswer, partial: PartialAnswer, seconds: float) -> bytes:
    """Return the specification's QueryResponse; the rows are JSON already."""
    more: dict[str, Any] = {} if page.count is None else {"count": _counted(page.count)}
    if incomplete := partial.as_json():
        more["incomplete"] = incomplete
    members = "".join(f', "{name}": {json.dumps(value)}' for name, value in more.items()).encode()
    return b"".join(
        (
            b'{"success": true, "data": {"rows": ',
            page.rows,
            b', "next": ',
            json.dumps(page.next).encode(),
            members,
            b'}, "execution_time": ',
            b"%.6f" % seconds,
            b', "row_count": %d, "cache_hit": false, "error_message": null}' % page.row_count,
        )
    )


def _counted(counted: CountAnswer) -> dict[str, Any]:
    at_least = {"at_least": True} if counted.at_least else {}
    return {"count": counted.count, "mode": str(counted.mode), **at_least}


def _next_url(exchange: Exchange, cursor: str) -> str:
    kept = [part for part in exchange.query.split(b"&") if part and not part.startswith(b"_after=")]
    query = b"&".join([*kept, b"_after=" + quote(cursor, safe="").encode()])
    return f"{exchange.path.decode('latin-1')}?{query.decode('latin-1')}"


def _demand_no_parameters(exchange: Exchange) -> None:
    if exchange.pairs:
        raise RequestRefused(
            RequestCode.BAD_PARAMETER, f"{exchange.pairs[0][0]}: a query by its body has no parameters"
        )


# --- the description -------------------------------------------------------------------------------------------------

_MODES: Final = {"type": "string", "enum": ["none", "exact", "estimated", "capped"], "default": "none"}
_MODE: Final = Parameter(
    "_mode", "query", "How it is counted; `capped` ends at 10,001.", {**_MODES, "default": "exact"}
)
_PAGE: Final = (
    shapes.COLLECTION,
    shapes.FIELDS,
    shapes.WHERE,
    Parameter("_sort", "query", "Fields, separated by commas, `-` before a descending one."),
    Parameter(
        "_limit",
        "query",
        "At most so many documents.",
        {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    ),
    Parameter("_after", "query", "The cursor of the next page, from `data.next` of the page before."),
    Parameter("_count", "query", "Whether the documents are counted, too.", _MODES),
    shapes.PREFER,
    shapes.SEEN,
)
_COUNT: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["count", "mode"],
    "properties": {
        "count": {"type": "integer"},
        "mode": {"type": "string"},
        "incomplete": {"type": "array", "items": {"type": "object"}},
        "at_least": {"type": "boolean", "description": "There are more."},
    },
}
_QUERY: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "where": {
            "type": ["object", "null"],
            "description": 'Such as `{"price": {"gte": 100}}`; also `_or`, `_not`.',
        },
        "fields": {"type": ["array", "null"], "items": {"type": "string"}},
        "sort": {"type": ["array", "null"], "items": {"type": "string"}, "maxItems": 4},
        "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000},
        "after": {"type": ["string", "null"]},
        "count": {"type": ["string", "null"], "enum": [None, *_MODES["enum"]]},
    },
}
