"""How much a deployment holds, and how far its streams and read models have come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tidemill.admin.ports import LaneReader, ReadModelStates
from tidemill.admin.progress import read_model_status, stream_status
from tidemill.admin.service.access import demand_operator
from tidemill.admin.service.collection_schema import place_of
from tidemill.admin.service.models import AnswerModel
from tidemill.admin.service.ports import TableCatalog
from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.collection import Collection, CollectionKind
from tidemill.runtime.clock import Clock
from tidemill.security.principals import Principal


class CollectionStats(AnswerModel):
    """A collection. `estimated_rows`: by the statistics, also those that no reader is shown; null if unknown.

    `bytes`: with indexes.
    `lag`: events that a read model has not folded, null for what is never behind.
    """

    name: str
    kind: CollectionKind
    estimated_rows: int | None
    bytes: int
    chunks: int
    lag: int | None = None


class LaneSummary(AnswerModel):
    """The lanes of an aggregate. `unpublished`: positions that the relay has not sent. `events`: of all time."""

    aggregate: str
    lanes: int
    owned: int
    halted: int
    waiting: int
    unpublished: int
    events: int


class ServiceStats(AnswerModel):
    """All collections, and all lanes by aggregate."""

    collections: list[CollectionStats]
    lanes: list[LaneSummary]
    timestamp: datetime


@dataclass(frozen=True, kw_only=True)
class StatisticsReader:
    """Reads statistics; no row of a collection is read."""

    collections: Mapping[str, Collection]
    catalog: StreamCatalog
    tables: TableCatalog
    lanes: LaneReader
    read_models: ReadModelStates
    clock: Clock

    async def read(self, principal: Principal) -> ServiceStats:
        """Return all. Raises `RequestRefused`: `FORBIDDEN`; and `Unavailable`."""
        demand_operator(principal)
        lanes = await self.lanes.lanes()
        models = read_model_status(self.catalog, lanes, await self.read_models.projections())
        lags = {model.projection: model.lag for model in models}
        places = {name: place_of(collection) for name, collection in self.collections.items()}
        sizes = await self.tables.sizes(list(dict.fromkeys(places.values())))
        shown = [
            CollectionStats(
                name=name,
                kind=collection.kind,
                estimated_rows=size.rows if size else None,
                bytes=size.bytes if size else 0,
                chunks=size.chunks if size else 0,
                lag=lags.get(collection.projection) if collection.projection else None,
            )
            for name, collection in sorted(self.collections.items())
            for size in (sizes.get(places[name]),)
            if principal.grant(name) is not None
        ]
        summaries = [LaneSummary.model_validate(_summary(stream)) for stream in stream_status(lanes, {})]
        return ServiceStats(collections=shown, lanes=summaries, timestamp=self.clock.now())


def _summary(stream: object) -> dict[str, object]:
    return {name: getattr(stream, name) for name in LaneSummary.model_fields}
