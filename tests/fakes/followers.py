"""Who works a lane beside the intake, in memory: obeys the same conformance suite as the relays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tidemill.domain.lane import Claim


@dataclass
class MemoryFollower:
    """A `LaneFollower` that notes what it is told.

    `begun_lanes`: in order. `silent`: lanes (ids) that cannot be compared until they `speak`.
    """

    taken: list[Claim] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    woken: list[int] = field(default_factory=list)
    begun_lanes: list[int] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    _compared: dict[int, asyncio.Event] = field(default_factory=dict)

    async def take(self, claims: Sequence[Claim]) -> None:
        self._end(claim.lane.id for claim in claims)
        self.taken += claims
        for claim in claims:
            self._compared[claim.lane.id] = asyncio.Event()
            if claim.lane.id not in self.silent:
                self._compared[claim.lane.id].set()

    def begun(self, lanes: Sequence[int]) -> None:
        self.begun_lanes += lanes

    async def compared(self, lane_id: int) -> None:
        if lane_id in self._compared:
            await self._compared[lane_id].wait()

    async def drop(self, lanes: Sequence[int]) -> None:
        self.dropped += lanes
        self._end(lanes)

    def wake(self, lanes: Sequence[int]) -> None:
        self.woken += [lane for lane in lanes if lane in self._compared]

    def speak(self, lane_id: int) -> None:
        """Let a lane be compared."""
        self.silent.discard(lane_id)
        if lane_id in self._compared:
            self._compared[lane_id].set()

    def _end(self, lanes: Iterable[int]) -> None:
        for lane in lanes:
            if lane in self._compared:
                self._compared.pop(lane).set()
