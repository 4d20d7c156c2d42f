"""Read models for an operator: their progress, rebuilt, compared with their events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tidemill.admin.lanes.states import streams_as_created
from tidemill.admin.ports import LaneReader, ReadModelStates
from tidemill.admin.rows import LaneState, ProjectionState
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.projection import Projection
from tidemill.domain.table_shape import TableShape
from tidemill.projections.ports import Comparison
from tidemill.projections.rebuild import Rebuilt, rebuild
from tidemill.projections.replay import OnProgress, ReplayParts
from tidemill.projections.verify import verify

TableName = Callable[[TableShape], str]
"""Returns the name of a declared table as SQL has it, with its schema."""

OpenReplay = Callable[[ContextStream, bool], Awaitable[ReplayParts]]
"""Opens what a replay of a stream's events needs: for a read model, or for the stream's state."""


@dataclass(frozen=True)
class ReadModelShown:
    """A read model: `events` folded, `lag` still to fold; times are None if it never happened."""

    name: str
    aggregate: str
    table: str
    events: int
    lag: int
    halted: int
    rebuilt_at: datetime | None
    verified_at: datetime | None


def read_models(
    catalog: StreamCatalog,
    lanes: Sequence[LaneState],
    projections: Sequence[ProjectionState],
    table_name: TableName,
) -> list[ReadModelShown]:
    """Return every read model of a deployment; a state and what readers see of it never lag."""
    known = {state.name: state for state in projections}
    shown = []
    for name, (part, projection) in catalog.projections().items():
        state, aggregate = known.get(name), part.stream.aggregate
        events = sum(state.sequences.values()) if state else 0
        shown.append(
            ReadModelShown(
                name=name,
                aggregate=aggregate,
                table=state.read_table if state else table_name(projection.table),
                events=events,
                lag=max(0, _written(lanes, aggregate) - events),
                halted=len(state.halts) if state else 0,
                rebuilt_at=state.rebuilt_at if state else None,
                verified_at=state.verified_at if state else None,
            )
        )
    for name, (part, projection) in catalog.states().items():
        events, table = _written(lanes, part.stream.aggregate), table_name(projection.table)
        shown.append(ReadModelShown(name, part.stream.aggregate, table, events, 0, 0, None, None))
    for name, (part, _, view) in catalog.views().items():
        events, table = _written(lanes, part.stream.aggregate), table_name(view.table)
        shown.append(ReadModelShown(name, part.stream.aggregate, table, events, 0, 0, None, None))
    return shown


def _written(lanes: Sequence[LaneState], aggregate: str) -> int:
    return sum(lane.sequence for lane in lanes if lane.aggregate == aggregate)


@dataclass(frozen=True, kw_only=True)
class ReadModelOverview:
    """Shows read models."""

    catalog: StreamCatalog
    lanes: LaneReader
    states: ReadModelStates
    table_name: TableName

    async def every(self) -> list[ReadModelShown]:
        """Return every read model of this deployment."""
        lanes = await self.lanes.lanes()
        return read_models(self.catalog, lanes, await self.states.projections(), self.table_name)


@dataclass(frozen=True, kw_only=True)
class ReadModelRepair:
    """Folds the events of read models again. Needs the login that owns their tables."""

    catalog: StreamCatalog
    lanes: LaneReader
    open_replay: OpenReplay

    async def rebuild(self, name: str, on_progress: OnProgress) -> Rebuilt:
        """Rebuild a read model and swap it in; of a state, or what shows one, correct the rows that differ."""
        name = self.catalog.state_behind(name)
        part, projection, parts = await self._opened(name)
        return await rebuild(part.stream, projection, parts, on_progress)

    async def verify(self, name: str, on_progress: OnProgress) -> Comparison:
        """Compare a read model, or a state, with what its events give; of what shows a state, that state."""
        name = self.catalog.state_behind(name)
        part, projection, parts = await self._opened(name)
        return await verify(part.stream, projection, parts, on_progress)

    async def _opened(self, name: str) -> tuple[ContextStream, Projection, ReplayParts]:
        states = self.catalog.states()
        part, projection = states[name] if name in states else self.catalog.projection(name)
        created = await streams_as_created(self.catalog.contexts, self.lanes)
        part, _ = created[part.stream.aggregate]
        return part, projection, await self.open_replay(part, name in states)
