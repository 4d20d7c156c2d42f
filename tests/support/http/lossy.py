"""A wire between a client and a server of HTTP that loses requests and answers at random."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from random import Random
from typing import Final
from urllib.parse import urlsplit

from tests.support.waiting import HANGING_S


class Loss(StrEnum):
    """What becomes of a connection, which carries one request."""

    NOTHING = "nothing"
    REQUEST = "the request"
    ANSWER = "the answer"
    HALF = "half of the answer"


USUAL: Final = (Loss.NOTHING, Loss.NOTHING, Loss.NOTHING, Loss.REQUEST, Loss.ANSWER, Loss.ANSWER, Loss.HALF)


class LossyProxy:
    """Forwards connections to `url`; what each loses is chosen at random from `losses`. `lost` counts."""

    def __init__(self, url: str, random: Random, losses: tuple[Loss, ...] = USUAL) -> None:
        self._server = urlsplit(url)
        self._random = random
        self._losses = losses
        self._listening: asyncio.Server | None = None
        self._wires: set[asyncio.Task[None]] = set()
        self.lost: Counter[Loss] = Counter()

    @property
    def url(self) -> str:
        """Return where it listens."""
        assert self._listening is not None
        return f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    def lead_to(self, url: str) -> None:
        """Lead later connections to another server."""
        self._server = urlsplit(url)

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
        loss = self._random.choice(self._losses)
        self.lost[loss] += 1
        wire = asyncio.create_task(self._carry(client, to_client, loss))
        self._wires.add(wire)
        wire.add_done_callback(self._wires.discard)

    async def _carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, loss: Loss) -> None:
        try:
            if loss is Loss.REQUEST:
                await client.read(1)
            else:
                await self._forward(client, to_client, loss)
        except OSError:
            pass  # one end is gone: so is the other, below
        finally:
            to_client.close()  # what was written still arrives

    async def _forward(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, loss: Loss
    ) -> None:
        server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        forth = asyncio.create_task(_copy(client, to_server))
        try:
            await _answer(server, to_client, loss)
        finally:
            forth.cancel()
            to_server.transport.abort()


async def _answer(server: asyncio.StreamReader, to_client: asyncio.StreamWriter, loss: Loss) -> None:
    """Forward an answer, as far as it is not lost: it was sent then."""
    while said := await server.read(1 << 16):
        if loss is Loss.ANSWER:
            return
        to_client.write(said[: len(said) // 2] if loss is Loss.HALF else said)
        await to_client.drain()
        if loss is Loss.HALF:
            return


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while said := await source.read(1 << 16):
        target.write(said)
        await target.drain()


@contextmanager
def lossy(*urls: str, seed: int, losses: tuple[Loss, ...] = USUAL) -> Iterator[list[LossyProxy]]:
    """A proxy to each server, all in one thread, while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="lossy")
    thread.start()
    proxies = [LossyProxy(url, Random(f"{seed} {number}"), losses) for number, url in enumerate(urls)]
    try:
        for proxy in proxies:
            asyncio.run_coroutine_threadsafe(proxy.open(), loop).result(HANGING_S)
        yield proxies
    finally:
        for proxy in proxies:
            asyncio.run_coroutine_threadsafe(proxy.close(), loop).result(HANGING_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(HANGING_S)
        loop.close()
