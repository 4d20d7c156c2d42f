"""Requests that no honest client sends, as bytes, and what a server may make of them: a problem, or the end."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from tests.support.http.api import new_key, tick
from tests.support.waiting import HANGING_S

MEBIBYTE: Final = 1 << 20
LIST: Final = "/api/db/market-data?time.gte=2020-01-01T00:00:00Z"

PATHS: Final[Sequence[bytes]] = (
    *(b"/api/db/" + part for part in (b"%00", b"%FF", b"%2F", b"%", b"%zz", b"%C0%AF", b"\xff", b"a" * 8193)),
    *(
        b"/api/db/connector-profiles/" + part
        for part in (b"%00", b"%2F", b"%FF", b"..", b"a,b", b"%2C", b"x" * 7000)
    ),
    *(
        b"/api/db/daily-bars/" + part
        for part in (b"A", b"A,b,c", b"A,infinity", b"A,0000-01-01", b"A,10000-01-01")
    ),
    *(
        b"/" + part
        for part in (b"", b"/", b"//api/db", b"api/../api/db/stats", b"api/db//", b"api/db/", b"%2e%2e")
    ),
    *(
        b"/api/db/" + part
        for part in (b"schema/%00", b"commands/%00", b"commands/%FF", b"commands/" + b"z" * 300)
    ),
)
QUERIES: Final[Sequence[bytes]] = (
    b"&".join([b"a=1"] * 2_000),
    *(b"%s=1" % name for name in (b"%FF", b"%00", b"__proto__", b"$where", b"constructor", b"a'b", b'"x"')),
    *(
        b"%s=1" % name
        for name in (b"profile_data", b"symbol.gte.lt", b"symbol.", b".eq", b"_nope", b"symbol;--")
    ),
    *(
        b"symbol=" + text
        for text in (b"%ED%A0%80", b"%00", b"%F4%90%80%80", b"a" * 7_000, b"%F0%9F%98%80", b"")
    ),
    *(b"symbol.%s=a" % name for name in (b"like", b"search", b"has", b"~", b"in.in", b"EQ", b"contains")),
    *(
        b"_sort=" + names
        for names in (b"", b",", b"-", b"--time", b"time,time", b"a,b,c,d,e", b"1", b"time desc")
    ),
    *(
        b"_limit=" + size
        for size in (b"0", b"-1", b"1001", b"1e3", b"9" * 400, b"%D9%A1", b"", b"+1", b"NaN")
    ),
    *(
        b"_where=" + quote(text).encode()
        for text in ("[]", "null", "{", '{"_or":[]}', '{"a":1,"a":1}', '"x"', "1")
    ),
    b"_where=" + quote('{"_not":' * 70 + "{}" + "}" * 70).encode(),
    *(b"_after=" + text for text in (b"", b"AAAA", b"%00", b"=", b"-" * 3_000, b"%FF")),
    *(b"_fields=" + names for names in (b"", b",", b"symbol,symbol", b"*", b"count(*)", b"_where")),
    *(b"_count=" + mode for mode in (b"", b"all", b"EXACT", b"exact&_count=none")),
)
NUMBERS: Final = (
    *(str(number) for number in (2**53 - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1)),
    *(
        "1e400",
        "-0",
        "-1e400",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "0x10",
        "1_000",
        " 1",
        "1 ",
        "",
        "1e",
        "٣",
    ),
    *("1" * 400, "1" * 4_000, "1e-400", "0." + "0" * 400 + "1", "1e99999999"),
)
TIMES: Final = (
    *("infinity", "-infinity", "now", "epoch", "today", "allballs", "2016-12-31T23:59:60Z", "24:00:00"),
    *("0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "294277-01-01T00:00:00Z", "-4714-01-01T00:00:00Z"),
    *(
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+02:00",
        "2026-01-01T00:00:00+99:00",
        "2026-02-30T00:00:00Z",
    ),
    *(
        "2026-01-01T00:00:00.1234567Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01",
        "1",
        "",
        "9" * 30,
        "2026-01-01T00:00Z",
    ),
)
BODIES: Final[Sequence[bytes]] = (
    *(
        b"",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"{",
        b"{}",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":2}',
        b"\xff",
        b"\x00",
    ),
    *(
        b'"' + b'\\"' * 500_000,
        b'{"a":"' + b'\\"' * 500_000,
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"[" * 60 + b"]" * 60,
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
    ),
    *(
        b'{"a":%s}' % (b"1" * 5_000),
        b'{"a":"\\ud800"}',
        b'{"a":"\\u0000"}',
        b'{"\\ud800":1}',
        b'{"__proto__":{}}',
    ),
    *(b'{"a":"%s"}' % (b"x" * MEBIBYTE), b'{"where":{"symbol":{"in":[%s]}}}' % b",".join([b'"A"'] * 1_001)),
    *(
        b'{"where":%s}' % part
        for part in (b"[]", b"1", b'{"symbol":null}', b'{"symbol":{"eq":{}}}', b'{"_or":1}')
    ),
    *(b'{"where":{"symbol":{"%s":1}}}' % part for part in (b"", b"eq", b"like", b"__proto__", b"in", b"is")),
    *(b'{"sort":%s}' % part for part in (b'"time"', b"[1]", b'[""]', b"{}", b'["time desc; --"]')),
    *(b'{"limit":%s}' % part for part in (b"1.5", b"true", b'"1"', b"-1", b"1e3", b"99999999999999999999")),
    *(b'{"fields":%s}' % part for part in (b'"symbol"', b"[1]", b"[[]]", b'["*"]')),
)
HEADERS: Final[Sequence[Sequence[tuple[str, str]]]] = (
    [("Idempotency-Key", "a"), ("Idempotency-Key", "b")],
    [("If-Match", '"v1"'), ("If-Match", '"v2"')],
    [("Tidemill-Seen", "market-data.0=1"), ("Tidemill-Seen", "market-data.1=1")],
    [("Tidemill-Seen", ", ".join(f"market-data.{number}=1" for number in range(65)))],
    *(
        [("Tidemill-Seen", text)]
        for text in ("", "x", "market-data.0=1;t=2", "market-data.99=1", "nope.0=1", "a.0=-1")
    ),
    *(
        [("Tidemill-Seen", text)]
        for text in ("market-data.0=999999999999999", "market-data.0=1;t=99999999", "=" * 9_000)
    ),
    *(
        [("Prefer", text)]
        for text in ("wait=-1", "wait=1e999", "wait=nan", "wait=", "wait=9999", "wait=0, wait=5", "=")
    ),
    *(
        [("Prefer", text)]
        for text in ("," * 1_000, "return=nothing", "wait=\xb2", "handling=strict, stale-ok")
    ),
    *([("Idempotency-Key", text)] for text in ("", " ", "x" * 201, '"', '"a', '"a"b"', "\xe9", "a\tb")),
    *(
        [("If-Match", text)]
        for text in ("", "*, *", '"v0"', '"v99999999999999999999"', '"r1"', "v1", '"v1", "v2"')
    ),
    *([("If-None-Match", text)] for text in ("", "*", '"v1"' * 1_000, '"' * 4_000, "W/")),
    *(
        [("Accept", text)]
        for text in ("", "text/html", "application/json;q=0", "*/*;q=2", "a/b" * 1_000, ";", "\xff")
    ),
    *(
        [("Content-Type", text)]
        for text in ("", "text/plain", "application/json; charset=utf-16", "multipart/form-data")
    ),
    [("Content-Type", "application/json"), ("Content-Type", "text/plain")],
    *(
        [("Authorization", text)]
        for text in ("", "Bearer", "Basic eDp5", "Bearer " + "a." * 2_000, "Bearer \xff")
    ),
    *([("traceparent", text)] for text in ("x", "00-" + "0" * 32, "z" * 9_000)),
    *([("X-Correlation-Id", text)] for text in ("", "x" * 9_000, "\xff", "a\tb")),
    *([("Host", text)] for text in ("", "evil.example", "[::1", "a" * 5_000)),
    [(f"X-{number}", "x") for number in range(500)],
)
UNPARSED: Final[Sequence[bytes]] = (
    *(
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\n",
    ),
    *(
        b"GET / HTTP/1.1\r\n%s\r\n\r\n" % line
        for line in (b"no colon", b": empty", b"a b: c", b"\xff: x", b"x:\x00")
    ),
    *(
        b"POST /api/db/market-data HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n{}" % line
        for line in (
            *(
                b"Content-Length: -1",
                b"Content-Length: 1, 2",
                b"Content-Length: x",
                b"Content-Length: " + b"9" * 40,
            ),
            *(
                b"Transfer-Encoding: nope",
                b"Transfer-Encoding: chunked",
                b"Transfer-Encoding: chunked\r\nContent-Length: 2",
            ),
            b"Content-Length: 2\r\nContent-Length: 3",
        )
    ),
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://evil.example/api/db/stats HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
)
"""What may end with the connection alone: it is not HTTP, or has no request in it yet."""


@dataclass(frozen=True)
class Raw:
    """A request as bytes. `is_http`: whether it has to be answered."""

    name: str
    data: bytes
    is_http: bool = True


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def fault(self) -> str:
        """Return what is wrong with it as an answer to any request; nothing is."""
        if self.status >= 500 and self.status not in {501, 503}:
            return f"{self.status}: {self.body[:300]!r}"
        if self.status < 400:
            return ""
        if self.headers.get("content-type") != "application/problem+json":
            return f"{self.status} is {self.headers.get('content-type')}: {self.body[:300]!r}"
        members = {
            "type",
            "title",
            "status",
            "detail",
            "instance",
            "code",
            "retry",
            "advice",
            "errors",
            "success",
        }
        missing = members - json.loads(self.body).keys() if self.body else set()
        return f"{self.status} lacks {missing}: {self.body[:300]!r}" if missing else ""


def raw_requests(token: str) -> Iterator[Raw]:
    """Return all of them."""
    own = [("Authorization", f"Bearer {token}")]
    yield from (_of("GET", path, own) for path in PATHS)
    yield from (_of("DELETE", path, own) for path in PATHS[:15])
    yield from (_of("GET", LIST.encode() + b"&" + query, own) for query in QUERIES)
    yield from (
        _of("GET", LIST.encode().replace(b"?", b"/count?") + b"&" + query, own) for query in QUERIES[::3]
    )
    for number in NUMBERS:
        for name in ("price.gte", "volume", "sequence.in"):
            yield _of("GET", f"{LIST}&{name}={quote(number)}".encode(), own)
    for time in TIMES:
        yield _of("GET", f"/api/db/market-data?time.gte={quote(time)}".encode(), own)
        yield _of("GET", f"{LIST}&time.lt={time.replace(' ', '%20')}".encode(), own)
    yield from _with_bodies(own)
    for headers in HEADERS:
        kept = [] if headers[0][0] == "Authorization" else own
        yield _of("GET", LIST.encode(), [*kept, *headers])
        typed = [] if headers[0][0] == "Content-Type" else [("Content-Type", "application/json")]
        body = json.dumps({"name": new_key(), "profile_data": {}}).encode()
        yield _of("POST", b"/api/db/connector-profiles", [*kept, *typed, *headers], body)
        yield _of("PATCH", b"/api/db/connector-profiles/none", [*kept, *typed, *headers], body)
    yield from (Raw(f"unparsed {number}", data, is_http=False) for number, data in enumerate(UNPARSED))


def _with_bodies(own: list[tuple[str, str]]) -> Iterator[Raw]:
    typed = [*own, ("Content-Type", "application/json")]
    targets = {"query": "market-data/query", "create": "market-data", "command": "commands"}
    for path in targets.values():
        yield from (_of("POST", f"/api/db/{path}".encode(), typed, body) for body in BODIES)
    yield from (_of("PATCH", b"/api/db/connector-profiles/none", typed, body) for body in BODIES)
    ndjson = [*own, ("Content-Type", "application/x-ndjson")]
    yield from (_of("POST", b"/api/db/market-data", ndjson, body) for body in BODIES)
    for name, values in {"price": NUMBERS, "volume": NUMBERS, "time": TIMES, "symbol": NUMBERS}.items():
        for value in values:
            body = json.dumps(tick("HOSTILE") | {name: value}).encode()
            yield _of("POST", b"/api/db/market-data", typed, body)
    for literal in NUMBERS[:9]:
        text = json.dumps(tick("HOSTILE") | {"price": "LITERAL"}).replace('"LITERAL"', literal)
        yield _of("POST", b"/api/db/market-data", typed, text.encode())


def _of(method: str, target: bytes, headers: Sequence[tuple[str, str]], body: bytes | None = None) -> Raw:
    lines = [b"%s %s HTTP/1.1" % (method.encode(), target)]
    if not any(name == "Host" for name, _ in headers):
        lines.append(b"Host: localhost")
    lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    if method != "GET" and not any(name == "Prefer" for name, _ in headers):
        lines.append(b"Prefer: respond-async")
    shown = b" ".join([method.encode(), target[:100], (body or b"")[:60]]) + repr(headers[1:])[:100].encode()
    return Raw(
        shown.decode("latin-1"), b"\r\n".join([*lines, b"Connection: close", b"", b""]) + (body or b"")
    )


def connected(url: str) -> socket.socket:
    """Return a connection to a server; what hangs ends it."""
    place = urlsplit(url)
    assert place.hostname is not None
    return socket.create_connection((place.hostname, place.port or 80), timeout=HANGING_S)


def ask(url: str, request: Raw) -> Said | None:
    """Send a request and return what is answered until the connection ends; None: it ended without an answer."""
    with connected(url) as wire:
        with suppress(OSError):  # it is refused before all of it was sent: the answer may be there
            wire.sendall(request.data)
        if not request.is_http:
            shut(wire)
        return said(wire)


def shut(wire: socket.socket) -> None:
    """Tell the server that no more comes."""
    with suppress(OSError):  # it has closed already
        wire.shutdown(socket.SHUT_WR)


def said(wire: socket.socket) -> Said | None:
    """Return what a server says until it closes the connection."""
    data = bytearray()
    with wire, suppress(ConnectionError):  # reset: what came before it counts
        while part := wire.recv(1 << 16):
            data += part
    return parsed(bytes(data))


def parsed(data: bytes) -> Said | None:
    """Return the first answer in what was received."""
    head, ended, body = data.partition(b"\r\n\r\n")
    if not ended:
        return None
    status, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, Any] = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return Said(int(status.split()[1]), headers, body)
