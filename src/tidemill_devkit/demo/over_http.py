"""One quote over HTTP: written, written again with its key, read back with the answer's token, found by a filter."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import httpx2

from tidemill.domain.errors import TidemillError, Unavailable
from tidemill.domain.messages import CommandBase
from tidemill_devkit.demo.poll import polled
from tidemill_devkit.demo.quotes import Quote

SPAN: Final = timedelta(days=14)
"""How long before the quote the page begins."""

_MAX_S: Final = 120.0
_WAIT: Final = {"Prefer": "wait=30"}
_ACCEPTED, _UNAVAILABLE = 202, 503
_KEY_FIELD, _MADE_BY_SERVER = "command_id", frozenset({"service_name", "timestamp", "correlation_id"})


@dataclass(frozen=True)
class QuoteWrite:
    """The answer to a write. `seen`: the token that shows it to readers."""

    outcome: str
    command_id: str
    seen: str


@dataclass(frozen=True)
class QuoteReads:
    """What was read: the latest quote of the symbol with the token of the write, and the quotes since `span_start`."""

    latest: Mapping[str, Any]
    page: Sequence[Mapping[str, Any]]


def span_start(quote: Quote) -> datetime:
    """Return the time from which on the page has the quotes of the symbol."""
    return quote.time - SPAN


async def write_quote(address: str, command: CommandBase) -> QuoteWrite:
    """Write a command's fields with its id as the key, and wait for the outcome. Raises `TidemillError`."""
    fields = command.model_dump(mode="json", exclude_none=True)
    body = {name: value for name, value in fields.items() if name not in {_KEY_FIELD, *_MADE_BY_SERVER}}
    headers = {"Idempotency-Key": command.command_id, **_WAIT}
    async with _client(address) as client:
        request = client.build_request("POST", "/api/db/market-data", headers=headers, json=body)
        answer = await _answered(client, request)
    content = answer.json()
    return QuoteWrite(str(content["outcome"]), str(content["command_id"]), str(content["seen"]))


async def read_quote(address: str, quote: Quote, seen: str) -> QuoteReads:
    """Read the latest quote of the symbol with a token, and a page with a filter. Raises `TidemillError`."""
    token = {"Tidemill-Seen": seen, **_WAIT}
    filters = {"symbol": quote.symbol, "time.gte": f"{span_start(quote):%Y-%m-%dT%H:%M:%SZ}"}
    query = {**filters, "_sort": "time", "_fields": "time,price"}
    async with _client(address) as client:
        latest = client.build_request("GET", f"/api/db/latest-quotes/{quote.symbol}", headers=token)
        page = client.build_request("GET", "/api/db/market-data", headers=token, params=query)
        answers = [await _answered(client, request) for request in (latest, page)]
    return QuoteReads(answers[0].json(), answers[1].json()["data"]["rows"])


def _client(address: str) -> httpx2.AsyncClient:
    """Return a client of this machine's own server: no proxy, and no certificate to be checked."""
    return httpx2.AsyncClient(base_url=address, trust_env=False, verify=False, timeout=_MAX_S)


async def _answered(client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    """Return the final answer: after 202 ask where it says, after 503 the same again."""
    asking = [request]

    async def ask() -> httpx2.Response | None:
        answer = await client.send(asking[-1])
        if answer.status_code == _ACCEPTED and "location" in answer.headers:
            asking.append(client.build_request("GET", answer.headers["location"]))
        return None if answer.status_code in {_ACCEPTED, _UNAVAILABLE} else answer

    what = f"{request.method} {request.url.path}"
    try:
        async with asyncio.timeout(_MAX_S):
            answer = await polled(ask)
    except (httpx2.HTTPError, TimeoutError) as error:
        raise Unavailable("the API", f"{what}: {str(error) or type(error).__name__}") from error
    if answer.is_error:
        raise TidemillError(f"{what}: {answer.status_code} {answer.text}")
    return answer
