"""Drops old generations of the outbox, 72 hours after all of their rows were found published.

Until then a relay can send them again, and an operator can see what was sent.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Final

from tidemill.domain.errors import TransientError
from tidemill.outbox.ports import OutboxGenerations
from tidemill.runtime.clock import Clock
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger

KEEP: Final = timedelta(hours=72)
EVERY_S: Final = 3600.0

_log = logger(__name__)


class OutboxCleaner:
    """A `Service` that checks every hour. Several may run: a generation is dropped once."""

    def __init__(
        self,
        generations: OutboxGenerations,
        clock: Clock,
        *,
        keep: timedelta = KEEP,
        every_s: float = EVERY_S,
    ) -> None:
        self._generations = generations
        self._clock = clock
        self._keep = keep
        self._every_s = every_s
        self._stopping = asyncio.Event()
        self._trouble: str | None = None

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Check periodically until `stop`."""
        while not self._stopping.is_set():
            try:
                await self.tidy()
                self._trouble = None
            except TransientError as error:  # again in an hour; the outbox only grows meanwhile
                if self._trouble is None:
                    _log.warning(Log.OUTBOX_KEPT, reason=str(error))
                self._trouble = str(error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._every_s)

    async def tidy(self) -> list[int]:
        """Drop what may be dropped; return those generations. Raises `TransientError`."""
        await self._generations.note_sent()
        gone = []
        for generation in await self._generations.droppable(self._clock.now(), self._keep):
            await self._generations.drop(generation)
            gone.append(generation)
            _log.info(Log.GENERATION_DROPPED, generation=generation, part="outbox")
        return gone

    async def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def health(self) -> Health:
        """Return the last error; it does not make the process unhealthy."""
        return Health(ok=True, detail={"trouble": self._trouble} if self._trouble else {})
