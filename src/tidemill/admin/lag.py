"""The lag of every step, as metrics: read periodically, since the process of a step does not know its own lag.

What is read in the database and in Kafka is the same in every process, and holds for the lanes of dead ones, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import nan
from typing import Final

from tidemill.admin.ports import LaneReader, ReadModelStates, TopicInspector
from tidemill.admin.progress import (
    CommandLag,
    ReadModelStatus,
    StreamStatus,
    command_lags,
    read_model_status,
    stream_status,
    unfolded_since,
    unpublished_since,
)
from tidemill.admin.rows import LaneState
from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.errors import Unavailable
from tidemill.runtime.clock import Clock, SystemClock
from tidemill.runtime.periodic import EVERY_S, Watch
from tidemill.runtime.telemetry.metrics import (
    COMMAND_LAG,
    HALTED_LANES,
    HIDDEN_RECORDS,
    LAG_ASKED,
    LAG_SECONDS,
    PROJECTION_LAG,
    UNOWNED_LANES,
)

INTAKE: Final = "intake"
RELAY: Final = "relay"
PROJECTION: Final = "projection"


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
        clock: Clock | None = None,
    ) -> None:
        """Connect nothing before `run`. `topics` is closed at the end."""
        super().__init__(every_s=every_s)
        self._catalog = catalog
        self._lanes = lanes
        self._read_models = read_models
        self._topics = topics
        self._clock = clock or SystemClock()
        self._halted: set[tuple[str, str]] = set()

    async def look(self) -> None:
        """Set the metrics. Raises `TransientError`; what the database knows is set although Kafka does not answer."""
        lanes, projections = await self._lanes.lanes(), await self._read_models.projections()
        published = await unpublished_since(self._lanes, lanes)
        folded = await unfolded_since(self._lanes, self._catalog, lanes, projections)
        self._show_halts(lanes)
        for model in read_model_status(self._catalog, lanes, projections, folded):
            self._show_read_model(model)
        try:
            lags: Mapping[int, CommandLag] = await command_lags(self._topics, lanes) if lanes else {}
        except Unavailable:
            self._show_streams(stream_status(lanes, {}, published))
            raise
        self._show_streams(stream_status(lanes, lags, published))

    async def stop(self) -> None:
        """Let `run` end."""
        await super().stop()
        await self._topics.close()

    def _show_halts(self, lanes: Sequence[LaneState]) -> None:
        halted = Counter((lane.aggregate, lane.halt_code) for lane in lanes if lane.halt_code is not None)
        for aggregate, code in self._halted - halted.keys():
            HALTED_LANES.labels(aggregate, code).set(0)
        for (aggregate, code), count in halted.items():
            HALTED_LANES.labels(aggregate, code).set(count)
        self._halted |= {(aggregate, str(code)) for aggregate, code in halted}

    def _show_streams(self, streams: Sequence[StreamStatus]) -> None:
        for stream in streams:
            name, known = stream.aggregate, stream.command_lag is not None
            COMMAND_LAG.labels(name).set(nan if stream.command_lag is None else stream.command_lag)
            HIDDEN_RECORDS.labels(name).set(stream.hidden if known else nan)
            UNOWNED_LANES.labels(name).set(stream.lanes - stream.owned)
            self._show_age(RELAY, name, stream.unpublished_since)
            if known:
                self._show_age(INTAKE, name, stream.command_since)
            else:
                LAG_SECONDS.labels(INTAKE, name).set(nan)

    def _show_read_model(self, model: ReadModelStatus) -> None:
        PROJECTION_LAG.labels(model.projection).set(model.lag)
        self._show_age(PROJECTION, model.projection, model.since)

    def _show_age(self, hop: str, name: str, since: datetime | None) -> None:
        now = self._clock.now()
        age_s = 0.0 if since is None else max(0.0, (now - since).total_seconds())
        LAG_SECONDS.labels(hop, name).set(age_s)
        LAG_ASKED.labels(hop, name).set(now.timestamp())
