"""An outage is told when it begins and when it is over, whatever strikes how often meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter

from structlog.testing import capture_logs

from tidemill.commands.retry import BatchRetries
from tidemill.domain.errors import TransientError, Unavailable
from tidemill.projections.retry import projector_retrier
from tidemill.runtime.outages import Outages
from tidemill.runtime.retry import Retrier
from tidemill.runtime.telemetry.log_events import Log


def test_what_fails_again_begins_nothing_and_the_last_to_recover_ends_it() -> None:
    outages = Outages()
    begun = [
        outages.failed(work, Unavailable("database", f"attempt {number}"))
        for number in range(20)
        for work in ("a", "b")
    ]
    assert begun == [True] + [False] * 39
    assert outages.ended("a") == []
    assert outages
    [over] = outages.ended("b")
    assert over.attempts == 40
    assert not outages
    assert outages.failed("a", Unavailable("database", "away again"))


def test_kinds_are_told_apart() -> None:
    outages = Outages()
    assert outages.failed("a", Unavailable("database", "away"))
    assert outages.failed("a", Unavailable("kafka", "away"))
    assert outages.failed("a", TransientError("a lock"))
    assert not outages.failed("b", Unavailable("kafka", "away"))
    assert len(outages.ended("a")) == 2
    assert len(outages.ended("b")) == 1


class Failing:
    """Work that fails some times, and its server."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def __call__(self) -> str:
        self.left -= 1
        if self.left >= 0:
            raise Unavailable("database", f"{self.left} left")
        return "done"


async def test_an_intake_tells_of_an_outage_twice_however_many_attempts_its_work_takes() -> None:
    retrier = Retrier(BatchRetries("goods"))
    retrier.pause = no_pause  # type: ignore[assignment, method-assign]
    with capture_logs() as told:
        done = await asyncio.gather(*(retrier.until_done(Failing(50)) for _ in range(3)))
    assert done == ["done"] * 3
    assert Counter(line["event"] for line in told) == {Log.BATCH_RETRIED: 1, Log.BATCH_RECOVERED: 1}
    assert told[-1]["attempts"] == 150


async def test_so_does_a_projector() -> None:
    retrier = projector_retrier()
    retrier.pause = no_pause  # type: ignore[assignment, method-assign]
    with capture_logs() as told:
        done = await asyncio.gather(*(retrier.call(Failing(50)) for _ in range(3)))
    assert done == ["done"] * 3
    assert Counter(line["event"] for line in told) == {Log.PROJECTOR_WAITS: 1, Log.PROJECTOR_RECOVERED: 1}


async def no_pause(_: float) -> None:
    """Let the others have their turn."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_soon(over.set)
    await over.wait()
