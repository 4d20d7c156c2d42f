"""Parts of a pool: so many connections for one purpose, so that who waits there leaves the others theirs.

All streams of a process share its connections. Some of them may wait for locks, each for seconds: a claim for whoever
had its lanes before (and then needs a second connection, to end him), a lane that is given back for the batch that is
still in flight, a read model for another process. Whatever waits so, batches find the connections of their workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tidemill.storage.database.pool import Connection, Lender, Pool

CLAIMS: Final = 4
"""How many streams claim at once; more of them take turns."""

RESCUES: Final = 2
"""How many claims at once end whoever blocks them."""

QUESTIONS: Final = 3
"""For short statements: halts, trials, lanes that are given back."""

KEEPING: Final = 1
"""For the generations of the log, whose filters take minutes."""


class PoolPart:
    """At most `size` connections of a pool at a time; for `pool.connection`, like a pool."""

    def __init__(self, pool: Lender, size: int) -> None:
        self._pool = pool
        self._free = asyncio.Semaphore(size)

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[Connection]:
        """Lend a connection. Raises `TimeoutError` if none was free within `timeout` seconds."""
        deadline_s = asyncio.get_running_loop().time() + timeout
        async with asyncio.timeout_at(deadline_s):
            await self._free.acquire()
        try:
            left_s = deadline_s - asyncio.get_running_loop().time()
            async with self._pool.acquire(timeout=left_s) as borrowed:
                yield borrowed
        finally:
            self._free.release()


class DividedPool:
    """The pool of a process's way in, by what a connection is for; `pool` itself is for batches, one to a worker."""

    def __init__(self, pool: Pool) -> None:
        """`pool`: of `size_for` as many connections as there are workers."""
        self.pool = pool
        self.claims = PoolPart(pool, CLAIMS)
        self.rescues = PoolPart(pool, RESCUES)
        self.questions = PoolPart(pool, QUESTIONS)


def size_for(workers: int) -> int:
    """Return how many connections the way in of one process needs, however many streams it has."""
    return workers + CLAIMS + RESCUES + QUESTIONS + KEEPING
