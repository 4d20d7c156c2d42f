"""What an operator does about read models: list, build again, verify; and what anybody does: read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

from tidemill.admin.lane_states import streams_as_created
from tidemill.app.connections import kafka_connection, open_pool, open_registry
from tidemill.app.deployment import Deployment
from tidemill.app.operations import operating
from tidemill.catalog.streams import ContextStream
from tidemill.domain.errors import UsageError
from tidemill.domain.projection import Projection
from tidemill.projections.ports import Comparison
from tidemill.projections.rebuild import rebuild
from tidemill.projections.replay import Parts
from tidemill.projections.verify import verify
from tidemill.queries.read_models import Page, ReadModels
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.database.table_sql import table_name
from tidemill.storage.read_models.pages import ReadModelDatabase
from tidemill.storage.read_models.rebuild import DatabaseWorkshops
from tidemill.storage.read_models.rows import ViewDatabase
from tidemill.storage.read_models.state_rebuild import StateDatabase, StateWorkshops
from tidemill.transport.avro.events import AvroEventCodec
from tidemill.transport.kafka.projections.event_source import KafkaEventSource

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class ViewShown:
    """A read model: `events` folded, `lag` still to fold; times are None if it never happened."""

    name: str
    aggregate: str
    table: str
    events: int
    lag: int
    halted: int
    rebuilt_at: datetime | None
    verified_at: datetime | None


async def list_views(deployment: Deployment) -> list[ViewShown]:
    """Return every read model of this deployment."""
    async with operating(deployment) as (_, pool):
        database = OperationsDatabase(pool)
        lanes = await database.lanes()
        known = {state.name: state for state in await database.projections()}
    shown = []
    for name, (part, projection) in deployment.catalog.projections().items():
        state, aggregate = known.get(name), part.stream.aggregate
        events = sum(state.sequences.values()) if state else 0
        written = sum(lane.sequence for lane in lanes if lane.aggregate == aggregate)
        shown.append(
            ViewShown(
                name=name,
                aggregate=aggregate,
                table=state.read_table if state else table_name(projection.table),
                events=events,
                lag=max(0, written - events),
                halted=len(state.halts) if state else 0,
                rebuilt_at=state.rebuilt_at if state else None,
                verified_at=state.verified_at if state else None,
            )
        )
    for name, (part, projection) in deployment.catalog.states().items():
        events = sum(lane.sequence for lane in lanes if lane.aggregate == part.stream.aggregate)
        table = table_name(projection.table)
        shown.append(ViewShown(name, part.stream.aggregate, table, events, 0, 0, None, None))
    return shown


async def read_page(deployment: Deployment, name: str, key: Sequence[str], limit: int) -> Page:
    """Return rows of a read model by the first columns of its key. Raises `UsageError`, `Unavailable`."""
    async with AsyncExitStack() as shared:
        pool = await open_pool(
            shared, deployment.settings, name="tidemill query", size=1, login="reader", writes=False
        )
        projections = [projection for _, projection in deployment.catalog.projections().values()]
        return await ReadModels(projections, ReadModelDatabase(pool)).page(name, key, limit)


async def rebuild_view(deployment: Deployment, name: str, on_progress: OnProgress) -> int:
    """Build a read model again and swap it in; return how many events it took. Needs the login that owns tables.

    Raises `UsageError` for a state.
    """
    if name in deployment.catalog.states():
        raise UsageError(
            f"{name} is what commands are decided by, and is not built again under them: `tidemill projections verify "
            f"{name}` shows which cells were changed; put them back by hand, with `serve commands` stopped, or "
            "restore a backup"
        )
    async with AsyncExitStack() as shared:
        part, projection, parts = await _workshop(shared, deployment, name)
        return await rebuild(part.stream, projection, parts, on_progress)


async def verify_view(deployment: Deployment, name: str, on_progress: OnProgress) -> Comparison:
    """Compare a read model, or a state, with what its events make. Needs the login that owns tables."""
    async with AsyncExitStack() as shared:
        part, projection, parts = await _workshop(shared, deployment, name)
        return await verify(part.stream, projection, parts, on_progress)


async def _workshop(
    shared: AsyncExitStack, deployment: Deployment, name: str
) -> tuple[ContextStream, Projection, Parts]:
    states = deployment.catalog.states()
    part, projection = states[name] if name in states else deployment.catalog.projection(name)
    settings = deployment.settings
    pool = await open_pool(shared, settings, name="tidemill projections", size=4, login="migration")
    part, _ = (await streams_as_created(deployment.catalog.contexts, OperationsDatabase(pool)))[
        part.stream.aggregate
    ]
    stream, kafka = part.stream, kafka_connection(settings)
    codec = await AvroEventCodec.open(
        stream, part.messages(), clock=SystemClock(), registry=open_registry(shared, settings)
    )
    return (
        part,
        projection,
        Parts(
            source=lambda: KafkaEventSource(kafka, topic=stream.topics.events, partitions=stream.partitions),
            codec=codec,
            store=StateDatabase(pool) if name in states else ViewDatabase(pool),
            workshops=StateWorkshops(pool) if name in states else DatabaseWorkshops(pool),
        ),
    )
