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
    bounds = await topics.bounds({state.command_topic: state.partitions for state in lanes})
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


def stream_status(lanes: Sequence[LaneState], lags: Mapping[int, int]) -> list[StreamStatus]:
    """Return the progress of each stream; `lags`: lane -> records to consume, empty if Kafka is unavailable."""
    streams = []
    for aggregate in dict.fromkeys(state.aggregate for state in lanes):
        ours = [state for state in lanes if state.aggregate == aggregate]
        lag = sum(lags[state.lane] for state in ours) if lags else None
        streams.append(
            StreamStatus(
                aggregate=aggregate,
                lanes=len(ours),
                owned=sum(state.owned for state in ours),
                halted=sum(state.halt_code is not None for state in ours),
                command_lag=lag,
                unpublished=sum(state.position - (state.published_position or 0) for state in ours),
                events=sum(state.sequence for state in ours),
                waiting=sum(state.waits_since is not None for state in ours),
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
