"""A wire between this process and a broker that drops answers at random: what was asked has happened, unheard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest

from tidemill.transport.kafka.client import start


class BrokerWire:
    """Forwards connections to one broker. `loss`: how likely an answer is dropped, with its connection.

    `losses` counts those that were.
    """

    def __init__(self, bootstrap: str, random: Random) -> None:
        host, _, port = bootstrap.partition(":")
        self._broker = host, int(port)
        self._random = random
        self._carried: set[asyncio.Task[None]] = set()
        self.loss = 0.0
        self.losses = 0
        self.port = 0
        self._loses_next = False

    @asynccontextmanager
    async def open(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """Lead all of this process's connections to the broker through here, until the block ends."""
        listening = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        wire = self

        class Through(start.Connection):
            async def connect(self) -> Any:
                self._host, self._port = "127.0.0.1", wire.port
                return await super().connect()

        with monkeypatch.context() as patched:
            patched.setattr(start, "Connection", Through)
            yield
        listening.close()
        for carried in self._carried:
            carried.cancel()
        if self._carried:
            await asyncio.wait(self._carried)

    def cut(self) -> None:
        """End every connection at once."""
        for carried in self._carried:
            carried.cancel()

    def lose_next(self) -> None:
        """Drop the next answer: of a few large batches, chance may drop none."""
        self._loses_next = True

    def _is_lost(self) -> bool:
        lost = self._loses_next or self._random.random() < self.loss
        self._loses_next = False
        self.losses += lost
        return lost

    def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        carried = asyncio.create_task(self._carry(client, to_client))
        self._carried.add(carried)
        carried.add_done_callback(self._carried.discard)

    async def _carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            server, to_server = await asyncio.open_connection(*self._broker)
            ways = [
                asyncio.create_task(self._forward(client, to_server)),
                asyncio.create_task(self._answer(server, to_client)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                for end in (to_client, to_server):
                    end.transport.abort()

    async def _forward(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while said := await client.read(1 << 16):
            to_server.write(said)
            await to_server.drain()

    async def _answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while said := await server.read(1 << 16):
            if self._is_lost():
                return
            to_client.write(said)
            await to_client.drain()
