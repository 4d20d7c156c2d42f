"""A pool that is opened when it is first needed: a verb that needs no database does not connect to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tidemill.storage.database.pool import Connection, Pool


class LazyPool:
    """For `pool.connection`, like a pool. Borrowing raises what opening raises; then it is opened at the next call."""

    def __init__(self, open_pool: Callable[[], Awaitable[Pool]]) -> None:
        """`open_pool`: the caller closes what it opens."""
        self._open_pool = open_pool
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[Connection]:
        """Lend a connection. Raises `TimeoutError` if none was free within `timeout` seconds."""
        pool = await self.opened()
        async with pool.acquire(timeout=timeout) as borrowed:
            yield borrowed

    async def opened(self) -> Pool:
        """Return the pool itself. Raises what opening raises."""
        async with self._opening:
            if self._pool is None:
                self._pool = await self._open_pool()
            return self._pool
