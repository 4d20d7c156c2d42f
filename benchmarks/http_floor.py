"""The least that an ASGI application does: 200 bytes of JSON."""

from __future__ import annotations

from typing import Any

BODY = b'{"data": "' + b"x" * 188 + b'"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"200")]


async def application(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """Answer."""
    assert scope["type"] in {"http", "lifespan"}
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})
