"""Drops old generations of the outbox, 72 hours after all of their rows were found published.

Until then a relay can send them again, and an operator can see what was sent.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tidemill.domain.errors import TransientError
from tidemill.outbox.ports import OutboxGenerations
from tidemill.runtime.periodic import Periodic
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger

KEEP: Final = timedelta(hours=72)
EVERY_S: Final = 3600.0

_log = logger(__name__)


class OutboxCleaner(Periodic):
    """A `Service` that checks every hour. Several may run: a generation is dropped once."""

    def __init__(
        self,
        generations: OutboxGenerations,
        *,
        keep: timedelta = KEEP,
        every_s: float = EVERY_S,
    ) -> None:
        super().__init__(every_s=every_s)
        self._generations = generations
        self._keep = keep

    async def look(self) -> None:
        """Drop what may go."""
        await self.tidy()

    def put_off(self, error: TransientError) -> None:
        """Say so once: in an hour again, and the outbox is only larger meanwhile."""
        if not self.problem:
            _log.warning(Log.OUTBOX_KEPT, reason=str(error))

    async def tidy(self) -> list[int]:
        """Drop what may be dropped; return those generations. Raises `TransientError`."""
        await self._generations.note_sent()
        removed = []
        for generation in await self._generations.droppable(self._keep):
            await self._generations.drop(generation)
            removed.append(generation)
            _log.info(Log.GENERATION_DROPPED, generation=generation, part="outbox")
        return removed

    def health(self) -> Health:
        """Return the last error; it does not make the process unhealthy."""
        return Health(ok=True, detail={"trouble": self.problem} if self.problem else {})
