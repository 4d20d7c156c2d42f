"""The health of the service as its callers see it: cached, and never slower than a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from tidemill.admin.service.models import HealthResponse
from tidemill.admin.service.ports import PoolReader, ServerInspector
from tidemill.admin.service.rows import ServerFacts
from tidemill.domain.errors import RequestRefused, TidemillError
from tidemill.runtime.clock import Clock
from tidemill.runtime.kept_answer import KeptAnswer

ASK_S: Final = 2.0
"""How long a silent server is waited for."""

KEPT_S: Final = 1.0


_OTHER_SERVERS: Final = {
    "kafka": "kafka is not available: nothing can be written, and read models stand still"
}


class HealthReader:
    """Whether requests can be answered. `close` it at the end."""

    def __init__(
        self,
        server: ServerInspector,
        pools: PoolReader,
        clock: Clock,
        *,
        missing: Callable[[], Collection[str]],
        ask_s: float = ASK_S,
    ) -> None:
        """`missing`: the servers that do not answer, of which the database is asked here."""
        self._server = server
        self._pools = pools
        self._clock = clock
        self._missing = missing
        self._ask_s = ask_s
        self._asking: asyncio.Task[ServerFacts] | None = None
        self._kept = KeptAnswer(self._look, clock, max_age_s=KEPT_S)

    async def read(self) -> HealthResponse:
        """Return the health, at most a second old. Takes `ask_s` at most, whatever the server does."""
        return await self._kept.get()

    async def close(self) -> None:
        """Let go of a question that has no answer."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _look(self) -> HealthResponse:
        missing = self._missing()
        problems = [text for server, text in _OTHER_SERVERS.items() if server in missing]
        facts, connected = None, True
        try:
            facts = await self._facts()
        except RequestRefused as refused:  # the server may be well: all connections are in use
            problems.append(refused.detail)
        except TidemillError as error:
            problems.append(str(error))
            connected = False
        if facts is not None and facts.timescaledb is None:
            problems.append("the database has no extension timescaledb")
        status = "healthy" if not problems else "degraded" if connected else "unhealthy"
        return HealthResponse.model_validate(
            {
                "status": status,
                "database_connected": connected,
                "timescaledb_available": facts is not None and facts.timescaledb is not None,
                "connection_pool_status": {
                    status.name or "": status.model_dump(exclude={"name"})
                    for status in self._pools.statuses()
                },
                "active_connections": 0 if facts is None else facts.active,
                "timestamp": self._clock.now(),
                "problems": problems,
            }
        )

    async def _facts(self) -> ServerFacts:
        """Ask the server. The task goes on after the bound: to end it might itself wait for the silent server."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._server.server(), name="health of the database")
        asking = self._asking
        await asyncio.wait({asking}, timeout=self._ask_s)
        if not asking.done():
            raise TidemillError(f"the database did not answer within {self._ask_s:g} s")
        self._asking = None
        return asking.result()


def is_serving(health: HealthResponse) -> bool:
    """Tell whether the answer's status is 200; else it is 503."""
    return health.status != "unhealthy"
