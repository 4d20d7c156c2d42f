"""A call that several tasks need the result of at the same time: it is made once, and each may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class SharedCall:
    """Makes a call at most once at a time. A task that waits may be cancelled without ending it."""

    def __init__(self, call: Callable[[], Awaitable[None]]) -> None:
        """`call`: handles its own errors; one that it raises reaches those who wait."""
        self._call = call
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Make the call unless it is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def wait(self) -> None:
        """Wait for the end of the call that was begun last, if there is one."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """End a call that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        await self._call()
