"""Lets old generations of the outbox go: 72 hours after all of their rows were seen to be published.

Until then a relay could send them again, and a person can look what was sent.
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
    """A `Service` that looks every hour. Several may run: a generation leaves once."""

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
        self._problem: str | None = None

    async def start(self) -> None:
        """Make ready: nothing to do."""

    async def run(self) -> None:
        """Look again and again until `stop`."""
        while not self._stopping.is_set():
            try:
                await self.tidy()
                self._problem = None
            except TransientError as error:  # in an hour again; the outbox is only larger meanwhile
                if self._problem is None:
                    _log.warning(Log.OUTBOX_KEPT, reason=str(error))
                self._problem = str(error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._every_s)

    async def tidy(self) -> list[int]:
        """Drop what may go; return the generations that went. Raises `TransientError`."""
        await self._generations.note_sent()
        removed = []
        for generation in await self._generations.droppable(self._clock.now(), self._keep):
            await self._generations.drop(generation)
            removed.append(generation)
            _log.info(Log.GENERATION_DROPPED, generation=generation, part="outbox")
        return removed

    async def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def health(self) -> Health:
        """Return the last trouble; it does not make the process ill."""
        return Health(ok=True, detail={"trouble": self._problem} if self._problem else {})
