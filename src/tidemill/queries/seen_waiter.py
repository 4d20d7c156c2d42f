"""Readers that wait for what they have seen: one question to the database a tick, for all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.ports import LaneProgressReader, ProgressKey
from tidemill.queries.seen import (
    HEADER,
    MAX_LANES,
    SeenLane,
    SeenProgress,
    SeenToken,
    TokenState,
    bad_token,
    format_seen,
    lanes_in,
    states_of,
)
from tidemill.runtime.clock import Clock
from tidemill.runtime.pauses import stopped_within

TICK_S: Final = 0.02
DEFAULT_WAIT_S: Final = 2.0
MAX_WAIT_S: Final = 30.0
RETRY_AFTER_S: Final = 1.0

Pause = Callable[[asyncio.Event], Awaitable[object]]
"""Waits for the next tick, or for the event."""


async def next_tick(arrived: asyncio.Event) -> None:
    """Wait for a tick, or less if a reader arrives."""
    await stopped_within(arrived, TICK_S)


@dataclass(frozen=True, slots=True)
class Reached:
    """All that was seen is shown."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What is shown is older than what was seen. `wanted`: the numbers not reached. `shown`: those of their lanes."""

    wanted: SeenToken
    shown: SeenToken

    def __str__(self) -> str:
        """Return it as a sentence."""
        lanes = (f"{lane} is at {self.shown[lane]}, asked for is {self.wanted[lane]}" for lane in self.wanted)
        return "; ".join(lanes)

    @property
    def header(self) -> str:
        """Return the value of `Tidemill-Behind`: how far the lanes are, written like a token."""
        return format_seen(self.shown)


