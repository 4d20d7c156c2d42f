"""How far every hop is, as metrics: asked now and then, since nobody who works a hop can tell how far it is behind."""

from __future__ import annotations

from tidemill.app.deployment import Deployment
from tidemill.app.operations import command_lags, stream_status, view_status
from tidemill.runtime.periodic import EVERY_S, Watch
from tidemill.runtime.telemetry import COMMAND_LAG, PROJECTION_LAG
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.database.pool import Pool
from tidemill.transport.kafka.admin.inspection import Inspector
from tidemill.transport.kafka.client.client import KafkaConnection


class LagWatch(Watch):
    """A `Service` that sets the lag metrics of all streams and read models."""

    def __init__(
        self, deployment: Deployment, pool: Pool, kafka: KafkaConnection, *, every_s: float = EVERY_S
    ) -> None:
        """Nothing is asked before `run`."""
        super().__init__(every_s=every_s)
        self._deployment = deployment
        self._database = OperationsDatabase(pool)
        self._inspector = Inspector(kafka)

    async def look(self) -> None:
        """Set the metrics. Raises `TransientError`."""
        lanes, projections = await self._database.lanes(), await self._database.projections()
        for stream in stream_status(lanes, await command_lags(self._inspector, lanes)):
            COMMAND_LAG.labels(stream.aggregate).set(stream.command_lag or 0)
        for view in view_status(self._deployment, lanes, projections):
            PROJECTION_LAG.labels(view.projection).set(view.lag)

    async def stop(self) -> None:
        """Let `run` end."""
        await super().stop()
        await self._inspector.close()
