"""The status of a projector, for health, metrics and operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tidemill.projections.ports import FoldHalt


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """A projection in one lane: the last event folded, and why it is halted, if it is."""

    partition: int
    sequence: int
    halt: FoldHalt | None


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """One projection: `events` folded by this process, `active_at` the last commit, `error` if it is stopped.

    `misfit`: what of its table is not as declared, while it is stopped for that.
    """

    name: str
    lanes: Sequence[LaneStatus]
    events: int
    active_at: datetime | None
    error: str | None
    misfit: str | None = None

    @property
    def halted(self) -> Sequence[LaneStatus]:
        """Return the halted lanes."""
        return [lane for lane in self.lanes if lane.halt is not None]


@dataclass(frozen=True, slots=True)
class ProjectorStatus:
    """A stream's projector: `waiting_for` is the server that it waits for, None while all answer."""

    aggregate: str
    projections: Sequence[ProjectionStatus]
    waiting_for: str | None

    @property
    def healthy(self) -> bool:
        """Return whether every projection runs in every lane."""
        return self.waiting_for is None and not any(
            projection.error or projection.misfit or projection.halted for projection in self.projections
        )
