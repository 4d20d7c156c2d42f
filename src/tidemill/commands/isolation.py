"""Isolation: a record that may have ended processes is tried while nothing else is in flight in this one.

A process that dies takes everything with it that it was working on. Were a suspect tried beside others, whoever had
bad luck with his company a few times would be parked with the culprit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class IsolationGate:
    """What all intakes of a process share: many batches together, or one suspect alone, as they come."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._batches = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Work beside others; waits while a suspect is tried, or waits to be."""
        async with self._turn:
            self._batches += 1
            self._quiet.clear()
        try:
            yield
        finally:
            self._batches -= 1
            if not self._batches:
                self._quiet.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Work alone; waits for what is in flight, and keeps everything else waiting."""
        async with self._turn:
            await self._quiet.wait()
            yield
