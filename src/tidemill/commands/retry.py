"""Patience: do work again until it succeeds, with growing pauses that a stop cuts short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_exception_type,
    wait_random_exponential,
)

from tidemill.domain.errors import TransientError
from tidemill.runtime.outages import Outages
from tidemill.runtime.telemetry import BATCH_RETRIES, Log, logger

T = TypeVar("T")

_log = logger(__name__)

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0


class Patience:
    """What the tasks of one intake share: when to stop, and what is in the way."""

    def __init__(self, aggregate: str) -> None:
        """`aggregate` labels what is counted and logged."""
        self.stopping = asyncio.Event()
        self._troubles: dict[int, str] = {}
        self._outages = Outages()
        self._calls = 0
        self._aggregate = aggregate

    @property
    def trouble(self) -> str:
        """Return what is in the way of anything that is being tried just now; empty if nothing is."""
        return "; ".join(dict.fromkeys(self._troubles.values()))

    async def until_done(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do `work` until it raises no `TransientError`. None if a stop came first."""
        self._calls += 1
        me = self._calls  # what succeeds elsewhere says nothing about this call

        def note(attempt: RetryCallState) -> None:
            self._troubles[me] = self._note(me, attempt)

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S),
            stop=lambda _: self.stopping.is_set(),
            sleep=self.pause,
            before_sleep=note,
        )

        async def attempt() -> T:  # tenacity awaits only what it sees to be a coroutine function
            return await work()

        try:
            result: T = await attempts(attempt)
        except RetryError:
            return None
        finally:
            self._troubles.pop(me, None)
            self._say_what_is_over(me)
        return result

    async def every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` now and then until a stop."""
        while not self.stopping.is_set():
            await self.pause(seconds)
            await self.until_done(work)

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond a stop."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return

    def _note(self, call: int, attempt: RetryCallState) -> str:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        BATCH_RETRIES.labels(self._aggregate, type(error).__name__).inc()
        if self._outages.failed(call, error):
            _log.warning(Log.BATCH_RETRIED, aggregate=self._aggregate, reason=str(error))
        return str(error)

    def _say_what_is_over(self, call: int) -> None:
        for outage in self._outages.ended(call):
            if not self.stopping.is_set():
                _log.info(
                    Log.BATCH_RECOVERED,
                    aggregate=self._aggregate,
                    attempts=outage.attempts,
                    seconds=outage.seconds,
                )
