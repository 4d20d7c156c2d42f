"""Services that look now and then: they say what they do at each look, and when to look again is decided here."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

from tidemill.domain.errors import TransientError
from tidemill.runtime.pauses import stopped_within
from tidemill.runtime.service import Health

EVERY_S: Final = 10.0


class Periodic(ABC):
    """A `Service` that looks, pauses, and looks again. What is under way at the stop comes to its end.

    `problem`: why the last look could not be done, empty if it was.
    """

    def __init__(self, *, every_s: float) -> None:
        """`every_s`: how long it pauses between two looks. Nothing is done before `run`."""
        self.problem = ""
        self._every_s = every_s
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()

    @abstractmethod
    async def look(self) -> bool | None:
        """Do what is due; return whether more is, so that there is no pause. Raises `TransientError`."""

    def put_off(self, error: TransientError) -> None:  # noqa: B027  most leave it to others to tell
        """Hear that a look could not be done and will be at the next time; `problem` is still that of the last one."""

    async def start(self) -> None:  # noqa: B027  most have nothing to make ready
        """Nothing to prepare."""

    async def run(self) -> None:
        """Look again and again until `stop`. Raises what is not a `TransientError`."""
        while not self._stopping.is_set():
            self._news.clear()
            if not await self._is_more_due():
                await stopped_within(self._news, self._every_s)

    async def _is_more_due(self) -> bool:
        try:
            more = await self.look()
        except TransientError as error:
            self.put_off(error)
            self.problem = str(error)
            return False
        self.problem = ""
        return bool(more)

    def wake(self) -> None:
        """Look at once instead of after the pause: there may be something to do."""
        self._news.set()

    async def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()
        self._news.set()

    def health(self) -> Health:
        """Return that it is healthy: the servers have probes of their own."""
        return Health(ok=True)


class Watch(Periodic):
    """One that sets metrics: a server that is unavailable is left to others to report and to wait for.

    A look under way is let go of at the stop: one that waits for a silent server would outlast the drain.
    """

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        """`every_s`: how long it pauses between two looks."""
        super().__init__(every_s=every_s)

    @abstractmethod
    async def look(self) -> None:
        """Ask, and set the metrics. Raises `TransientError`."""

    async def run(self) -> None:
        """Look again and again until `stop`."""
        looking = asyncio.create_task(super().run())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            looking.cancel()
            stopping.cancel()
            with suppress(asyncio.CancelledError):
                await looking
