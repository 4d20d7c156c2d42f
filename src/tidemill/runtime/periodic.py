"""A service that does something periodically, and cancels it when it is told to end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

from tidemill.domain.errors import TransientError
from tidemill.runtime.service import Health

EVERY_S: Final = 10.0


class Watch(ABC):
    """A `Service` that sets metrics. Other services report an unavailable server and wait for it."""

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        """`every_s`: the pause between two runs. Connects nothing before `run`."""
        self._every_s = every_s
        self._stopping = asyncio.Event()

    @abstractmethod
    async def look(self) -> None:
        """Ask, and set the metrics. Raises `TransientError`."""

    async def start(self) -> None:  # noqa: B027  most have nothing to make ready
        """Nothing to prepare."""

    async def run(self) -> None:
        """Repeat until `stop`, which cancels the work: a wait for a silent server would outlast the drain."""
        looking = asyncio.create_task(self._look_forever())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            looking.cancel()
            stopping.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _look_forever(self) -> None:
        while True:
            with suppress(TransientError):
                await self.look()
            await asyncio.sleep(self._every_s)

    async def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def health(self) -> Health:
        """Return that it is healthy: the servers have probes of their own."""
        return Health(ok=True)
