"""The relays of a process: one for every lane it has claimed, and their shared housekeeping.

The intake reports what was claimed, dropped and committed. Three checks are made for all lanes at once, so that idle
lanes cost next to nothing: has the outbox rows that were not announced to a relay (a fallback), how far was published
(stored as a hint), and was a halt lifted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from tidemill.domain.errors import TransientError
from tidemill.domain.lane import Claim, lane_spans
from tidemill.outbox.backlog_poll import FIRST_S, MAX_S, BacklogPoll
from tidemill.outbox.ports import (
    LaneEnd,
    OutboxReader,
    OutcomeCodec,
    PackFormat,
    Published,
    Publishers,
    RecordFormat,
)
from tidemill.outbox.relay import LaneRelay, RelayState
from tidemill.outbox.send_loop import RelayParts, SendPace
from tidemill.runtime.pauses import every
from tidemill.runtime.retry import Backoff
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import UNPUBLISHED

T = TypeVar("T")

_COUNTED: Final = (RelayState.SENDING, RelayState.HALTED)
"""The relays whose lanes have a known backlog."""

_BACKOFF: Final = Backoff(first_s=0.1, max_s=5.0)

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """The shared limits of the relays of a stream.

    A publication holds at most `max_positions` of its lane and `max_bytes` of payload; many lanes share
    `positions_in_all` and `bytes_in_all`, so that a backlog in each of them fits into memory. A dead letter above
    `max_letter_bytes` is sent without its large parts.
    """

    max_positions: int = 4_000
    min_positions: int = 250
    positions_in_all: int = 32_000
    max_bytes: int = 1 << 20
    min_bytes: int = 128 << 10
    bytes_in_all: int = 32 << 20
    max_letter_bytes: int = 1 << 20
    poll_first_s: float = FIRST_S
    poll_longest_s: float = MAX_S
    mark_every_s: float = 1.0
    halts_every_s: float = 2.0
    tell_every_s: float = 1.0
    ends_every_s: float = 5.0
    stop_within_s: float = 2.0
    backoff: Backoff = _BACKOFF

    def shared_by(self, streams: int) -> RelaySettings:
        """Return the settings of each of so many streams of a process, which share the memory."""
        return replace(
            self, positions_in_all=self.positions_in_all // streams, bytes_in_all=self.bytes_in_all // streams
        )


class LaneRelays:
    """The relays of the lanes that this process has claimed; a `Service`, and the intake's `LaneFollower`."""

    def __init__(
        self,
        reader: OutboxReader,
        publishers: Publishers,
        outcomes: OutcomeCodec,
        records: RecordFormat,
        packs: PackFormat,
        settings: RelaySettings | None = None,
        backlog: BacklogPoll | None = None,
    ) -> None:
        """`backlog`: the poll that the streams of a process share; None: one of its own."""
        self._settings = settings or RelaySettings()
        self._backlog = backlog or BacklogPoll(
            first_s=self._settings.poll_first_s, max_s=self._settings.poll_longest_s
        )
        self._reader = reader
        self._parts = RelayParts(reader, publishers, outcomes, records, packs, self._settings.backoff)
        self._relays: dict[int, LaneRelay] = {}
        self._marked: dict[int, Published] = {}
        self._hints: dict[int, Published] = {}
        self._shown: set[str] = set()
        self._changing = asyncio.Lock()
        self._marking = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._put_off: set[str] = set()

    # --- called by the intake ---

    async def take(self, claims: Sequence[Claim]) -> None:
        """Relay these lanes from now on."""
        async with self._changing:
            await self._stop([claim.lane.id for claim in claims])
            taken = [LaneRelay(claim, self._parts, self._pace()) for claim in claims]
            self._relays |= {relay.lane_id: relay for relay in taken}

    def begun(self, lanes: Sequence[int]) -> None:
        """Nothing: a relay sends all rows, whichever process wrote them."""

    async def compared(self, lane_id: int) -> None:
        """Return when the topics were compared with a lane's (id) log (a mismatch halts it), or it was dropped."""
        if lane_id in self._relays:
            await self._relays[lane_id].compared()

    async def drop(self, lanes: Iterable[int]) -> None:
        """Release lanes (ids) within a few seconds; what was acknowledged is stored."""
        async with self._changing:
            await self._stop(lanes)

    def wake(self, lanes: Iterable[int]) -> None:
        """Say that something was committed in lanes (ids)."""
        for lane_id in lanes:
            if lane_id in self._relays:
                self._relays[lane_id].wake()

    # --- service ---

    async def start(self) -> None:
        """Nothing to prepare; relays start when lanes are taken."""

    async def run(self) -> None:
        """Do the housekeeping until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._backlog.follow(self, self._reader, self._stopping))
            for seconds, work in (
                (self._settings.mark_every_s, partial(self._tolerantly, "hints", self._mark)),
                (self._settings.halts_every_s, partial(self._tolerantly, "halts", self._lift_halts)),
                (self._settings.tell_every_s, self._tell),
                (self._settings.ends_every_s, self._compare_shortened),
            ):
                group.create_task(every(seconds, work, self._stopping))

    async def stop(self) -> None:
        """Release all lanes, then end."""
        await self.drop(list(self._relays))
        self._parts.tell()
        self._stopping.set()

    def health(self) -> Health:
        """Return how many lanes are in which state; not well while one of them keeps failing."""
        states = Counter(relay.state.value for relay in self._relays.values())
        failing = [
            relay.lane_id
            for relay in self._relays.values()
            if relay.failures > 1 and relay.state is not RelayState.ENDED  # its lane is another process's now
        ]
        return Health(ok=not failing, detail={"lanes": dict(states), "failing": failing})

    def states(self) -> dict[int, tuple[RelayState, Published]]:
        """Return lane (id) -> the state of its relay, and how far the broker has acknowledged."""
        return {lane_id: (relay.state, relay.published) for lane_id, relay in self._relays.items()}

    def history(self, lane_id: int) -> LaneEnd | None:
        """Return a lane's (id) history as its relay has compared it; None if it has not."""
        relay = self._relays.get(lane_id)
        return relay.history if relay is not None else None

    # --- housekeeping ---

    def _pace(self) -> SendPace:
        return SendPace(self._share, self._share_of_bytes, self._settings.max_letter_bytes)

    def _share(self) -> int:
        """Return how many positions a lane may publish at once, with the present number of lanes."""
        settings = self._settings
        share = settings.positions_in_all // max(1, len(self._relays))
        return min(settings.max_positions, max(settings.min_positions, share))

    def _share_of_bytes(self) -> int:
        settings = self._settings
        share = settings.bytes_in_all // max(1, len(self._relays))
        return min(settings.max_bytes, max(settings.min_bytes, share))

    async def _stop(self, lanes: Iterable[int]) -> None:
        stopping = [self._relays[lane_id] for lane_id in lanes if lane_id in self._relays]
        if not stopping:
            return
        try:
            ended = await asyncio.gather(*(relay.stop(self._settings.stop_within_s) for relay in stopping))
            if not all(ended):
                left = [
                    relay.claim.lane
                    for relay, has_ended in zip(stopping, ended, strict=True)
                    if not has_ended
                ]
                _log.warning(Log.DRAIN_CUT_OFF, lanes=lane_spans(left))
            await self._tolerantly("hints", lambda: self._mark_of(stopping))
        finally:  # a revocation has a deadline: what it cuts off must not go on failing here
            for relay in stopping:
                del self._relays[relay.lane_id]
                self._marked.pop(relay.lane_id, None)
                self._hints.pop(relay.lane_id, None)
            if not self._relays:
                self._show_backlog([], {})

    async def question(self) -> Mapping[int, int] | None:
        """See `PolledLanes`: of every lane with a known backlog, how far it is published."""
        return await self._tolerantly("backlog", self._known_positions)

    def answer(self, asked: Mapping[int, int], newest: Mapping[int, int]) -> bool:
        """See `PolledLanes`: wake the relays of lanes that have more, and do not know it."""
        relays = [self._relays[lane_id] for lane_id in asked if lane_id in self._relays]
        behind = {lane_id: newest[lane_id] - asked[lane_id] for lane_id in asked if lane_id in newest}
        self._show_backlog(relays, behind)
        self._put_off.discard("backlog")
        missed = [relay for relay in relays if relay.waiting and relay.lane_id in behind]
        for relay in missed:
            relay.wake()
        return bool(missed)

    def put_off(self, error: TransientError) -> None:
        """See `PolledLanes`."""
        self._note_put_off("backlog", error)

    async def _known_positions(self) -> dict[int, int]:
        relays = [relay for relay in self._relays.values() if relay.state in _COUNTED]
        return {relay.lane_id: (await self._published(relay)).position for relay in relays}

    async def _published(self, relay: LaneRelay) -> Published:
        """Return how far a lane is published; of one that was halted before it was compared, the stored hint."""
        if relay.state is RelayState.SENDING or relay.published.position:
            return relay.published
        if relay.lane_id not in self._hints:
            self._hints[relay.lane_id] = await self._reader.published(relay.lane_id)
        return self._hints[relay.lane_id]

    def _show_backlog(self, relays: Sequence[LaneRelay], behind: Mapping[int, int]) -> None:
        """Set the metric of each stream, also of one whose last lane was lost."""
        backlog = Counter(dict.fromkeys(self._shown, 0))
        for relay in relays:
            backlog[relay.claim.lane.aggregate] += behind.get(relay.lane_id, 0)
        for aggregate, positions in backlog.items():
            UNPUBLISHED.labels(aggregate).set(positions)
        self._shown |= backlog.keys()

    async def _mark(self) -> None:
        await self._mark_of(list(self._relays.values()))

    async def _mark_of(self, relays: Iterable[LaneRelay]) -> None:
        """Store how far these lanes were published, in one statement.

        One at a time: nothing of a lane may be in flight when it is dropped.
        """
        async with self._marking:
            marks = {relay.lane_id: relay.published for relay in relays}
            news = {
                lane_id: mark
                for lane_id, mark in marks.items()
                if mark.position and mark != self._marked.get(lane_id)
            }
            if news:
                await self._reader.mark(news)
                self._marked |= news

    async def _lift_halts(self) -> None:
        standing = [relay for relay in self._relays.values() if relay.state is RelayState.HALTED]
        if not standing:
            return
        halted = await self._reader.halted([relay.lane_id for relay in standing])
        for relay in standing:
            if relay.lane_id not in halted:
                relay.clear()

    async def _compare_shortened(self) -> None:
        """Compare the topics of idle lanes again if they end earlier than before: nothing else would notice."""
        relays = [relay for relay in self._relays.values() if relay.waiting]
        if not relays:
            return
        try:
            shorter = await self._parts.publishers.shortened([relay.claim.lane for relay in relays])
        except TransientError:
            return  # the publications that fail tell of it
        for relay in relays:
            if relay.lane_id in shorter:
                relay.compare_again()

    async def _tell(self) -> None:
        """Log incidents that began and ended: periodically, so that an outage is one line and not one for each lane."""
        self._parts.tell()

    async def _tolerantly(self, what: str, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do what can wait for the next time if the database is unavailable; log that once."""
        try:
            result = await work()
        except TransientError as error:
            self._note_put_off(what, error)
            return None
        if what != "backlog":  # of which this was a part: `answer` tells that it is known
            self._put_off.discard(what)
        return result

    def _note_put_off(self, what: str, error: TransientError) -> None:
        if not self._put_off:
            _log.info(Log.RELAY_WAITS, put_off=what, reason=str(error))
        self._put_off.add(what)
