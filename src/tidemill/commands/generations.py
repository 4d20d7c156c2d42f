"""The generations of the log: rolled, given their filters, and dropped beyond the horizon."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from tidemill.domain.errors import GenerationClosed, TransientError
from tidemill.runtime.periodic import Periodic
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import GENERATIONS

_log = logger(__name__)


class Generations(Protocol):
    """The generations of the log, for their cleaner. Every call may raise `TransientError`."""

    async def roll_if_due(self, *, max_age: timedelta, max_ids: int) -> int | None:
        """Open the next generation if the open one is not empty, and old or full of new ids; return its number."""
        ...

    async def build_filters(self) -> list[int]:
        """Build the missing filters of closed generations, each in spite of the others; return their numbers."""
        ...

    async def load_filters(self) -> None:
        """Fetch the filters that this process does not have yet."""
        ...

    async def drop_expired(self, horizon: timedelta) -> list[int]:
        """Drop generations of log and ledger that closed before the horizon; return their numbers.

        Some hours later than that, and only if the log has rolled meanwhile: a clock that jumps ahead drops nothing.
        """
        ...


@dataclass(frozen=True)
class GenerationPolicy:
    """When the log rolls, and for how long duplicates are found.

    `max_age` bounds how long an outbox generation is kept after its last row; `max_ids` bounds the index that takes
    the random ids, which is what a command's cost depends on.
    """

    horizon: timedelta = timedelta(days=8)
    max_age: timedelta = timedelta(days=1)
    max_ids: int = 5_000_000
    every: timedelta = timedelta(seconds=30)


class GenerationRoller(Periodic):
    """A `Service`. Several may run: a roll by another one is not an error."""

    def __init__(self, generations: Generations, policy: GenerationPolicy) -> None:
        """Nothing happens before `run`."""
        super().__init__(every_s=policy.every.total_seconds())
        self._generations = generations
        self._policy = policy

    async def look(self) -> bool:
        """Do what is due; at once again when another process has rolled meanwhile."""
        try:
            await self.keep()
        except GenerationClosed:
            return True
        return False

    async def keep(self) -> None:
        """Roll if it is time, build and load missing filters, drop what has expired.

        A step that fails holds up no other: a filter that cannot be built would else keep everything expired.
        Raises the first failure when all steps were tried.
        """
        failures: list[GenerationClosed | TransientError] = []
        for step in (self._roll, self._generations.build_filters, self._generations.load_filters, self._drop):
            try:
                await step()
            except (GenerationClosed, TransientError) as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    async def _roll(self) -> None:
        policy = self._policy
        opened = await self._generations.roll_if_due(max_age=policy.max_age, max_ids=policy.max_ids)
        if opened is not None:
            GENERATIONS.inc()
            _log.info(Log.GENERATION_OPENED, generation=opened)

    async def _drop(self) -> None:
        for gen in await self._generations.drop_expired(self._policy.horizon):
            _log.info(Log.GENERATION_DROPPED, generation=gen)

    def health(self) -> Health:
        """Return the last error."""
        return Health(ok=not self.problem, detail={"trouble": self.problem} if self.problem else {})
