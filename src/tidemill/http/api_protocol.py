"""HTTP connections of the API: a request arrives within some seconds and bytes, or its connection ends.

uvicorn waits for the rest of a request's head without a limit, keeps any size of it, and answers what it cannot parse
in plain text.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidemill.domain.request_codes import RequestCode

MAX_CONNECTIONS: Final = 2_000
HEAD_WITHIN_S: Final = 10.0
MAX_HEAD_BYTES: Final = 64 * 1024


class ApiProtocol(HttpToolsProtocol):
    """A connection. The oldest without a request is cut when there are more than `max_connections`."""

    max_connections = MAX_CONNECTIONS
    head_within_s = HEAD_WITHIN_S
    opened_at = 0.0
    _head_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Make room for the connection, and set the deadline of its first request."""
        super().connection_made(transport)
        self.opened_at = self.loop.time()
        self._expect_head()
        if len(self.connections) > self.max_connections:
            self._cut_an_idle_one()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what belongs to a head counts."""
        if self._in_head():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES + len(data):
                self.transport.abort()
                return
            self._expect_head()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Forget the deadline: the application has its own for the body."""
        self._head_bytes = 0
        self._forget_deadline()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._forget_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem, and end the connection."""
        body = json.dumps(_unparsed(msg)).encode()
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()

    def _in_head(self) -> bool:
        cycle: object = self.cycle  # None before the first request, whatever its type says
        return cycle is None or self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_within_s, self._give_up)

    def _give_up(self) -> None:
        self._deadline = None
        if self._in_head():
            self.transport.abort()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut_an_idle_one(self) -> None:
        idle = (held for held in self.connections if isinstance(held, ApiProtocol) and held._in_head())  # noqa: SLF001  of its own class
        oldest = min(idle, key=lambda held: held.opened_at, default=None)
        if oldest is not None:
            self.connections.discard(oldest)
            oldest.transport.abort()


def _unparsed(message: str) -> dict[str, Any]:
    code = RequestCode.BAD_PARAMETER
    return {
        "type": "urn:tidemill:problem:bad-parameter",
        "title": "Bad parameter",
        "status": code.status,
        "detail": message,
        "instance": "",
        "code": code,
        "retry": code.retry,
        "advice": code.advice,
        "errors": [],
        "success": False,
        "error_message": message,
    }
