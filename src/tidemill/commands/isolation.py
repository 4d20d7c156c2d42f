"""Isolation: a record that may have ended processes is tried while this process does nothing else.

A process that dies takes all its batches with it. If such a record were tried beside others, an innocent record
that was tried beside it a few times would be parked, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class IsolationGate:
    """Shared by all intakes of a process: many batches together, or one isolated attempt, in order of arrival."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._batches = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Work beside others; waits while an isolated attempt runs or waits."""
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
        """Work alone; waits for what is in flight, and blocks everything else."""
        async with self._turn:
            await self._quiet.wait()
            yield
