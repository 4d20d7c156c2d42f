"""HTTP for a port that anybody may reach: few connections, each for one request and a few seconds.

uvicorn waits for a first byte without a limit, and counts requests, not connections: silent ones would take all files
that the process may open, and then it reaches neither Kafka nor the database.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 64
CONNECTION_S: Final = 5.0


class GuardedProtocol(H11Protocol):
    """A connection that is cut after `connection_s`, or when it is the oldest of more than `max_connections`.

    The oldest, not the newest: a request is answered at once, so what is old is silent, slow, or does not read.
    """

    max_connections = MAX_CONNECTIONS
    connection_s = CONNECTION_S
    opened_at = 0.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Make room for the connection, and set its deadline."""
        super().connection_made(transport)
        self.opened_at = self.loop.time()
        self._deadline = self.loop.call_later(self.connection_s, transport.abort)
        guarded = [held for held in self.connections if isinstance(held, GuardedProtocol)]
        if len(guarded) > self.max_connections:
            min(guarded, key=lambda held: held.opened_at).cut()

    def cut(self) -> None:
        """End the connection now, whatever is under way, and no longer count it."""
        self.connections.discard(self)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)
