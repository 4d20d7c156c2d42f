"""Lanes in the database: found by their names, and checked against what is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tidemill.admin.ports import LaneReader
from tidemill.admin.rows import LaneState
from tidemill.catalog.streams import ContextStream
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.lane import Anchor, Claim, Lane, Progress, StreamTopics

_MAX_LANES: Final = 1 << 15


def lane_of(state: LaneState) -> Lane:
    """Return the lane whose state it is."""
    topics = StreamTopics(
        state.command_topic, state.event_topic, state.outcome_topic, state.dead_letter_topic
    )
    return Lane(state.lane, state.aggregate, state.partition, state.partitions, topics)


def claim_of(state: LaneState) -> Claim:
    """Return the claim under which the lane is processed now, for a verb that writes to it beside its owner."""
    anchor = None
    if state.anchor_offset is not None and state.anchor_checksum is not None:
        anchor = Anchor(state.anchor_offset, state.anchor_checksum)
    progress = Progress(
        batch=state.batch,
        next_offset=state.next_offset,
        anchor=anchor,
        position=state.position,
        sequence=state.sequence,
        chain=state.chain,
        timeline=state.timeline,
        at=state.at,
    )
    return Claim(lane_of(state), state.epoch, progress)


async def find_lane(reader: LaneReader, name: str) -> LaneState:
    """Return a lane, named by its number or as `AGGREGATE/PARTITION`. Raises `UsageError` if there is none."""
    aggregate, _, partition = name.rpartition("/")
    if not partition.isdecimal():
        raise UsageError(
            f"{name!r} is not a lane: give its number, or AGGREGATE/PARTITION as in market-data/3"
        )
    number = min(int(partition), _MAX_LANES)
    lane = await reader.lane_of(aggregate, number) if aggregate else number
    found = await reader.lanes(None, lane) if lane is not None and lane < _MAX_LANES else []
    if not found:
        raise UsageError(f"lane {name} does not exist", code=ErrorCode.UNKNOWN_LANE, lane=name)
    return found[0]


async def streams_as_created(
    streams: Mapping[str, ContextStream], reader: LaneReader
) -> dict[str, tuple[ContextStream, list[LaneState]]]:
    """Return every stream as it was created, with its lanes; the settings of today do not change their number.

    Raises:
        ContractError: lanes were never created, or belong to other topics.
    """
    states = await reader.lanes()
    found = {}
    for aggregate, part in streams.items():
        lanes = [state for state in states if state.aggregate == aggregate]
        if not lanes:
            raise ContractError(
                f"{aggregate} has no lanes in this database", code=ErrorCode.NOT_CREATED, aggregate=aggregate
            )
        created, wanted = lane_of(lanes[0]).topics, part.stream.topics
        if created != wanted:
            raise ContractError(
                f"the lanes of {aggregate} belong to {created.commands}, not to {wanted.commands}: "
                "set TIDEMILL_TOPICS_PREFIX as it was when they were created, or use another database"
            )
        found[aggregate] = (part.with_lanes(len(lanes)), lanes)
    return found
