"""Rows whose time is over are removed by the service's own commands, lane by lane, under the lane's claim.

So ends what lapses, which is about a row that stays in force.
From its time on no rule and no reader takes such a row for one in force, so nobody notices when a sweep comes. What a
sweep lists is decided anew under the lock of its lane, by the time of that transaction: a row that was renewed or
replaced meanwhile stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tidemill.commands.handlers import Handler
from tidemill.commands.internal_commands import (
    InternalCommand,
    InternalCommandNumbering,
    InternalCommandWriter,
    NotSent,
)
from tidemill.commands.ports import CommandStore, LaneFollower
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.context import DecideSpec, decide
from tidemill.domain.errors import Fenced, LaneHalted, NotCompared
from tidemill.domain.lane import NO_OFFSET, Claim
from tidemill.domain.partitioner import partition_of
from tidemill.domain.state import Expiry, State
from tidemill.domain.stream import Stream
from tidemill.domain.uuid7 import new_uuid7
from tidemill.runtime.periodic import Periodic
from tidemill.runtime.telemetry.metrics import ROWS_EXPIRED

SERVICE: Final = "tidemill.expiry"
"""The service that these commands, and the events that follow, name."""

PAGE_ROWS: Final = 1_000
"""How many rows are listed at once, and at most removed in one transaction."""

_FIRST: Final = (datetime.min.replace(tzinfo=UTC), "")


@dataclass
class FlowingLanes:
    """The lanes of a stream that this process may write to, as followers of lanes are told; so are the `relays`."""

    relays: LaneFollower
    claims: dict[int, Claim] = field(default_factory=dict)
    _taken: dict[int, Claim] = field(default_factory=dict, repr=False)

    async def take(self, claims: Sequence[Claim]) -> None:
        """Follow these claims from now on."""
        self._forget([claim.lane.id for claim in claims])
        self._taken |= {claim.lane.id: claim for claim in claims}
        await self.relays.take(claims)

    async def compared(self, lane_id: int) -> None:
        """Return when the lane was compared."""
        await self.relays.compared(lane_id)

    def begun(self, lanes: Sequence[int]) -> None:
        """Write to these lanes from now on."""
        self.relays.begun(lanes)
        for claim in [self._taken[lane_id] for lane_id in lanes if lane_id in self._taken]:
            self.claims[claim.lane.partition] = claim

    async def drop(self, lanes: Sequence[int]) -> None:
        """Write to these lanes no more."""
        self._forget(lanes)
        await self.relays.drop(lanes)

    def owning(self, keys: Iterable[str], partitions: int) -> Iterator[tuple[Claim, list[str]]]:
        """Yield the keys of each lane that is this process's; the others have owners of their own.

        `partitions`: how many lanes the stream has.
        """
        by_partition: dict[int, list[str]] = defaultdict(list)
        for key in keys:
            by_partition[partition_of(key.encode(), partitions)].append(key)
        for partition, of_lane in sorted(by_partition.items()):
            if (claim := self.claims.get(partition)) is not None:
                yield claim, of_lane

    def wake(self, lanes: Sequence[int]) -> None:
        """Say that something was committed."""
        self.relays.wake(lanes)

    def _forget(self, lanes: Sequence[int]) -> None:
        for claim in [self._taken.pop(lane_id) for lane_id in lanes if lane_id in self._taken]:
            self.claims.pop(claim.lane.partition, None)


class ExpirySweeper(Periodic):
    """Removes the rows of a stream's own lanes whose time is over; a lane is swept by its owner alone."""

    def __init__(
        self,
        stream: Stream,
        *,
        store: CommandStore,
        handler: Handler,
        writer: InternalCommandWriter,
        lanes: FlowingLanes,
        every_s: float,
    ) -> None:
        """`handler`: of the stream's `decide` commands. Nothing happens before `run`."""
        super().__init__(every_s=every_s)
        self._stream = stream
        self._store = store
        self._handler = handler
        self._writer = writer
        self._lanes = lanes

    async def look(self) -> None:
        """Remove and end what is over. Raises `TransientError`; what was committed before stays so."""
        for state in self._stream.states:
            for ending in state.endings:
                await self._sweep(state, ending)

    async def _sweep(self, state: State, expiry: Expiry) -> None:
        after = _FIRST
        while listed := await self._store.expired(state, expiry, after, PAGE_ROWS):
            after = listed[-1]
            for claim, keys in self._lanes.owning([key for _, key in listed], self._stream.partitions):
                await self._remove(claim, expiry, keys)

    async def _remove(self, claim: Claim, expiry: Expiry, keys: Sequence[str]) -> None:
        try:
            async with self._writer.transaction(claim) as numbering:
                await self._decide(numbering, claim, expiry, keys)
        except (Fenced, LaneHalted, NotCompared):  # its next owner sweeps it, or this one once it flows again
            return
        if numbering.orders:
            ROWS_EXPIRED.labels(self._stream.aggregate).inc(len(numbering.orders))
            self._lanes.wake([claim.lane.id])

    async def _decide(
        self, numbering: InternalCommandNumbering, claim: Claim, expiry: Expiry, keys: Sequence[str]
    ) -> None:
        """Decide a command for each key like any command; what is refused is in force again, or gone."""
        spec = decide(expiry.command, expiry.rule, clocked=True, key=expiry.key)
        arrivals = [self._arrival(claim, expiry, spec, key, numbering.at) for key in keys]
        results = await self._handler.apply(numbering.work, arrivals, numbering.locked)
        for key, arrival, result in zip(keys, arrivals, results, strict=True):
            if isinstance(result, list):
                name, command_id = f"{self._stream.namespace}.{expiry.command.__name__}", arrival.command_id
                assert command_id is not None, "made with one"
                numbering.orders.append(InternalCommand(name, command_id, SERVICE, key.encode(), result))

    def _arrival(
        self, claim: Claim, expiry: Expiry, spec: DecideSpec, key: str, at: datetime
    ) -> IncomingCommand:
        command_id = str(new_uuid7(at))
        base: Mapping[str, Any] = {"command_id": command_id, "service_name": SERVICE, "timestamp": at}
        return IncomingCommand(
            claim.lane.id,
            NotSent(claim.lane.partition, NO_OFFSET, key.encode()),
            command=expiry.make(key, base),
            spec=spec,
            command_id=command_id,
        )
