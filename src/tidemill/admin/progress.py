"""The lag of every step, from database and topics: commands to consume, records to publish, events to fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tidemill.admin.ports import TopicInspector
from tidemill.admin.rows import LaneState, ProjectionState
from tidemill.catalog.streams import StreamCatalog

_COUNTED_OFFSETS: Final = 100


@dataclass(frozen=True)
class StreamStatus:
    """The progress of a stream. `command_lag` is None while Kafka is unavailable. `waiting`: lanes."""

    aggregate: str
    lanes: int
    owned: int
    halted: int
    command_lag: int | None
    unpublished: int
    events: int
    waiting: int = 0


@dataclass(frozen=True)
class ReadModelStatus:
    """The progress of a read model: `lag` counts events that are committed and not yet folded."""

    projection: str
    aggregate: str
    started: bool
    lag: int
    halted: int


async def command_lags(topics: TopicInspector, lanes: Sequence[LaneState]) -> dict[int, int]:
    """Return lane -> records between its next offset and the last stable one. Raises `Unavailable`.

    A short distance is counted, since some offsets hold no records; a long one is the difference of the offsets.
    """
    bounds = await topics.bounds({lane.command_topic: lane.partitions for lane in lanes})
    spans = {lane: (lane.next_offset, bounds[lane.command_topic][lane.partition][1]) for lane in lanes}
    lags = {lane.lane: max(0, end - at) for lane, (at, end) in spans.items()}
    short = {
        (lane.command_topic, lane.partition): span
        for lane, span in spans.items()
        if 0 < lags[lane.lane] <= _COUNTED_OFFSETS
        and span[0] >= bounds[lane.command_topic][lane.partition][0]
    }
    counted = await topics.unread(short) if short else {}
    return lags | {
        lane.lane: counted[lane.command_topic, lane.partition]
        for lane in lanes
        if (lane.command_topic, lane.partition) in counted
    }


def stream_status(lanes: Sequence[LaneState], lags: Mapping[int, int]) -> list[StreamStatus]:
    """Return the progress of each stream; `lags`: lane -> records to consume, empty if Kafka is unavailable."""
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


def read_model_status(
    catalog: StreamCatalog, lanes: Sequence[LaneState], projections: Sequence[ProjectionState]
) -> list[ReadModelStatus]:
    """Return the progress of each read model."""
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
        found.append(ReadModelStatus(name, aggregate, started=state is not None, lag=lag, halted=halted))
    return found
