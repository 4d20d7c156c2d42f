"""How far every hop is, as metrics: asked now and then, since nobody who works a hop can tell how far it is behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from tidemill.app.deployment import Deployment
from tidemill.app.operations import command_lags, stream_status, view_status
from tidemill.domain.errors import TransientError
from tidemill.service import Health
from tidemill.storage.operations import OperationsDatabase
from tidemill.storage.pool import Pool
from tidemill.telemetry import COMMAND_LAG, PROJECTION_LAG
from tidemill.transport.kafka.client import KafkaConnection
from tidemill.transport.kafka.inspection import Inspector

EVERY_S: Final = 10.0


class LagWatch:
    """A `Service` that sets the lag metrics of all streams and read models. A server that is away is left to others."""

    def __init__(
        self, deployment: Deployment, pool: Pool, kafka: KafkaConnection, *, every_s: float = EVERY_S
    ) -> None:
        """Nothing is asked before `run`."""
        self._deployment = deployment
        self._database = OperationsDatabase(pool)
        self._inspector = Inspector(kafka)
        self._every_s = every_s
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Nothing to make ready."""

    async def run(self) -> None:
        """Look again and again until `stop`."""
        while not self._stopping.is_set():
            with suppress(TransientError):
                await self.look()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._every_s)

    async def look(self) -> None:
        """Set the metrics. Raises `TransientError`."""
        lanes, projections = await self._database.lanes(), await self._database.projections()
        for stream in stream_status(lanes, await command_lags(self._inspector, lanes)):
            COMMAND_LAG.labels(stream.aggregate).set(stream.command_lag or 0)
        for view in view_status(self._deployment, lanes, projections):
            PROJECTION_LAG.labels(view.projection).set(view.lag)

    async def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()
        await self._inspector.close()

    def health(self) -> Health:
        """Return that it is well: whether the servers are is for their probes to say."""
        return Health(ok=True)
