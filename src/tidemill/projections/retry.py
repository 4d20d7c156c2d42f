"""How a projector waits for a server that is away: again and again, ever slower, until it works or is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from tidemill.domain.errors import TransientError
from tidemill.projections.ports import CheckpointMoved
from tidemill.runtime.outages import Outages
from tidemill.runtime.telemetry import Log, logger

T = TypeVar("T")

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0

_log = logger(__name__)


class Patience:
    """Tries again what failed for a passing reason, until `end`.

    `limit_s`: how long one piece of work may be tried; None, the default, is for ever.
    """

    def __init__(self, *, limit_s: float | None = None) -> None:
        """Start patient."""
        self._limit_s = limit_s
        self._ended = asyncio.Event()
        self._reasons: dict[object, str] = {}
        self._outages = Outages()

    @property
    def waiting_for(self) -> str | None:
        """Return why somebody waits just now, None if nobody does."""
        return next(iter(self._reasons.values()), None)

    @property
    def ended(self) -> bool:
        """Return whether `end` was called."""
        return self._ended.is_set()

    def end(self) -> None:
        """End every wait: what is being tried fails with its last error."""
        self._ended.set()

    async def of(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns, once it does. Raises `TransientError` when patience ends."""

        async def attempt() -> T:  # tenacity awaits only what it sees to be a coroutine function
            return await work()

        retrying = AsyncRetrying(
            retry=retry_if_exception(_passes),
            wait=wait_exponential_jitter(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S, jitter=FIRST_WAIT_S),
            stop=self._is_over,
            sleep=self._sleep,
            before_sleep=self._note,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        finally:
            self._reasons.pop(retrying, None)
            for outage in self._outages.ended(retrying):
                if not self.ended:
                    _log.info(Log.PROJECTOR_RECOVERED, attempts=outage.attempts, seconds=outage.seconds)

    def _is_over(self, state: RetryCallState) -> bool:
        return self.ended or (self._limit_s is not None and (state.seconds_since_start or 0) > self._limit_s)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for of Python 3.11 may swallow a cancellation
                await self._ended.wait()

    def _note(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._reasons[state.retry_object] = str(error)
        if self._outages.failed(state.retry_object, error):
            _log.warning(Log.PROJECTOR_WAITS, reason=str(error))


def _passes(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, CheckpointMoved)
