"""What an operator asks: how far every hop is, and what became of a command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tidemill.admin.rows import (
    CommandEntry,
    ForeignRecords,
    LaneState,
    ProcessState,
    ProjectionState,
    RepeatEntry,
    SentEntry,
)
from tidemill.app.archive_status import ArchiveStatus, archive_status
from tidemill.app.connections import kafka_connection, open_pool, open_registry
from tidemill.app.deployment import Deployment
from tidemill.app.startup.structure import Misfit, misfits
from tidemill.catalog.streams import ContextStream
from tidemill.domain.errors import Unavailable, UsageError
from tidemill.domain.identity import event_id, identify
from tidemill.domain.lane import MOST_AHEAD, spans
from tidemill.domain.messages import Outcome
from tidemill.domain.rejections import HALTED
from tidemill.projections.halts import HALTS
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.archived_rows import HoldingsDatabase
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.admin.processes import ProcessDatabase
from tidemill.storage.database.pool import Pool
from tidemill.transport.avro.codec import known_messages
from tidemill.transport.kafka.admin.inspection import Inspector

_COUNTED_OFFSETS: Final = 100


@asynccontextmanager
async def operating(deployment: Deployment, *, size: int = 2) -> AsyncIterator[tuple[AsyncExitStack, Pool]]:
    """Open the database for a task; a server that takes no writes will do for one that only asks."""
    async with AsyncExitStack() as shared:
        pool = await open_pool(
            shared, deployment.settings, name="tidemill operations", size=size, writes=False
        )
        yield shared, pool


@asynccontextmanager
async def inspecting(deployment: Deployment) -> AsyncIterator[Inspector]:
    """Open Kafka for a task's questions."""
    inspector = Inspector(kafka_connection(deployment.settings))
    try:
        yield inspector
    finally:
        await inspector.close()


# --- status ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamStatus:
    """How far a stream is. `command_lag` is None while Kafka cannot be asked. `waiting`: lanes, for a newer version."""

    aggregate: str
    lanes: int
    owned: int
    halted: int
    command_lag: int | None
    unpublished: int
    events: int
    waiting: int = 0


@dataclass(frozen=True)
class ViewStatus:
    """How far a read model is: `lag` counts events that are committed and not yet folded."""

    projection: str
    aggregate: str
    started: bool
    lag: int
    halted: int


@dataclass(frozen=True)
class HaltStatus:
    """Something that stands still: a lane, or a projection in a lane; `advice` says what the code means."""

    what: str
    code: str
    detail: str
    since: datetime
    advice: str


@dataclass(frozen=True)
class WaitStatus:
    """A lane that waits before a command for a process that knows all of it; `until`: then the command is parked."""

    lane: str
    offset: int
    schema: str
    type: str
    service: str | None
    detail: str
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Status:
    """Every hop. `waiting`: lanes that go on by themselves, at the latest when their time is over.

    `foreign`: what others wrote into our topics. `trouble`: why something could not be asked. `archive`: by table;
    slices that are set aside wait for a person, and nothing else waits for them. `clock`: which lanes are ahead of the
    time, if any. `misfits`: whose tables are not as this version declares them. `processes`: those that
    serve.
    """

    streams: Sequence[StreamStatus]
    views: Sequence[ViewStatus]
    halts: Sequence[HaltStatus]
    waiting: Sequence[WaitStatus] = ()
    foreign: Sequence[ForeignRecords] = ()
    archive: Sequence[ArchiveStatus] = ()
    misfits: Sequence[Misfit] = ()
    processes: Sequence[ProcessState] = ()
    trouble: str | None = None
    clock: str | None = None

    @property
    def ok(self) -> bool:
        """Return whether everything could be asked and nothing stands still."""
        return not self.halts and not self.misfits and self.trouble is None


async def status(deployment: Deployment) -> Status:
    """Return how far every hop is. Raises `Unavailable` if the database is away; Kafka's absence is reported."""
    async with operating(deployment) as (_, pool):
        database = OperationsDatabase(pool)
        lanes, projections = await database.lanes(), await database.projections()
        foreign = await database.foreign_records()
        held = await HoldingsDatabase(pool).of(list(deployment.catalog.policies))
        unfit = await misfits(deployment, pool)
        processes = await ProcessDatabase(pool).all()
    lags, trouble = await _lags(deployment, lanes)
    now = SystemClock().now()
    return Status(
        streams=stream_status(lanes, lags),
        views=view_status(deployment, lanes, projections),
        halts=[*_lane_halts(lanes), *_view_halts(projections)],
        waiting=[_wait(lane) for lane in lanes if lane.waits_since is not None],
        foreign=foreign,
        archive=archive_status(deployment.catalog.policies, held, now),
        misfits=unfit,
        processes=processes,
        trouble=trouble,
        clock=ahead_of(lanes, now),
    )


