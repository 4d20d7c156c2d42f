"""What is open to all: whether the process lives and is ready, and the pages for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tidemill.http.answer import HttpAnswer, json_answer
from tidemill.http.exchange import Exchange
from tidemill.http.openapi import document
from tidemill.http.pages import docs_page
from tidemill.http.route_table import Operation

Readiness = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Returns whether requests are answered now, and what is missing."""


def probe_operations(ready: Readiness) -> list[Operation]:
    """Return `/livez` and `/readyz`, for load balancers."""

    async def lives(_: Exchange) -> HttpAnswer:
        return json_answer({"status": "alive"})

    async def is_ready(_: Exchange) -> HttpAnswer:
        ok, _missing = ready()
        return json_answer({"status": "ready" if ok else "not ready"}, 200 if ok else 503)

    return [
        Operation(
            method="GET",
            path="/livez",
            name="livez",
            summary="Whether the process answers",
            tag="health",
            handler=lives,
            open=True,
            answers={200: ("It does.", {"type": "object"})},
        ),
        Operation(
            method="GET",
            path="/readyz",
            name="readyz",
            summary="Whether requests are answered now",
            tag="health",
            handler=is_ready,
            open=True,
            answers={
                200: ("They are.", {"type": "object"}),
                503: ("A server that it needs is unavailable, or it is about to end.", {"type": "object"}),
            },
        ),
    ]


def page_operation() -> Operation:
    """Return `/docs`, the page for people. It holds nothing of the deployment: what it shows it asks for."""
    page = docs_page()
    media_type = page.headers["Content-Type"].encode()
    headers = [(n.lower().encode(), v.encode()) for n, v in page.headers.items() if n != "Content-Type"]

    async def docs(_: Exchange) -> HttpAnswer:
        return HttpAnswer(200, page.body, headers=list(headers), media_type=media_type)

    return Operation(
        method="GET",
        path="/docs",
        name="docs",
        summary="This description as a page",
        tag="schema",
        handler=docs,
        open=True,
        described=False,
    )


def description_operation(operations: Iterable[Operation], version: str) -> Operation:
    """Return `/openapi.json`, which describes the operations."""
    body = json.dumps(document(operations, version), ensure_ascii=False).encode()

    async def openapi(_: Exchange) -> HttpAnswer:
        return HttpAnswer(200, body)

    return Operation(
        method="GET",
        path="/openapi.json",
        name="openapi",
        summary="This description",
        tag="schema",
        handler=openapi,
        described=False,
    )
