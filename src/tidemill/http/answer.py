"""An answer, as it is sent."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

JSON: Final = b"application/json"

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]


@dataclass(slots=True)
class HttpAnswer:
    """Status, body and headers; the length is added when it is sent. `media_type`: None for an empty body."""

    status: int
    body: bytes = b""
    headers: list[Header] = field(default_factory=list)
    media_type: bytes | None = JSON

    def add(self, name: bytes, value: str) -> None:
        """Add a header; the name in lower case."""
        self.headers.append((name, value.encode("latin-1")))

    async def send(self, send: Send, *, with_body: bool = True) -> None:
        """Send it, for HEAD without its body."""
        headers = self.headers
        if self.media_type is not None:
            headers = [*headers, (b"content-type", self.media_type)]
        if self.status not in {204, 304}:
            headers = [*headers, (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body if with_body else b""})


def json_answer(content: Any, status: int = 200) -> HttpAnswer:
    """Return an answer with plain values as JSON."""
    return HttpAnswer(status, json.dumps(content, ensure_ascii=False, default=str).encode())