@dataclass(eq=False, slots=True)
class _Waiting:
    """A reader that waits. `keys`: what is asked of the database for each lane of its token."""

    seen: SeenToken
    keys: Mapping[SeenLane, ProgressKey]
    deadline_s: float
    answer: asyncio.Future[Reached | Behind] = field(default_factory=asyncio.Future)

    def look(self, progress: Mapping[ProgressKey, SeenProgress], now_s: float) -> None:
        """Answer if it is decided, or too late. A refusal is an answer, too."""
        lanes = {lane: progress[key] for lane, key in self.keys.items() if key in progress}
        states = states_of(self.seen, lanes)
        if (refused := _refusal(self.seen, states)) is not None:
            self.fail(refused)
        elif not (late := {lane: self.seen[lane] for lane in lanes_in(states, TokenState.BEHIND)}):
            self._end(Reached())
        elif now_s >= self.deadline_s:
            self._end(Behind(late, {lane: lanes[lane].shown for lane in late}))

    def _end(self, answer: Reached | Behind) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Let its reader get an error."""
        if not self.answer.done():
            self.answer.set_exception(error)


class SeenWaiter:
    """Lets reads wait for what their readers have seen. One for a process.

    While no reader waits, nothing is asked. For a new reader the database is asked at once, together with all that
    wait; for those that wait, at every tick. There is one question at a time.
    """

    def __init__(
        self,
        reader: LaneProgressReader,
        projections: Mapping[str, str],
        clock: Clock,
        pause: Pause = next_tick,
    ) -> None:
        """`projections`: the read models of the deployment, name -> aggregate whose events they fold."""
        self._reader = reader
        self._projections = projections
        self._clock = clock
        self._pause = pause
        self._waiting: set[_Waiting] = set()
        self._arrived = asyncio.Event()
        self._latest_s = float("inf")
        self._loop: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Return how many readers wait."""
        return len(self._waiting)

    async def reached(
        self,
        seen: SeenToken,
        projection: str | None,
        wait_s: float = DEFAULT_WAIT_S,
        *,
        stale_ok: bool = False,
        visible: Callable[[str], bool] = lambda _: True,
    ) -> Reached | Behind:
        """Return when the rows show what was seen: those of a read model, or, for None, of facts and state.

        A read that begins after the return sees it. `wait_s`: at most 30 seconds. `stale_ok`: return `Behind` then.
        `visible`: whether the reader may know that an aggregate exists.

        Raises:
            RequestRefused: BEHIND, it was not reached in time; WITHDRAWN, BAD_TOKEN, LANE_HALTED at once.
            Unavailable: the database is unavailable.
        """
        if not seen:
            return Reached()
        now_s, within_s = self._clock.monotonic_s(), min(max(wait_s, 0.0), MAX_WAIT_S)
        deadline_s = min(now_s + within_s, self._latest_s)
        answer = await self._answered(_Waiting(seen, self._keys(seen, projection, visible), deadline_s))
        if isinstance(answer, Behind) and not stale_ok:
            raise RequestRefused(
                RequestCode.BEHIND,
                f"not reached within {within_s:g} s: {answer}",
                RequestFault("header", HEADER, str(answer)),
                retry_after_s=RETRY_AFTER_S,
            )
        return answer

    def end_within(self, seconds: float) -> None:
        """Let no reader wait longer than this from now, nor any that comes later: the process is about to end."""
        self._latest_s = min(self._latest_s, self._clock.monotonic_s() + seconds)
        for reader in self._waiting:
            reader.deadline_s = min(reader.deadline_s, self._latest_s)

    async def lanes_of(self, aggregate: str, projection: str | None) -> SeenToken:
        """Return how far all lanes of a collection are, for `Prefer: seen=all`; lanes without events are left out.

        A read that begins after the return has seen it.

        Raises:
            RequestRefused: BAD_PARAMETER, there are more lanes than a token can name.
        """
        seen = await self._reader.seen(aggregate, projection)
        if len(seen) > MAX_LANES:
            raise RequestRefused(
                RequestCode.BAD_PARAMETER,
                f"it has {len(seen)} lanes with events, and a token names at most {MAX_LANES}: leave out seen=all",
                RequestFault("header", "Prefer", "seen=all"),
            )
        return seen

    def _keys(
        self, seen: SeenToken, projection: str | None, visible: Callable[[str], bool]
    ) -> dict[SeenLane, ProgressKey]:
        """Return what to ask. A lane that may not be known is asked about under a name that no lane has."""
        folds = None if projection is None else self._projections.get(projection)
        return {
            lane: ProgressKey(
                lane.aggregate if visible(lane.aggregate) else "",
                lane.partition,
                projection if projection is not None and lane.aggregate == folds else "",
            )
            for lane in seen
        }

    async def _answered(self, waiting: _Waiting) -> Reached | Behind:
        self._waiting.add(waiting)
        self._arrived.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._serve())
        try:
            return await waiting.answer
        finally:
            self._waiting.discard(waiting)

    async def _serve(self) -> None:
        """Ask while any reader waits. A reader whose client left is no longer among them."""
        while self._waiting:
            self._arrived.clear()
            await self._look(tuple(self._waiting))
            if self._waiting:
                await self._pause(self._arrived)

    async def _look(self, waiting: tuple[_Waiting, ...]) -> None:
        keys = {key for reader in waiting for key in reader.keys.values()}
        try:
            progress = await self._reader.progress(keys)
        except Exception as error:  # noqa: BLE001  whatever it is, all readers get it
            for reader in waiting:
                reader.fail(error)
            self._waiting.difference_update(waiting)
            return
        now_s = self._clock.monotonic_s()
        for reader in waiting:
            reader.look(progress, now_s)
        self._waiting.difference_update([reader for reader in waiting if reader.answer.done()])


def _refusal(seen: SeenToken, states: Mapping[SeenLane, TokenState]) -> RequestRefused | None:
    """Return why a token cannot be waited for, None if it can."""
    for lane in lanes_in(states, TokenState.UNKNOWN):
        return bad_token(f"{HEADER} names {lane}={seen[lane]}, which does not exist")
    for lane in lanes_in(states, TokenState.WITHDRAWN):
        return RequestRefused(RequestCode.WITHDRAWN, f"{lane}={seen[lane]} was withdrawn by a reconciliation")
    for lane in lanes_in(states, TokenState.HALTED):
        return RequestRefused(
            RequestCode.LANE_HALTED,
            f"lane {lane} is halted, and whether {seen[lane]} stays is not decided",
            retry_after_s=RETRY_AFTER_S,
        )
    return None
