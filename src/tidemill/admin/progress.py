"""The lag of every step, from database and topics: commands to consume, records to publish, events to fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from tidemill.admin.ports import LaneReader, TopicInspector
from tidemill.admin.rows import LaneState, ProjectionState
from tidemill.catalog.streams import StreamCatalog

_COUNTED_OFFSETS: Final = 100


@dataclass(frozen=True)
class CommandLag:
    """What a lane has not consumed. `hidden`: how many of these records are behind an open transaction.

    `since`: when the oldest was written, None if there is none, or it was not asked.
    """

    records: int
    hidden: int = 0
    since: datetime | None = None


@dataclass(frozen=True)
class HiddenRecords:
    """Records of a lane (`name`) behind an open transaction: consumed when it ends. `since`: the oldest."""

    name: str
    records: int
    since: datetime | None


@dataclass(frozen=True)
class StreamStatus:
    """The progress of a stream. `command_lag` is None while Kafka is unavailable. `waiting`: lanes.

    `hidden`: records of `command_lag` behind open transactions. `..._since`: when the oldest record that is not
    consumed was written, and the oldest that is not published was committed, of the worst lane.
    """

    aggregate: str
    lanes: int
    owned: int
    halted: int
    command_lag: int | None
    unpublished: int
    events: int
    waiting: int = 0
    hidden: int = 0
    command_since: datetime | None = None
    unpublished_since: datetime | None = None


@dataclass(frozen=True)
class ReadModelStatus:
    """The progress of a read model: `lag` counts events that are committed and not yet folded, from `since` on."""

    projection: str
    aggregate: str
    started: bool
    lag: int
    halted: int
    since: datetime | None = None


async def command_lags(topics: TopicInspector, lanes: Sequence[LaneState]) -> dict[int, CommandLag]:
    """Return lane -> what is between its next offset and the true end of its topic. Raises `Unavailable`.

    Up to the last stable offset a short distance is counted, since some offsets hold no records; a long one, and what
    is behind an open transaction, is the difference of the offsets.
    """
    partitions = {state.command_topic: state.partitions for state in lanes}
    bounds = await topics.bounds(partitions)
    ends = await topics.ends(partitions)
    visible = await _visible(topics, lanes, bounds)
    hidden = {
        state.lane: max(
            0,
            ends[state.command_topic][state.partition]
            - max(state.next_offset, bounds[state.command_topic][state.partition][1]),
        )
        for state in lanes
    }
    behind = [state for state in lanes if visible[state.lane] or hidden[state.lane]]
    offsets = {(state.command_topic, state.partition): state.next_offset for state in behind}
    written = await topics.written_at(offsets) if offsets else {}
    return {
        state.lane: CommandLag(
            visible[state.lane] + hidden[state.lane],
            hidden[state.lane],
            written.get((state.command_topic, state.partition)),
        )
        for state in lanes
    }


async def _visible(
    topics: TopicInspector, lanes: Sequence[LaneState], bounds: Mapping[str, Sequence[tuple[int, int]]]
) -> dict[int, int]:
    spans = {state: (state.next_offset, bounds[state.command_topic][state.partition][1]) for state in lanes}
    lags = {state.lane: max(0, end - at) for state, (at, end) in spans.items()}
    short = {
        (state.command_topic, state.partition): span
        for state, span in spans.items()
        if 0 < lags[state.lane] <= _COUNTED_OFFSETS
        and span[0] >= bounds[state.command_topic][state.partition][0]
    }
    counted = await topics.unread(short) if short else {}
    return lags | {
        state.lane: counted[state.command_topic, state.partition]
        for state in lanes
        if (state.command_topic, state.partition) in counted
    }


async def unpublished_since(reader: LaneReader, lanes: Sequence[LaneState]) -> dict[int, datetime]:
    """Return lane -> since when its oldest position waits for the relay, if one does. Raises `Unavailable`."""
    published = {state.lane: state.published_position or 0 for state in lanes}
    behind = {state.lane: published[state.lane] for state in lanes if state.position > published[state.lane]}
    return await reader.unpublished_since(behind) if behind else {}


async def unfolded_since(
    reader: LaneReader,
    catalog: StreamCatalog,
    lanes: Sequence[LaneState],
    projections: Sequence[ProjectionState],
) -> dict[str, datetime]:
    """Return read model -> since when its oldest event waits to be folded, if one does. Raises `Unavailable`."""
    known = {projection.name: projection.sequences for projection in projections}
    since = {}
    for name, (part, _) in catalog.projections().items():
        folded = known.get(name, {})
        behind = {
            lane.lane: folded.get(lane.partition, 0)
            for lane in lanes
            if lane.aggregate == part.stream.aggregate and lane.sequence > folded.get(lane.partition, 0)
        }
        if behind and (times := await reader.unfolded_since(behind)):
            since[name] = min(times.values())
    return since


def hidden_records(lanes: Sequence[LaneState], lags: Mapping[int, CommandLag]) -> list[HiddenRecords]:
    """Return the lanes that wait for the end of a transaction."""
    return [
        HiddenRecords(state.name, lag.hidden, lag.since)
        for state in lanes
        if (lag := lags.get(state.lane)) is not None and lag.hidden
    ]


def _oldest(times: Iterable[datetime | None]) -> datetime | None:
    return min((at for at in times if at is not None), default=None)


def stream_status(
    lanes: Sequence[LaneState],
    lags: Mapping[int, CommandLag],
    unpublished: Mapping[int, datetime] = MappingProxyType({}),
) -> list[StreamStatus]:
    """Return the progress of each stream; `lags`: empty if Kafka is unavailable. `unpublished`: lane -> since when."""
    streams = []
    for aggregate in dict.fromkeys(state.aggregate for state in lanes):
        ours = [state for state in lanes if state.aggregate == aggregate]
        behind = [lags[state.lane] for state in ours] if lags else []
        streams.append(
            StreamStatus(
                aggregate=aggregate,
                lanes=len(ours),
                owned=sum(state.owned for state in ours),
                halted=sum(state.halt_code is not None for state in ours),
                command_lag=sum(lag.records for lag in behind) if lags else None,
                unpublished=sum(state.position - (state.published_position or 0) for state in ours),
                events=sum(state.sequence for state in ours),
                waiting=sum(state.waits_since is not None for state in ours),
                hidden=sum(lag.hidden for lag in behind),
                command_since=_oldest(lag.since for lag in behind),
                unpublished_since=_oldest(unpublished.get(state.lane) for state in ours),
            )
        )
    return streams


def read_model_status(
    catalog: StreamCatalog,
    lanes: Sequence[LaneState],
    projections: Sequence[ProjectionState],
    since: Mapping[str, datetime] = MappingProxyType({}),
) -> list[ReadModelStatus]:
    """Return the progress of each read model; `since`: as `unfolded_since` returns it."""
    known = {projection.name: projection for projection in projections}
    found = []
    for name, (part, _) in catalog.projections().items():
        state = known.get(name)
        sequences = state.sequences if state else {}
        aggregate = part.stream.aggregate
        lag = sum(
            max(0, lane.sequence - sequences.get(lane.partition, 0))
            for lane in lanes
            if lane.aggregate == aggregate
        )
        halted = len(state.halts) if state else 0
        found.append(
            ReadModelStatus(
                name, aggregate, started=state is not None, lag=lag, halted=halted, since=since.get(name)
            )
        )
    return found
