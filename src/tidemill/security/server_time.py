"""The time of the database's server between two answers, so that not each entry of the journal has to ask for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from tidemill.runtime.clock import Clock

FRESH_S: Final = 10.0
"""How long an answer is counted on from: two clocks drift apart by some milliseconds in that time."""

STEP_S: Final = 0.1
"""By how much this machine's clocks may differ over that time; else one was set, or the machine slept."""

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class ServerTime:
    """Counts on from the last answer. It never goes back."""

    def __init__(self, clock: Clock, *, fresh_s: float = FRESH_S) -> None:
        """Nothing is known yet."""
        self._clock = clock
        self._fresh_s = fresh_s
        self._answer: datetime | None = None
        self._monotonic_s = 0.0
        self._wall = _LONG_AGO
        self._last = _LONG_AGO

    def current(self) -> datetime | None:
        """Return the server's time; None: ask for it."""
        if self._answer is None:
            return None
        passed_s = self._clock.monotonic_s() - self._monotonic_s
        wall_s = (self._clock.now() - self._wall).total_seconds()
        if passed_s > self._fresh_s or abs(wall_s - passed_s) > STEP_S:
            return None
        return self._not_before_last(self._answer + timedelta(seconds=passed_s))

    def learn(self, answer: datetime) -> datetime:
        """Hear the server's time; return it, or the last one that was returned if that is later."""
        self._answer, self._monotonic_s, self._wall = answer, self._clock.monotonic_s(), self._clock.now()
        return self._not_before_last(answer)

    def forget(self) -> None:
        """Ask again: another server may answer next."""
        self._answer = None

    def _not_before_last(self, at: datetime) -> datetime:
        self._last = max(self._last, at)
        return self._last
