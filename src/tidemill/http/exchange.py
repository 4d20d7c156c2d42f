"""One request: what a handler may ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import cached_property
from typing import Any, Final

from tidemill.domain.errors import RequestFault, RequestRefused, TidemillError
from tidemill.domain.request_codes import RequestCode
from tidemill.http.answer import Header
from tidemill.http.json_body import bad_body, json_of, object_of
from tidemill.http.preferences import Preferences, bad_header, preferences
from tidemill.http.url import Pairs, pairs, text_of
from tidemill.security.principals import Principal

MAX_BODY_BYTES: Final = 1 << 20
BODY_WITHIN_S: Final = 10.0

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_MERGE_PATCH: Final = "application/merge-patch+json"
_SINGLE: Final = frozenset({"authorization", "content-type", "idempotency-key", "if-match", "tidemill-seen"})
"""Headers that change what a request means: two are refused, since readers differ in which one counts."""


class ClientLeft(TidemillError):
    """The client closed the connection: nobody reads an answer."""


class Exchange:
    """A request, with the principal once it is known. `raw`: the segments of the path that its route names."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive) -> None:
        """Read nothing before it is asked for, but the headers."""
        self.scope = scope
        self.method: str = scope["method"]
        self.path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope["query_string"]
        self.headers = _headers(scope["headers"])
        self.raw: Mapping[str, bytes] = {}
        self.principal: Principal | None = None
        self.outgoing: list[Header] = []
        """Headers of the answer, whatever it is."""
        self._receive = receive
        self._body: bytes | None = None

    @property
    def instance(self) -> str:
        """Return the path as it was asked for, for problems."""
        return self.path[:500].decode("latin-1")

    @property
    def caller(self) -> Principal:
        """Return the principal of a route that has one."""
        assert self.principal is not None
        return self.principal

    def segment(self, name: str) -> str:
        """Return a part of the path. Raises `RequestRefused`."""
        return text_of(self.raw[name], name)

    @cached_property
    def pairs(self) -> Pairs:
        """Return the parameters of the URL, in order. Raises `RequestRefused`."""
        return pairs(self.query)

    def parameters(self, *known: str) -> dict[str, str]:
        """Return the parameters of the URL, each at most once. Raises `RequestRefused` for another one."""
        given: dict[str, str] = {}
        for name, value in self.pairs:
            if name not in known or name in given:
                detail = "is given twice" if name in given else "there is no such parameter"
                raise RequestRefused(
                    RequestCode.BAD_PARAMETER,
                    f"{name}: {detail}",
                    RequestFault("parameter", name, detail, RequestCode.BAD_PARAMETER),
                )
            given[name] = value
        return given

    def header(self, name: str) -> str | None:
        """Return a header by its name in lower case. Raises `RequestRefused`: it comes twice, and may not."""
        values = self.headers.get(name)
        if values is None:
            return None
        if len(values) > 1 and name in _SINGLE:
            raise bad_header(name.title(), "comes more than once")
        return ", ".join(values)

    @cached_property
    def prefer(self) -> Preferences:
        """Return what the client prefers. Raises `RequestRefused`."""
        return preferences(self.header("prefer"))

    def demand_type(self, *allowed: str) -> str:
        """Return the media type of the body, without parameters. Raises `RequestRefused`: it is not allowed."""
        stated = (self.header("content-type") or "").split(";", 1)[0].strip().lower()
        if stated not in allowed:
            raise RequestRefused(
                RequestCode.MEDIA_TYPE,
                f"the body is {stated or 'of no named type'}; expected {' or '.join(allowed)}",
            )
        return stated

    async def body(self) -> bytes:
        """Return the whole body. Raises `RequestRefused`: too large, or too slow; `ClientLeft`."""
        if self._body is None:
            self._body = await self._read()
        return self._body

    async def json(self, *, patch: bool = False) -> Any:
        """Return the value of a JSON body. `patch`: a merge patch is one, too. Raises as `body`, and for bad JSON."""
        self.demand_type(*((_MERGE_PATCH, "application/json") if patch else ("application/json",)))
        return json_of(await self.body())

    async def object(self, *, patch: bool = False) -> dict[str, Any]:
        """Return the members of a JSON object. Raises as `json`."""
        self.demand_type(*((_MERGE_PATCH, "application/json") if patch else ("application/json",)))
        return object_of(await self.body())

    async def left(self) -> None:
        """Return when the client has left; only after the body was read, or if none is awaited."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _read(self) -> bytes:
        stated = self.header("content-length")
        if stated is not None and stated.isdigit() and int(stated) > MAX_BODY_BYTES:
            raise _too_large()
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                return await self._chunks()
        except TimeoutError:
            raise bad_body(f"did not arrive within {BODY_WITHIN_S:g} s") from None

    async def _chunks(self) -> bytes:
        whole = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            whole += message.get("body", b"")
            if len(whole) > MAX_BODY_BYTES:
                raise _too_large()
            if not message.get("more_body", False):
                return bytes(whole)


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in raw:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _too_large() -> RequestRefused:
    return RequestRefused(
        RequestCode.BODY_TOO_LARGE, f"the body is larger than the {MAX_BODY_BYTES} bytes that are read"
    )
