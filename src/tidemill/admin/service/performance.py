"""How fast the service is, and how it is connected."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.admin.service.access import demand_operator
from tidemill.admin.service.models import ConnectionReport, PerformanceStats
from tidemill.admin.service.ports import PoolReader
from tidemill.admin.service.query_records import QueryRecorder
from tidemill.admin.service.window_sums import WINDOW_S
from tidemill.runtime.clock import Clock
from tidemill.runtime.periodic import Watch
from tidemill.runtime.telemetry.metrics import POOL_CONNECTIONS
from tidemill.security.principals import Principal


@dataclass(frozen=True, kw_only=True)
class PerformanceReader:
    """Sums of what this process did in the last minute."""

    records: QueryRecorder
    pools: PoolReader
    clock: Clock

    async def read(self, principal: Principal) -> PerformanceStats:
        """Return the sums. Raises `RequestRefused`: `FORBIDDEN`."""
        demand_operator(principal)
        queries, commands = self.records.queries.total(), self.records.commands.total()
        pools = self.pools.statuses()
        return PerformanceStats(
            total_queries=queries.count,
            total_commands=commands.count,
            avg_query_time=queries.mean_seconds,
            avg_command_time=commands.mean_seconds,
            cache_hit_rate=queries.cache_hits / queries.count if queries.count else 0.0,
            active_connections=sum(pool.checked_out for pool in pools),
            total_connections=sum(pool.checked_out + pool.checked_in for pool in pools),
            timestamp=self.clock.now(),
            window_seconds=WINDOW_S,
            operations=self.records.operations(),
        )


@dataclass(frozen=True, kw_only=True)
class ConnectionOverview:
    """The pools of this process."""

    pools: PoolReader
    clock: Clock

    async def read(self, principal: Principal) -> ConnectionReport:
        """Return how each pool connects, and its state. Raises `RequestRefused`: `FORBIDDEN`."""
        demand_operator(principal)
        return ConnectionReport(
            connections=list(self.pools.configurations()),
            pools=list(self.pools.statuses()),
            timestamp=self.clock.now(),
        )


class PoolWatch(Watch):
    """A `Service` that sets the metrics of the pools."""

    def __init__(self, pools: PoolReader) -> None:
        """Nothing is set before `run`."""
        super().__init__()
        self._pools = pools

    async def look(self) -> None:
        """Set the metrics."""
        for pool in self._pools.statuses():
            states = {"idle": pool.checked_in, "lent": pool.checked_out, "overflow": pool.overflow}
            for state, count in states.items():
                POOL_CONNECTIONS.labels(pool.name or "", state).set(count)
