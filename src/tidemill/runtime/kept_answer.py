"""An answer that is kept for a moment: many who ask cost one question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from tidemill.runtime.clock import Clock

T = TypeVar("T")


class KeptAnswer(Generic[T]):
    """What `ask` returned, for `max_age_s`. An error is not kept, and raised by `get`."""

    def __init__(self, ask: Callable[[], Awaitable[T]], clock: Clock, *, max_age_s: float) -> None:
        """Ask nothing."""
        self._ask = ask
        self._clock = clock
        self._max_age_s = max_age_s
        self._kept: tuple[float, T] | None = None
        self._asking = asyncio.Lock()

    async def get(self) -> T:
        """Return the kept answer, or a new one; those who ask meanwhile wait for it."""
        async with self._asking:
            kept, now = self._kept, self._clock.monotonic_s()
            if kept is None or now - kept[0] >= self._max_age_s:
                self._kept = kept = (now, await self._ask())
            return kept[1]
