"""How much a principal may ask for in a time: a bucket of units for each, refilled as time goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidemill.runtime.clock import Clock

UNITS_PER_S: Final = 100.0
WINDOW_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """The answer to one request. `left`: units that could be spent at once. `reset_s`: until the bucket is full.

    `retry_after_s`: 0 if the request may be served, else after how many seconds it could be.
    """

    left: int
    reset_s: float
    retry_after_s: float

    @property
    def is_granted(self) -> bool:
        """Tell whether the request may be served."""
        return self.retry_after_s == 0.0


@dataclass(slots=True)
class _Bucket:
    units: float
    at_s: float


class UnitLimiter:
    """Lets each principal spend so many units a second on average, and at most those of a window at once.

    In this process alone: several limit each by themselves. There is a bucket for each principal that ever asked, so
    only names of principals that were authenticated may come here.
    """

    def __init__(self, clock: Clock, *, per_s: float = UNITS_PER_S, window_s: float = WINDOW_S) -> None:
        """Every bucket is full at first: it holds what comes in `window_s`."""
        self._clock = clock
        self._per_s = per_s
        self._capacity = per_s * window_s
        self._window_s = window_s
        self._buckets: dict[str, _Bucket] = {}

    @property
    def policy(self) -> str:
        """Return the header RateLimit-Policy: how much in which time."""
        return f'"units";q={self._capacity:g};w={self._window_s:g}'

    def spend(self, principal: str, units: float) -> Allowance:
        """Spend units of a principal, if it has them: a request that is refused costs nothing.

        A request that costs more than a bucket holds is served from a full one, and then owes the rest.
        """
        now_s = self._clock.monotonic_s()
        bucket = self._buckets.setdefault(principal, _Bucket(self._capacity, now_s))
        bucket.units = min(self._capacity, bucket.units + (now_s - bucket.at_s) * self._per_s)
        bucket.at_s = now_s
        lacking = min(units, self._capacity) - bucket.units
        if lacking <= 0:
            bucket.units -= units
        return Allowance(
            left=max(0, int(bucket.units)),
            reset_s=(self._capacity - bucket.units) / self._per_s,
            retry_after_s=max(0.0, lacking / self._per_s),
        )