async def _lags(deployment: Deployment, lanes: Sequence[LaneState]) -> tuple[Mapping[int, int], str | None]:
    if not lanes:
        return {}, "there are no lanes yet: run `tidemill topics create`"
    try:
        async with inspecting(deployment) as inspector:
            return await command_lags(inspector, lanes), None
    except Unavailable as error:
        return {}, str(error)


async def command_lags(inspector: Inspector, lanes: Sequence[LaneState]) -> dict[int, int]:
    """Return lane -> records between its next offset and the last stable one. Raises `Unavailable`.

    A short distance is counted, since some offsets are no records; a long one is taken as it is.
    """
    bounds = await inspector.bounds({lane.command_topic: lane.partitions for lane in lanes})
    spans = {lane: (lane.next_offset, bounds[lane.command_topic][lane.partition][1]) for lane in lanes}
    lags = {lane.lane: max(0, end - at) for lane, (at, end) in spans.items()}
    short = {
        (lane.command_topic, lane.partition): span
        for lane, span in spans.items()
        if 0 < lags[lane.lane] <= _COUNTED_OFFSETS
        and span[0] >= bounds[lane.command_topic][lane.partition][0]
    }
    counted = await inspector.unread(short) if short else {}
    return lags | {
        lane.lane: counted[lane.command_topic, lane.partition]
        for lane in lanes
        if (lane.command_topic, lane.partition) in counted
    }


def stream_status(lanes: Sequence[LaneState], lags: Mapping[int, int]) -> list[StreamStatus]:
    """Return how far each stream is; `lags`: lane -> records to consume, empty if Kafka could not be asked."""
    streams = []
    for aggregate in dict.fromkeys(lane.aggregate for lane in lanes):
        ours = [lane for lane in lanes if lane.aggregate == aggregate]
        lag = sum(lags[lane.lane] for lane in ours) if lags else None
        streams.append(
            StreamStatus(
                aggregate=aggregate,
                lanes=len(ours),
                owned=sum(lane.owner is not None for lane in ours),
                halted=sum(lane.halt_code is not None for lane in ours),
                command_lag=lag,
                unpublished=sum(lane.position - (lane.published_position or 0) for lane in ours),
                events=sum(lane.sequence for lane in ours),
                waiting=sum(lane.waits_since is not None for lane in ours),
            )
        )
    return streams


def view_status(
    deployment: Deployment, lanes: Sequence[LaneState], projections: Sequence[ProjectionState]
) -> list[ViewStatus]:
    """Return how far each read model is."""
    known = {projection.name: projection for projection in projections}
    views = []
    for name, (part, _) in deployment.catalog.projections().items():
        state = known.get(name)
        sequences = state.sequences if state else {}
        aggregate = part.stream.aggregate
        lag = sum(
            max(0, lane.sequence - sequences.get(lane.partition, 0))
            for lane in lanes
            if lane.aggregate == aggregate
        )
        halted = len(state.halts) if state else 0
        views.append(ViewStatus(name, aggregate, started=state is not None, lag=lag, halted=halted))
    return views


def ahead_of(lanes: Sequence[LaneState], now: datetime) -> str | None:
    """Return which lanes' last batch is ahead of `now`, and by how much: a clock is wrong, or was; None if none is."""
    ahead = {lane.lane: lane.at - now for lane in lanes if lane.at > now + MOST_AHEAD}
    if not ahead:
        return None
    by = timedelta(seconds=round(max(ahead.values()).total_seconds()))
    return (
        f"the last batch of lanes {spans(ahead)} is up to {by} ahead of this machine's clock: that, or the "
        "database's, is wrong, or was; with their next batch lanes go on with the time that the database's shows then"
    )


