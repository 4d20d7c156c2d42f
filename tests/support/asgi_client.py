"""Requests to an ASGI application, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.http.gateway import Gateway
from tidemill.security.principals import Grant, Principal, PrincipalKind, Verb

ALL = Grant(frozenset(Verb))
SERVICE = Principal("svc", PrincipalKind.SERVICE, {"*": ALL})


class OneToken:
    """Knows the token `good`."""

    async def authenticate(self, authorization: str | None) -> Principal:
        if authorization != "Bearer good":
            raise RequestRefused(RequestCode.UNAUTHENTICATED, "no valid token")
        return SERVICE


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks a gateway. `leaves`: the client closes its connection once the request was sent."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.gone = asyncio.Event()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        body: bytes | Iterable[bytes] = b"",
        headers: Iterable[tuple[str, str]] = (),
        token: str | None = "good",
    ) -> Response | None:
        """Return the response, None if nothing was sent."""
        path, _, query = url.partition("?")
        sent: list[MutableMapping[str, Any]] = []
        parts = [body] if isinstance(body, bytes) else list(body)
        messages = [
            {"type": "http.request", "body": part, "more_body": number < len(parts)}
            for number, part in enumerate(parts, 1)
        ]

        async def receive() -> MutableMapping[str, Any]:
            if messages:
                return messages.pop(0)
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        if token is not None:
            raw.append((b"authorization", f"Bearer {token}".encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "client": ("127.0.0.1", 50_000),
            "headers": raw,
        }
        await self.gateway(scope, receive, send)
        if not sent:
            return None
        shown = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return Response(sent[0]["status"], shown, sent[1]["body"])
