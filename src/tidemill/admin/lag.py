"""The lag of every step, as metrics: read periodically, since the process of a step does not know its own lag."""

from __future__ import annotations

from tidemill.admin.ports import LaneReader, ReadModelStates, TopicInspector
from tidemill.admin.progress import command_lags, read_model_status, stream_status
from tidemill.catalog.streams import StreamCatalog
from tidemill.runtime.periodic import EVERY_S, Watch
from tidemill.runtime.telemetry.metrics import COMMAND_LAG, PROJECTION_LAG


class LagWatch(Watch):
    """A `Service` that sets the lag metrics of all streams and read models."""

    def __init__(
        self,
        catalog: StreamCatalog,
        *,
        lanes: LaneReader,
        read_models: ReadModelStates,
        topics: TopicInspector,
        every_s: float = EVERY_S,
    ) -> None:
        """Connect nothing before `run`. `topics` is closed at the end."""
        super().__init__(every_s=every_s)
        self._catalog = catalog
        self._lanes = lanes
        self._read_models = read_models
        self._topics = topics

    async def look(self) -> None:
        """Set the metrics. Raises `TransientError`."""
        lanes, projections = await self._lanes.lanes(), await self._read_models.projections()
        for stream in stream_status(lanes, await command_lags(self._topics, lanes)):
            COMMAND_LAG.labels(stream.aggregate).set(stream.command_lag or 0)
        for read_model in read_model_status(self._catalog, lanes, projections):
            PROJECTION_LAG.labels(read_model.projection).set(read_model.lag)

    async def stop(self) -> None:
        """Let `run` end."""
        await super().stop()
        await self._topics.close()
