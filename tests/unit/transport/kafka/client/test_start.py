"""A client that is given up while it starts leaves no connection open."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from tests.support.servers.certificates import Certificate, new_authority
from tests.support.waiting import HANGING_S, eventually, next_turn
from tidemill.domain.errors import Unavailable
from tidemill.transport.kafka.admin.producer import KeyedProducer
from tidemill.transport.kafka.catalog.topics import Topics
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.client.start import Connection

API_VERSIONS = 18


class DeafBroker:
    """Says which versions it speaks, then answers nothing any more: a broker that freezes just then."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._callers: set[asyncio.StreamWriter] = set()
        self.open = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._greet, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for caller in self._callers:
            caller.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self._callers.add(writer)
        size, api, _, correlation = struct.unpack("!ihhi", await reader.readexactly(12))
        await reader.readexactly(size - 8)
        assert api == API_VERSIONS
        versions = b"".join(struct.pack("!hhh", key, 0, 5) for key in range(API_VERSIONS + 1))
        answer = struct.pack("!ihi", correlation, 0, API_VERSIONS + 1) + versions
        writer.write(struct.pack("!i", len(answer)) + answer)
        await reader.read()  # until the other side goes away
        self.open -= 1


@pytest.fixture
async def broker() -> AsyncIterator[tuple[DeafBroker, KafkaConnection]]:
    deaf = DeafBroker()
    address = await deaf.start()
    yield deaf, KafkaConnection(bootstrap=address, call_timeout_s=0.3, close_timeout_s=0.3)
    await deaf.close()


async def producing(connection: KafkaConnection) -> None:
    async with KeyedProducer(connection, "goods") as producer:
        await producer.open()


async def administering(connection: KafkaConnection) -> None:
    await Topics(connection).describe(["goods"])


@pytest.mark.parametrize("starting", [producing, administering])
async def test_a_start_that_is_given_up_leaves_no_connection_open(
    broker: tuple[DeafBroker, KafkaConnection], starting: Any
) -> None:
    deaf, connection = broker
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        with pytest.raises(Unavailable):
            await starting(connection)
        gc.collect()
        await eventually(lambda: deaf.open == 0, what="the broker to be left by everybody")
    assert [str(complaint.message) for complaint in complaints] == []


def stand_still(listening: socket.socket, certificate: Certificate, over: threading.Event) -> None:
    """Take a TLS connection, say which versions are spoken, then read nothing any more: not even that it is closed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    with context.wrap_socket(listening.accept()[0], server_side=True) as caller:
        correlation = struct.unpack("!ihhi", caller.recv(1 << 10)[:12])[3]
        caller.sendall(struct.pack("!iihi", 10, correlation, 0, 0))
        over.wait(HANGING_S)


async def test_a_tls_connection_is_closed_without_the_other_sides_consent(tmp_path: Path) -> None:
    authority, over = new_authority(tmp_path, "authority"), threading.Event()
    server = authority.sign("server", host="localhost")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        broker = threading.Thread(target=stand_still, args=(listening, server, over))
        broker.start()
        context = ssl.create_default_context(cafile=authority.cert)
        port = listening.getsockname()[1]
        connection = Connection("localhost", port, security_protocol="SSL", ssl_context=context)
        try:
            await connection.connect()
            async with asyncio.timeout(HANGING_S):
                await connection.close()
        finally:
            over.set()
            broker.join()


# --- a connection that was reset -------------------------------------------------------------------------------------


def test_what_is_sent_over_a_connection_that_was_just_reset_fails_as_the_client_expects() -> None:
    """On the event loop that processes use: there it is another error until the client's reader hears of the reset."""

    async def failures() -> list[Exception]:
        broker = DeafBroker()
        host, _, port = (await broker.start()).rpartition(":")
        connection = Connection(host, int(port), request_timeout_ms=1_000)
        await connection.connect()
        connection._writer.transport.abort()
        failures: list[Exception] = []
        waiting = []
        for _ in range(10):
            try:
                waiting.append(asyncio.ensure_future(connection.send(MetadataRequest([]))))
            except Exception as error:  # noqa: BLE001  whatever it is, it is looked at
                failures.append(error)
            await next_turn()
        await asyncio.gather(*waiting, return_exceptions=True)
        await broker.close()
        return failures

    found = uvloop.run(failures())
    assert any(isinstance(each.__cause__, RuntimeError) for each in found), "nothing was sent in time"
    assert all(isinstance(each, KafkaConnectionError) for each in found), found
