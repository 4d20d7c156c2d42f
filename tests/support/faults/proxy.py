"""A wire between a process and PostgreSQL that can be cut at the moment when a commit is on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

from tests.support.waiting import HANGING_S

COMMIT = b"COMMIT;\x00"
LEDGER = b'COPY "tm"."batch"'
LOG = b'COPY "tm"."log"'
A_BEGINNING = 4096
"""So many bytes from the statement on hold some rows of a COPY, and never all of those of a large batch."""

Cut = Literal["before the commit", "after the commit"]


class Proxy:
    """Forwards every connection to PostgreSQL at `url`; `url` of its own leads through it.

    Once `cut_next` was called, the next COMMIT of a batch (its connection has written to the ledger) cuts the wire:
    `before the commit` the server never sees it, `after the commit` the client never sees the answer. `cuts` counts.
    Once `stop_in_next_copy` was called, the server sees only the beginning of the next COPY into the log, and the
    wire stays open; `stopped` says that it has come to that.
    """

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self._listening: asyncio.Server | None = None
        self._wanted: Cut | None = None
        self._copy_to_stop = False
        self._wires: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.stopped = False

    @property
    def url(self) -> str:
        assert self._listening is not None
        port = self._listening.sockets[0].getsockname()[1]
        user = self._server.netloc.rpartition("@")[0]
        return self._server._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()

    def cut_next(self, when: Cut) -> None:
        """Cut the wire at the next commit of a batch."""
        self._wanted = when

    def stop_in_next_copy(self) -> None:
        """Carry no more than the beginning of the next COPY into the log."""
        self._copy_to_stop = True

    async def open(self) -> None:
        """Begin to listen."""
        self._listening = await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def close(self) -> None:
        """Cut every wire."""
        if self._listening is not None:
            self._listening.close()
        for wire in self._wires:
            wire.cancel()
        if self._wires:
            await asyncio.wait(self._wires)

    def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        wire = asyncio.create_task(self._carry(client, to_client))
        self._wires.add(wire)
        wire.add_done_callback(self._wires.discard)

    async def _carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        wire = _Wire(self, client, to_client, server, to_server)
        try:
            await wire.carry()
        finally:
            for end in (to_client, to_server):
                end.transport.abort()

    def take_cut(self) -> Cut | None:
        """Return what was wanted, once."""
        wanted, self._wanted = self._wanted, None
        self.cuts += wanted is not None
        return wanted

    def take_stop(self) -> bool:
        """Return whether a COPY is to be stopped, once."""
        wanted, self._copy_to_stop = self._copy_to_stop, False
        return wanted


class _Wire:
    """One connection."""

    def __init__(
        self,
        proxy: Proxy,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client, self._to_client = client, to_client
        self._server, self._to_server = server, to_server
        self._in_batch = False
        self._mute = False

    async def carry(self) -> None:
        """Forward both ways until one end closes or the wire is cut."""
        ways = [asyncio.create_task(self._forth()), asyncio.create_task(self._back())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    async def _forth(self) -> None:
        while said := await self._client.read(1 << 16):
            self._in_batch |= LEDGER in said
            if self._in_batch and said.endswith(COMMIT):
                self._in_batch = False
                cut = self._proxy.take_cut()
                if cut == "before the commit":
                    return
                self._mute = cut is not None
            elif LOG in said and self._proxy.take_stop():
                await self._carry_a_beginning(said)
            self._to_server.write(said)
            await self._to_server.drain()

    async def _carry_a_beginning(self, said: bytes) -> None:
        """Carry the beginning of a COPY, then nothing until the server ends the wire.

        How much of a COPY the server sees before its client is stopped depends on the buffers of sockets otherwise.
        """
        while len(said) < said.index(LOG) + A_BEGINNING:
            said += await self._client.read(1 << 16)
        self._to_server.write(said[: said.index(LOG) + A_BEGINNING])
        await self._to_server.drain()
        self._proxy.stopped = True
        await asyncio.Event().wait()

    async def _back(self) -> None:
        while said := await self._server.read(1 << 16):
            if self._mute:
                return  # it is committed: the answer says so, and is lost here
            self._to_client.write(said)
            await self._to_client.drain()


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """A proxy to PostgreSQL at `url`, in a thread of its own, while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy")
    thread.start()
    proxy = Proxy(url)
    try:
        asyncio.run_coroutine_threadsafe(proxy.open(), loop).result(10)
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(HANGING_S)
        loop.close()
