"""Parts of a pool: a number of connections per purpose, so that waits for one leave the others theirs.

All streams of a process share its connections. Some of them may wait for locks, each for seconds: a claim for the
previous owner (and then needs a second connection, to end it), a lane that is released for the batch
in flight, a read model for another process. Whatever waits, batches have the connections of their workers.
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
"""How many claims at once end the sessions that block them."""

QUESTIONS: Final = 3
"""For short statements: halts, isolated attempts, released lanes."""

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
    """The pool of a process's intakes, by purpose; `pool` itself is for batches, one per worker."""

    def __init__(self, pool: Pool) -> None:
        """`pool`: of `size_for` as many connections as there are workers."""
        self.pool = pool
        self.claims = PoolPart(pool, CLAIMS)
        self.rescues = PoolPart(pool, RESCUES)
        self.questions = PoolPart(pool, QUESTIONS)


def size_for(workers: int) -> int:
    """Return how many connections the intakes of one process need, however many streams it has."""
    return workers + CLAIMS + RESCUES + QUESTIONS + KEEPING