def _lane_halts(lanes: Sequence[LaneState]) -> list[HaltStatus]:
    return [
        HaltStatus(
            what=f"lane {lane.lane} ({lane.name})",
            code=lane.halt_code,
            detail=lane.halt_detail or "",
            since=lane.halted_since or lane.at,
            advice=f"{HALTED.get(lane.halt_code, '')}; see `tidemill lanes show {lane.name}`",
        )
        for lane in lanes
        if lane.halt_code is not None
    ]


def _wait(lane: LaneState) -> WaitStatus:
    assert lane.waits_before is not None
    assert lane.waits_since is not None
    assert lane.waits_until is not None
    return WaitStatus(
        lane=lane.name,
        offset=lane.waits_before,
        schema=lane.waits_schema or "",
        type=lane.waits_type or "",
        service=lane.waits_service,
        detail=lane.waits_detail or "",
        since=lane.waits_since,
        until=lane.waits_until,
    )


def _view_halts(projections: Sequence[ProjectionState]) -> list[HaltStatus]:
    return [
        HaltStatus(
            what=f"{projection.name}, lane {projection.aggregate}/{halt.partition}",
            code=halt.code,
            detail=halt.detail,
            since=halt.since,
            advice=HALTS.get(halt.code, ""),
        )
        for projection in projections
        for halt in projection.halts
    ]


# --- a command -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EventShown:
    """An event of a command; `fields` is None once the outbox has let it go, or if it cannot be read."""

    event_id: str
    type: str
    sequence: int
    fields: Mapping[str, Any] | None


@dataclass(frozen=True)
class CommandShown:
    """What became of a command."""

    command_id: str
    outcome: Outcome
    entry: CommandEntry
    record_offset: int | None = None
    key: bytes | None = None
    correlation: str | None = None
    published: bool = False
    events: Sequence[EventShown] = ()
    repeats: Sequence[RepeatEntry] = field(default_factory=tuple)


async def show_command(
    deployment: Deployment, command_id: str, service: str | None, *, repeats: int
) -> list[CommandShown]:
    """Return what became of a command; nothing if the log does not know it. `repeats`: at most so many, 0 for none.

    Raises:
        UsageError: the id is no UUID, and its service is not given.
    """
    identity = _identity(command_id, service)
    async with operating(deployment) as (shared, pool):
        database = OperationsDatabase(pool)
        lanes = {lane.lane: lane for lane in await database.lanes()}
        shown = []
        for entry in await database.command(identity):
            sent = await database.sent(entry.lane, entry.position)
            events = await _events(shared, deployment, entry, sent)
            head = sent[0] if sent else None
            shown.append(
                CommandShown(
                    command_id=command_id,
                    outcome=Outcome.of_letter(entry.outcome),
                    entry=entry,
                    record_offset=head.record_offset if head else None,
                    key=head.key if head else None,
                    correlation=head.correlation if head else None,
                    published=(lanes[entry.lane].published_position or 0) >= entry.position,
                    events=events,
                    repeats=await database.repeats(identity, repeats) if repeats else (),
                )
            )
    return shown


def _identity(command_id: str, service: str | None) -> UUID:
    named = identify(command_id, service or "")
    if service is None and named != command_id.lower():
        raise UsageError(
            f"{command_id!r} is no UUID, so it is only unique within its service: add --service NAME"
        )
    return UUID(named)


async def _events(
    shared: AsyncExitStack, deployment: Deployment, entry: CommandEntry, sent: Sequence[SentEntry]
) -> list[EventShown]:
    rows = [row for row in sent if row.payload is not None]
    if not rows or entry.aggregate not in deployment.catalog.streams:
        return []
    read = await event_reader(
        shared, deployment, deployment.catalog.of(entry.aggregate), [row.payload for row in rows]
    )
    return [
        EventShown(
            event_id=event_id(str(entry.command_id), row.item + 1),
            type=row.event_type or "",
            sequence=row.sequence,
            fields=read(row.payload),
        )
        for row in rows
    ]


async def event_reader(
    shared: AsyncExitStack, deployment: Deployment, part: ContextStream, values: Sequence[bytes | None]
) -> Any:
    """Return a function from the framed value of an event to its fields; None for what cannot be read."""
    registry = open_registry(shared, deployment.settings)
    stream = part.stream
    known = known_messages(
        stream.topics.events, "event", stream.events, part.messages(), SystemClock(), registry
    )
    await known.prepare(values)
    return lambda value: known.decode(value)[1]
