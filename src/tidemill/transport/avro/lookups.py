"""Which ids the registry is asked for: new ones, and those that it did not have at the last request.

A negative answer is not kept for long: a schema may be registered a moment late, or be known to another replica of it
already. So it is requested again after a second, then after two, four and so on. The number of such requests is
limited for all ids together: a flood of invented ids must not become a flood of requests that whole batches wait for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from tidemill.runtime.clock import Clock

FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 60.0

MAX_AT_ONCE: Final = 64
"""Failed look-ups allowed in a burst; successful ones are not counted."""
PER_S: Final = 16.0
"""Failed look-ups allowed per second in the long run."""

_MAX_REFUSED: Final = 4096


class _Refusal(NamedTuple):
    until_s: float
    pause_s: float
    why: str


class Lookups:
    """The ids that the registry did not have, by prefix of a value, and those that may be requested now."""

    def __init__(self, clock: Clock) -> None:
        """Nothing was asked yet."""
        self._clock = clock
        self._refused: dict[bytes, _Refusal] = {}
        self._left = float(MAX_AT_ONCE)
        self._counted_s = clock.monotonic_s()

    def __len__(self) -> int:
        return len(self._refused)

    def due(self, prefixes: Iterable[bytes]) -> list[bytes]:
        """Return those of `prefixes` that may be requested now."""
        now = self._clock.monotonic_s()
        self._left = min(float(MAX_AT_ONCE), self._left + (now - self._counted_s) * PER_S)
        self._counted_s = now
        waiting = (
            prefix
            for prefix in prefixes
            if (refusal := self._refused.get(prefix)) is None or refusal.until_s <= now
        )
        return [prefix for _, prefix in zip(range(int(self._left)), waiting, strict=False)]

    def refuse(self, prefix: bytes, why: str) -> None:
        """Record a failed look-up."""
        before = self._refused.pop(prefix, None)
        while len(self._refused) >= _MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        pause_s = FIRST_PAUSE_S if before is None else min(MAX_PAUSE_S, 2 * before.pause_s)
        self._refused[prefix] = _Refusal(self._clock.monotonic_s() + pause_s, pause_s, why)
        self._left -= 1

    def accept(self, prefix: bytes) -> None:
        """Record a successful look-up."""
        self._refused.pop(prefix, None)

    def why(self, prefix: bytes) -> str | None:
        """Return why the last look-up of a prefix failed, None if it did not, or is forgotten."""
        refusal = self._refused.get(prefix)
        return None if refusal is None else refusal.why
