"""Waiting for a newer version: a lane waits before a command that this version does not know completely.

    the first such command of a lane    -> what is before it is applied, the rest stays queued
    a process that knows the schema     -> takes the lane over, by a restart or a rebalance, and continues
    the time is over, or an operator    -> it is parked, and for a day every other one of the lane is parked at once

How long a lane may wait is bounded for the lane, not for a schema or a record: a client that may register a schema, or
a thousand, delays a lane for that long, once a day. The start of the wait is in the database, by the database's clock,
so that no restart, take-over or rebalance resets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from tidemill.commands.batch import BatchResult
from tidemill.commands.lane_queues import BatchInput, LaneQueue, Queues
from tidemill.commands.numbering import clean
from tidemill.commands.ports import CommandStore
from tidemill.commands.validation import IncomingCommand
from tidemill.commands.waits import Newer, Wait
from tidemill.domain.errors import Fenced, NewerSchema, Unreadable
from tidemill.domain.lane import Claim
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import LANES_WAITING

_log = logger(__name__)

REST: Final = timedelta(days=1)
"""For how long a lane that waited in vain does not wait again."""

_MAX_SHOWN: Final = 8
_MAX_LABEL_CHARACTERS: Final = 64


def next_wait(before: Wait | None, newer: Newer, now: datetime, at_most: timedelta) -> Wait:
    """Return the next wait of a lane whose next command is `newer`; one that is `over` parks it.

    `before`: the lane's last wait. `now`: the database's time. `at_most`: how long it may wait in all.
    """
    if before is not None and before.over_at is not None and now < before.over_at + REST:
        return before
    if before is None or before.over_at is not None or before.newer.offset != newer.offset:
        return Wait(newer, since=now, until=now + at_most)
    until = before.since + at_most
    return before._replace(until=until, over_at=now if now >= until else None)


@dataclass
class HeldBack:
    """What of a batch continues. `waits`: lane id -> its new wait; `fenced`: lanes claimed by others."""

    arrivals: Sequence[IncomingCommand]
    waits: dict[int, Wait] = field(default_factory=dict)
    fenced: set[int] = field(default_factory=set)


class Waits:
    """The lanes of one intake that wait for a newer version."""

    def __init__(
        self,
        aggregate: str,
        store: CommandStore,
        queues: Queues,
        *,
        at_most: timedelta,
        wake: Callable[[], None],
    ) -> None:
        """`at_most`: how long a lane waits; zero: records are parked at once. `wake`: called when lanes continue."""
        self._aggregate = aggregate
        self._store = store
        self._queues = queues
        self._at_most = at_most
        self._wake = wake
        self._measured: set[tuple[str, str]] = set()

    async def hold_back(self, claims: Mapping[int, Claim], arrivals: Sequence[IncomingCommand]) -> HeldBack:
        """Take out what has to wait: of each lane the first command of a newer version, and all after it."""
        first: dict[int, IncomingCommand] = {}
        for arrival in arrivals:
            if arrival.disposition is not None and isinstance(arrival.disposition, NewerSchema):
                first.setdefault(arrival.lane_id, arrival)
        held = HeldBack(arrivals)
        if not first or not self._at_most:
            return held
        ends: dict[int, int] = {}
        for lane_id, arrival in first.items():
            try:
                wait = await self._store.wait(claims[lane_id], newer_of(arrival), self._at_most)
            except Fenced:
                held.fenced.add(lane_id)
                ends[lane_id] = 0
                continue
            if wait.over_at is None:
                held.waits[lane_id] = wait
                ends[lane_id] = arrival.record.offset
            else:
                _explain(arrivals, lane_id, why_over(wait, newer_of(arrival)))
        held.arrivals = [
            each for each in arrivals if each.lane_id not in ends or each.record.offset < ends[each.lane_id]
        ]
        return held

    def begin(self, batch_input: BatchInput, result: BatchResult) -> None:
        """Put back what a batch left out; its lanes are taken from again when their wait is over."""
        for queue in batch_input.queues:
            wait = result.waits.get(queue.lane_id)
            ours = self._queues.get(queue.partition) is queue
            if wait is None or not ours or queue.lane_id in result.fenced or queue.lane_id in result.halted:
                continue
            held = [
                r
                for lane_id, r in batch_input.records
                if lane_id == queue.lane_id and r.offset >= wait.newer.offset
            ]
            self._queues.wait(queue, wait, held)
            _log.warning(Log.LANE_WAITS, lane=_name(queue), **_shown(wait), reason=wait.newer.detail)
        if result.waits:
            self.measure()

    async def watch(self) -> None:
        """Resume lanes whose wait is over: then the command that they wait for is parked. Raises `TransientError`."""
        waiting = {queue.lane_id: queue for queue in self._waiting()}
        if waiting:
            still = await self._store.waiting(list(waiting))
            over = [queue for lane_id, queue in waiting.items() if lane_id not in still]
            for queue in over:
                _log.info(Log.LANE_GOES_ON, lane=_name(queue))
                queue.waits = None
            if over:
                self._wake()
        self.measure()

    def shown(self) -> dict[str, Any]:
        """Return the text of `/health` about them; nothing if no lane waits."""
        waiting = self._waiting()
        if not waiting:
            return {}
        first = [
            {"lane": _name(queue), **_shown(queue.waits)} for queue in waiting[:_MAX_SHOWN] if queue.waits
        ]
        return {"waiting": {"lanes": len(waiting), "first": first}}

    def _waiting(self) -> list[LaneQueue]:
        return [queue for queue in self._queues.all() if queue.waits is not None]

    def measure(self) -> None:
        """Set the metric, which has a series for each schema and sender that lanes wait for, and no other."""
        counted: dict[tuple[str, str], int] = {}
        for queue in self._waiting():
            assert queue.waits is not None
            labels = queue.waits.newer.schema, (queue.waits.newer.service or "")[:_MAX_LABEL_CHARACTERS]
            counted[labels] = counted.get(labels, 0) + 1
        for labels in self._measured - counted.keys():
            LANES_WAITING.remove(self._aggregate, *labels)
        for labels, lanes in counted.items():
            LANES_WAITING.labels(self._aggregate, *labels).set(lanes)
        self._measured = set(counted)


def newer_of(arrival: IncomingCommand) -> Newer:
    """Return what is stored about a command that is newer than this version, while its lane waits."""
    disposition = arrival.disposition
    assert isinstance(disposition, NewerSchema)
    return Newer(
        offset=arrival.record.offset,
        schema=disposition.schema,
        type_name=clean(disposition.type_name),
        service=None if disposition.service is None else clean(disposition.service),
        detail=clean(disposition.detail),
    )


def why_over(wait: Wait, newer: Newer) -> str:
    """Say why a lane does not wait, for the operator who finds the record parked."""
    assert wait.over_at is not None
    if wait.newer.offset != newer.offset:
        return f"the lane already waited for a newer version, until {wait.over_at:%Y-%m-%d %H:%M} UTC"
    if wait.reason is not None:
        return f"parked by hand: {wait.reason}"
    waited_s = (wait.over_at - wait.since).total_seconds()
    return f"the lane waited for {waited_s:.0f} s, and no process with that schema took it over"


def _explain(arrivals: Sequence[IncomingCommand], lane_id: int, why: str) -> None:
    """Add to the parked records of a lane why they do not wait."""
    for arrival in arrivals:
        disposition = arrival.disposition
        if arrival.lane_id == lane_id and isinstance(disposition, NewerSchema):
            arrival.disposition = Unreadable(disposition.code, f"{disposition.detail}; {why}")


def _name(queue: LaneQueue) -> str:
    return f"{queue.claim.lane.aggregate}/{queue.partition}"


def _shown(wait: Wait) -> dict[str, Any]:
    newer = wait.newer
    return {
        "offset": newer.offset,
        "schema": newer.schema,
        "type": newer.type_name,
        "service": newer.service,
        "since": wait.since.isoformat(timespec="seconds"),
        "until": wait.until.isoformat(timespec="seconds"),
    }
