"""What removes rows of a stream by itself, each service only where the stream declares such rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tidemill.commands.expiry import ExpirySweeper, FlowingLanes
from tidemill.commands.handlers import Handler
from tidemill.commands.internal_commands import InternalCommandWriter
from tidemill.commands.ports import CommandStore, LaneFollower
from tidemill.commands.superseded import SupersededSweeper
from tidemill.domain.context import CommandSpec, DecideSpec
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Service


class SweepPeriods(Protocol):
    """How many seconds are between two looks of each service."""

    @property
    def expiry_every_s(self) -> float: ...

    @property
    def superseded_every_s(self) -> float: ...


def with_sweepers(
    stream: Stream,
    store: CommandStore,
    handlers: Mapping[type[CommandSpec], Handler],
    follower: LaneFollower,
    periods: SweepPeriods,
) -> tuple[LaneFollower, dict[str, Service]]:
    """Return what follows the lanes of a stream, and the services that remove its rows.

    `handlers`: of the stream. `follower`: what follows its lanes otherwise.
    """
    lanes, writer = FlowingLanes(follower), InternalCommandWriter(store, SystemClock())
    sweepers: dict[str, Service] = {}
    if any(state.endings for state in stream.states):
        sweepers["expiry"] = ExpirySweeper(
            stream,
            store=store,
            handler=handlers[DecideSpec],
            writer=writer,
            lanes=lanes,
            every_s=periods.expiry_every_s,
        )
    if stream.removals:
        sweepers["superseded"] = SupersededSweeper(
            stream, store=store, writer=writer, lanes=lanes, every_s=periods.superseded_every_s
        )
    return (lanes, sweepers) if sweepers else (follower, {})
