"""Work is done again until it succeeds, a stop comes, its time is over, or it fails for good."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.counting import calls_of
from tests.support.waiting import eventually
from tidemill.domain.errors import TransientError, Unavailable
from tidemill.runtime import retry
from tidemill.runtime.outages import Over
from tidemill.runtime.pauses import stopped_within
from tidemill.runtime.retry import Retrier


class Heard:
    """A `RetryListener` that keeps what it hears."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.begun = 0
        self.outages: list[Over] = []

    def failed(self, error: BaseException, *, begins: bool) -> None:
        self.errors.append(str(error))
        self.begun += begins

    def recovered(self, outage: Over) -> None:
        self.outages.append(outage)


class Work:
    """Fails so many times, then returns how often it was called."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self._failures = failures
        self._error = error or Unavailable("database", "no answer")
        self.calls = 0

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return self.calls


async def test_it_returns_what_the_work_returns_once_it_does() -> None:
    heard = Heard()
    retrier = Retrier(heard)
    assert await retrier.until_done(Work(3)) == 4
    assert (len(heard.errors), heard.begun, [each.attempts for each in heard.outages]) == (3, 1, [3])
    assert retrier.reason == ""


async def test_a_stop_ends_the_pause_and_what_is_in_the_way_is_named_until_then() -> None:
    heard = Heard()
    retrier = Retrier(heard)
    work = Work(1_000_000)
    waiting, failing = asyncio.create_task(retrier.until_done(work)), asyncio.create_task(retrier.call(work))
    await eventually(lambda: "no answer" in retrier.reason)
    retrier.stop()
    assert await waiting is None
    with pytest.raises(Unavailable, match="no answer"):
        await failing
    assert heard.outages == [], "nothing has recovered"
    assert await retrier.until_done(Work(0)) == 1, "work that succeeds is done, stopped or not"


async def test_a_limit_ends_it_with_the_last_error() -> None:
    with pytest.raises(Unavailable):
        await Retrier(Heard(), limit_s=0.0).until_done(Work(1_000_000))


async def test_what_does_not_pass_is_raised_at_once() -> None:
    heard = Heard()
    with pytest.raises(TransientError):
        await Retrier(heard, is_passing=lambda _: False).call(Work(2, TransientError("moved")))
    work = Work(2, ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        await Retrier(heard).until_done(work)
    assert (work.calls, heard.errors) == (1, [])


async def test_work_that_succeeds_at_once_makes_no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    retries = calls_of(monkeypatch, retry, "AsyncRetrying")
    assert await Retrier(Heard()).call(Work(0)) == 1
    assert retries() == 0
    assert await Retrier(Heard()).call(Work(1)) == 2
    assert retries() == 1


async def test_a_pause_that_is_over_before_it_begins_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = asyncio.Event()
    stopping.set()
    timers = calls_of(monkeypatch, asyncio, "timeout")
    assert await stopped_within(stopping, 60.0)
    assert timers() == 0
