"""Halted lanes, as the database has them, so that nobody waits for a lane that waits for an operator."""

from __future__ import annotations

import asyncio
from typing import Final

from tidemill.domain.errors import RequestRefused, TransientError
from tidemill.domain.lane import lane_name
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.clock import Clock
from tidemill.submissions.ports import OutcomeLog

KNOWN_FOR_S: Final = 1.0
RETRY_AFTER_S: Final = 30.0


class HaltedLanes:
    """Knows for a second which lanes are halted; one question at a time, however many ask."""

    def __init__(self, log: OutcomeLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._halted: frozenset[tuple[str, int]] = frozenset()
        self._asked_s = float("-inf")
        self._asking = asyncio.Lock()

    async def refusal(self, aggregate: str, partition: int) -> RequestRefused | None:
        """Return the refusal `LANE_HALTED` of a lane, None if it works or the database does not tell."""
        await self._refresh()
        if (aggregate, partition) not in self._halted:
            return None
        detail = f"lane {lane_name(aggregate, partition)} is halted, and nothing was sent"
        return RequestRefused(RequestCode.LANE_HALTED, detail, retry_after_s=RETRY_AFTER_S)

    async def _refresh(self) -> None:
        async with self._asking:
            if self._clock.monotonic_s() - self._asked_s < KNOWN_FOR_S:
                return
            try:
                self._halted = await self._log.halted()
            except TransientError:
                return
            self._asked_s = self._clock.monotonic_s()
