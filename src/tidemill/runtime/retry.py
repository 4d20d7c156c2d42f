"""Retries: work is done again until it succeeds, with growing pauses that a stop cuts short."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from tidemill.domain.errors import TransientError
from tidemill.runtime.outages import Outages, Over
from tidemill.runtime.pauses import every, stopped_within

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between starts of a failing service: doubling from `first_s` to `max_s`, a random part of it cut off.

    A service that ran for `stable_s` starts again with the first pause. A gate is checked again after `shut_s`
    while it is shut, after `open_s` while it is open.
    """

    first_s: float = 0.5
    max_s: float = 30.0
    stable_s: float = 60.0
    shut_s: float = 3.0
    open_s: float = 30.0

    def pause_s(self, failures: int) -> float:
        """Return the pause after the n-th failure in a row (from 1)."""
        whole = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 16))
        return whole * random.uniform(0.5, 1.0)  # noqa: S311  spreads restarts, guards nothing


class RetryListener(Protocol):
    """Gets the failures of a `Retrier`, to log and count them."""

    def failed(self, error: BaseException, *, begins: bool) -> None:
        """An attempt failed; `begins`: it is the first of its kind in an outage."""

    def recovered(self, outage: Over) -> None:
        """An outage is over."""


class Retrier:
    """Shared by the tasks of one service: the stop, and the present error.

    `is_passing`: which errors are worth another attempt, by default every `TransientError`. `limit_s`: how long one
    piece of work may be tried; None, the default, is until the stop.
    """

    def __init__(
        self,
        listener: RetryListener,
        *,
        is_passing: Callable[[BaseException], bool] = lambda error: isinstance(error, TransientError),
        limit_s: float | None = None,
    ) -> None:
        """Nothing is being tried."""
        self._listener = listener
        self._is_passing = is_passing
        self._limit_s = limit_s
        self._stopping = asyncio.Event()
        self._reasons: dict[object, str] = {}
        self._outages = Outages()

    @property
    def stopped(self) -> bool:
        """Return whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def reason(self) -> str:
        """Return the present errors of what is being retried; empty if there are none."""
        return "; ".join(dict.fromkeys(self._reasons.values()))

    def stop(self) -> None:
        """End every pause: work that fails from now on is not tried again."""
        self._stopping.set()

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns, once it does. Raises its last error when a stop or the limit comes first."""
        began_s = time.monotonic()
        try:  # most work succeeds at once, and tenacity's objects for it would take as long as a short statement
            return await work()
        except Exception as error:
            if not self._is_passing(error):
                raise
            failures = [error]
        return await self._again(work, failures, began_s)

    async def _again(self, work: Callable[[], Awaitable[T]], failures: list[Exception], began_s: float) -> T:
        """Go on after a first attempt, which began at `began_s` and is in `failures` with its error."""

        async def attempt() -> T:  # tenacity awaits only what it sees to be a coroutine function
            if failures:
                raise failures.pop()
            return await work()

        retrying = AsyncRetrying(
            retry=retry_if_exception(self._is_passing),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_S, max=MAX_PAUSE_S),
            stop=lambda _: self._is_over(began_s),
            sleep=self.pause,
            before_sleep=self._note,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        finally:
            self._reasons.pop(retrying, None)
            self._tell_what_is_over(retrying)

    async def until_done(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Repeat `work` until it raises no transient error. None if a stop came first."""
        try:
            return await self.call(work)
        except TransientError:
            if self.stopped:
                return None
            raise

    async def every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` periodically until a stop."""

        async def once() -> None:
            try:
                await (
                    work()
                )  # nearly always all: making a retry for each time is much of what an idle process costs
            except Exception as error:
                if not self._is_passing(error):
                    raise
                await self.until_done(work)

        await every(seconds, once, self._stopping)

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond a stop."""
        await stopped_within(self._stopping, seconds)

    def _is_over(self, began_s: float) -> bool:
        return self.stopped or (self._limit_s is not None and time.monotonic() - began_s > self._limit_s)

    def _note(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        assert error is not None, "tenacity pauses only after an attempt that failed"
        self._reasons[state.retry_object] = str(error)
        self._listener.failed(error, begins=self._outages.failed(state.retry_object, error))

    def _tell_what_is_over(self, work: object) -> None:
        for outage in self._outages.ended(work):
            if not self.stopped:
                self._listener.recovered(outage)
