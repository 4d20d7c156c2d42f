"""Anybody may reach the port of `/health`: silent and slow connections take neither its files nor its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.support.waiting import HANGING_S
from tidemill.http.guarded_protocol import GuardedProtocol
from tidemill.http.health import serving

REQUEST = b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n"
HOUR_S = 3600.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Patient(GuardedProtocol):
    max_connections = 3
    connection_s = HOUR_S


class Hasty(GuardedProtocol):
    connection_s = 0.01


@asynccontextmanager
async def answering(protocol: type[GuardedProtocol]) -> AsyncIterator[tuple[str, int]]:
    async with serving(lambda: (True, {"lanes": 3}), "127.0.0.1", 0, protocol) as address:
        parts = urlsplit(address)
        assert parts.hostname is not None
        assert parts.port is not None
        yield parts.hostname, parts.port


async def connect(stack: AsyncExitStack, address: tuple[str, int]) -> Streams:
    reader, writer = await asyncio.open_connection(*address)
    stack.callback(writer.close)
    return reader, writer


async def end_of(reader: asyncio.StreamReader) -> bytes:
    """Return what is read until the server ends the connection; nothing if it cuts it."""
    try:
        return await asyncio.wait_for(reader.read(), HANGING_S)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("beginning", [b"", REQUEST[:7]], ids=["silent", "slow"])
async def test_a_connection_that_asks_nothing_is_cut(beginning: bytes) -> None:
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(answering(Hasty))
        reader, writer = await connect(stack, address)
        writer.write(beginning)
        assert await end_of(reader) == b""


async def test_beyond_the_most_connections_the_oldest_is_cut_and_the_newest_is_answered() -> None:
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(answering(Patient))
        silent = [await connect(stack, address) for _ in range(10)]
        reader, writer = await connect(stack, address)
        writer.write(REQUEST)
        answer = await end_of(reader)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b'{"lanes":3}')
        for older, _ in silent[: -Patient.max_connections + 1]:
            assert await end_of(older) == b""
        assert not any(later.at_eof() for later, _ in silent[-Patient.max_connections + 1 :])


async def test_a_connection_is_for_one_request() -> None:
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(answering(Patient))
        reader, writer = await connect(stack, address)
        writer.write(REQUEST + REQUEST)
        answer = await end_of(reader)
        assert answer.count(b"HTTP/1.1 200") == 1
        assert b"connection: close" in answer.lower()
