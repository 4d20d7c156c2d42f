"""The server on a real socket: slow, silent and broken clients, and the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.support.asgi_client import OneToken
from tests.support.waiting import HANGING_S
from tidemill.domain.errors import UsageError
from tidemill.http.answer import HttpAnswer, json_answer
from tidemill.http.api_protocol import MAX_HEAD_BYTES, ApiProtocol
from tidemill.http.exchange import Exchange
from tidemill.http.gateway import Gateway
from tidemill.http.route_table import Operation, RouteTable
from tidemill.http.server import HttpService, Listening


class Slow:
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()

    async def handler(self, _: Exchange) -> HttpAnswer:
        self.entered.set()
        await self.go_on.wait()
        return json_answer({"done": True})


async def _quick(_: Exchange) -> HttpAnswer:
    return json_answer({"ok": True})


@asynccontextmanager
async def serving(slow: Slow) -> AsyncIterator[HttpService]:
    operations = [
        Operation(method="GET", path="/quick", name="quick", summary="", handler=_quick, open=True),
        Operation(method="GET", path="/slow", name="slow", summary="", handler=slow.handler, open=True),
    ]
    service = HttpService(Gateway(RouteTable(operations), OneToken()), Listening("127.0.0.1", 0))
    await service.start()
    running = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        slow.go_on.set()
        await service.stop()
        await asyncio.wait_for(running, HANGING_S)


async def _exchange(service: HttpService, raw: bytes, *, end: bool = False) -> bytes:
    """Send bytes and return what comes until the server closes."""
    parts = urlsplit(service.address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(raw)
        if end:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), HANGING_S)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def _get(path: str, *more: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: t", "connection: close", *more, "", ""]).encode()


async def test_it_answers() -> None:
    async with serving(Slow()) as service:
        answer = await _exchange(service, _get("/quick"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body) == {"ok": True}


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"NONSENSE\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"]
)
async def test_what_is_no_http_gets_a_problem(raw: bytes) -> None:
    async with serving(Slow()) as service:
        answer = await _exchange(service, raw)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["code"] == "BAD_PARAMETER"


@pytest.mark.parametrize(
    "beginning", [b"", b"GET /quick HT", _get("/quick")[:-2]], ids=["silent", "slow", "no end"]
)
async def test_a_head_that_does_not_come_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr(ApiProtocol, "head_within_s", 0.01)
    async with serving(Slow()) as service:
        assert await _exchange(service, beginning) == b""


async def test_a_head_has_a_size() -> None:
    async with serving(Slow()) as service:
        line = f"x: {'y' * 8000}"
        lines = [line] * (2 * MAX_HEAD_BYTES // 8000)
        assert b"200" not in (await _exchange(service, _get("/quick", *lines)))[:20]


async def test_idle_connections_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApiProtocol, "max_connections", 2)
    async with serving(Slow()) as service:
        parts = urlsplit(service.address)
        first, kept = await asyncio.open_connection(parts.hostname, parts.port)
        others = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(2)]
        assert await asyncio.wait_for(first.read(), HANGING_S) == b""
        assert (await _exchange(service, _get("/quick"))).startswith(b"HTTP/1.1 200")
        for writer in (kept, *(writer for _, writer in others)):
            writer.close()


async def test_a_stop_ends_what_is_in_flight_first() -> None:
    slow = Slow()
    async with serving(slow) as service:
        asking = asyncio.create_task(_exchange(service, _get("/slow")))
        await asyncio.wait_for(slow.entered.wait(), HANGING_S)
        await service.stop()
        slow.go_on.set()
        assert b'"done": true' in await asking


@pytest.mark.parametrize(("drained_after_s", "left_s"), [(0.0, 7.0), (5.0, 2.0), (60.0, 1.0)])
async def test_what_is_left_of_the_time_after_writes_is_for_what_is_in_flight(
    drained_after_s: float, left_s: float
) -> None:
    """Both together are less than a process has; answers that were waited for are sent in any case."""
    now_s = 1_000.0

    async def drain() -> None:
        nonlocal now_s
        now_s += drained_after_s

    service = HttpService(
        Gateway(RouteTable([]), OneToken()), Listening("127.0.0.1", 0), drain=drain, now_s=lambda: now_s
    )
    await service.start()
    await service.stop()
    assert service._server is not None
    assert service._server.config.timeout_graceful_shutdown == left_s


async def test_a_taken_port_is_told() -> None:
    async with serving(Slow()) as service:
        port = urlsplit(service.address).port
        assert port is not None
        other = HttpService(Gateway(RouteTable([]), OneToken()), Listening("127.0.0.1", port))
        with pytest.raises(UsageError, match="TIDEMILL_HTTP_PORT"):
            await other.start()
