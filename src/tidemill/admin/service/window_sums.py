"""Sums over the last seconds by key: one step for an event, one walk over the seconds for the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidemill.runtime.clock import Clock

WINDOW_S: Final = 60
MAX_KEYS: Final = 1_000

Key = tuple[str, str, str]
"""Service, collection, operation."""

OTHERS: Final[Key] = ("(others)", "*", "*")
"""Where a second counts what has a key beyond the bound: nothing is left out of the total."""


@dataclass(slots=True)
class WindowSum:
    """Events, and their seconds and rows."""

    count: int = 0
    failed: int = 0
    cache_hits: int = 0
    rows: int = 0
    seconds: float = 0.0
    max_seconds: float = 0.0

    def add(self, other: WindowSum) -> None:
        """Add another sum to it."""
        self.count += other.count
        self.failed += other.failed
        self.cache_hits += other.cache_hits
        self.rows += other.rows
        self.seconds += other.seconds
        self.max_seconds = max(self.max_seconds, other.max_seconds)

    @property
    def mean_seconds(self) -> float:
        """Return the seconds of an event on average, 0 without any."""
        return self.seconds / self.count if self.count else 0.0


class WindowSums:
    """Sums of the last `WINDOW_S` seconds, the present one included, by the clock's monotonic time."""

    def __init__(self, clock: Clock) -> None:
        """Nothing was added."""
        self._clock = clock
        self._seconds: list[tuple[int, dict[Key, WindowSum]]] = [(-1, {}) for _ in range(WINDOW_S)]

    def add(
        self, key: Key, seconds: float, *, rows: int = 0, failed: bool = False, cache_hit: bool = False
    ) -> None:
        """Add one event."""
        sums = self._present()
        if key not in sums and len(sums) >= MAX_KEYS:
            key = OTHERS
        sums.setdefault(key, WindowSum()).add(WindowSum(1, failed, cache_hit, rows, seconds, seconds))

    def by_key(self) -> dict[Key, WindowSum]:
        """Return the sums of the last `WINDOW_S` seconds; a key without any event is left out."""
        now = int(self._clock.monotonic_s())
        total: dict[Key, WindowSum] = {}
        for second, sums in self._seconds:
            if now - WINDOW_S < second <= now:
                for key, one in sums.items():
                    total.setdefault(key, WindowSum()).add(one)
        return total

    def total(self) -> WindowSum:
        """Return the sum over all keys."""
        total = WindowSum()
        for one in self.by_key().values():
            total.add(one)
        return total

    def _present(self) -> dict[Key, WindowSum]:
        now = int(self._clock.monotonic_s())
        second, sums = self._seconds[now % WINDOW_S]
        if second != now:
            sums = {}
            self._seconds[now % WINDOW_S] = (now, sums)
        return sums
