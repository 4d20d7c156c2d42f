"""Whether the database answers and takes writes, asked by a connection that it needs not share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from tidemill.storage.database.pool import Pool, Timeouts, connection

PROBE_TIMEOUTS: Final = Timeouts(connect_s=2.0, statement_ms=2_000, command_s=2.0)


class DatabaseProbe:
    """Asks the database; `open_pool` opens its connection, which the stack closes again."""

    name = "database"

    def __init__(self, open_pool: Callable[[AsyncExitStack], Awaitable[Pool]]) -> None:
        """Connect only when asked."""
        self._open_pool = open_pool
        self._shared = AsyncExitStack()
        self._pool: Pool | None = None

    async def ask(self) -> None:
        """Return if the database answers and takes writes. Raises `Unavailable`."""
        if self._pool is None:
            self._pool = await self._open_pool(self._shared)
        async with connection(self._pool, timeout_s=PROBE_TIMEOUTS.connect_s) as borrowed:
            await borrowed.fetchval("select 1")

    async def close(self) -> None:
        """Close the connection."""
        await self._shared.aclose()
