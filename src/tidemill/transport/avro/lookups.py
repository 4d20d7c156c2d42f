"""Which ids the registry is asked for: those that are new, and those that it did not have when it was asked before.

A no is not believed for long: a schema may be registered a moment late, or be known to another replica of the registry
already. So it is asked for again after a second, then after two, four and so on. How many such questions there are is
bounded for all ids together: a flood of made-up ids must not become a flood of requests, for which whole batches wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from tidemill.runtime.clock import Clock

FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 60.0

MAX_AT_ONCE: Final = 64
"""Questions in vain that may be asked in one go; each that is answered well is not counted."""
PER_S: Final = 16.0
"""Questions in vain that may be asked a second for long."""

_MAX_REFUSED: Final = 4096


class _Refusal(NamedTuple):
    until_s: float
    pause_s: float
    why: str


class Lookups:
    """What the registry did not have, by prefix of a value, and what may be asked now."""

    def __init__(self, clock: Clock) -> None:
        """Nothing was asked yet."""
        self._clock = clock
        self._refused: dict[bytes, _Refusal] = {}
        self._left = float(MAX_AT_ONCE)
        self._counted_s = clock.monotonic_s()

    def __len__(self) -> int:
        return len(self._refused)

    def due(self, prefixes: Iterable[bytes]) -> list[bytes]:
        """Return those of `prefixes` that may be asked for now."""
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
        """Note that an answer was no use."""
        before = self._refused.pop(prefix, None)
        while len(self._refused) >= _MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        pause_s = FIRST_PAUSE_S if before is None else min(MAX_PAUSE_S, 2 * before.pause_s)
        self._refused[prefix] = _Refusal(self._clock.monotonic_s() + pause_s, pause_s, why)
        self._left -= 1

    def accept(self, prefix: bytes) -> None:
        """Note that an answer was of use."""
        self._refused.pop(prefix, None)

    def why(self, prefix: bytes) -> str | None:
        """Return why the last answer about a prefix was of no use, None if there was none, or it is forgotten."""
        refusal = self._refused.get(prefix)
        return None if refusal is None else refusal.why
