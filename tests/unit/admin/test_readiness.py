"""When a deployment is served, and how long that is waited for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tidemill.admin.progress import ReadModelStatus, StreamStatus
from tidemill.admin.readiness import LOOK_EVERY_S, unready, until_ready
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import TidemillError, Unavailable, UsageError

NOT_MIGRATED = UsageError("migrations are missing", code=ErrorCode.NOT_MIGRATED)


def stream(*, owned: int) -> StreamStatus:
    return StreamStatus("users", lanes=8, owned=owned, halted=1, command_lag=0, unpublished=0, events=0)


def read_model(*, started: bool) -> ReadModelStatus:
    return ReadModelStatus("latest-quotes", "market-data", started=started, lag=0, halted=0)


def test_it_is_served_once_every_lane_is_owned_and_every_read_model_has_begun() -> None:
    assert unready([stream(owned=8)], [read_model(started=True)]) == []
    assert unready([stream(owned=7)], [read_model(started=False)]) == [
        "users: 7 of 8 lanes are owned",
        "latest-quotes: never started",
    ]
    assert unready([], []) == ["no lanes: topics are not created"]


class Answers:
    """What is read, one after the other, and a clock that only pauses move."""

    def __init__(self, *answers: str | TidemillError) -> None:
        self._answers: Sequence[str | TidemillError] = answers
        self.reads = 0
        self.time_s = 0.0

    async def read(self) -> str:
        answer = self._answers[min(self.reads, len(self._answers) - 1)]
        self.reads += 1
        if isinstance(answer, TidemillError):
            raise answer
        return answer

    async def pause(self, seconds: float) -> None:
        self.time_s += seconds

    async def wait(self, within_s: float) -> str:
        return await until_ready(
            self.read, lambda seen: seen == "ready", within_s, now_s=lambda: self.time_s, pause=self.pause
        )


async def test_it_is_read_until_it_is_ready() -> None:
    answers = Answers("not yet", "not yet", "ready", "not yet")
    assert await answers.wait(60) == "ready"
    assert answers.time_s == 2 * LOOK_EVERY_S


async def test_in_the_end_what_was_seen_last_is_returned() -> None:
    answers = Answers("not yet")
    assert await answers.wait(1) == "not yet"
    assert answers.time_s == 1


@pytest.mark.parametrize("error", [Unavailable("database", "starting"), NOT_MIGRATED])
async def test_what_a_process_that_starts_may_bring_is_waited_for(error: TidemillError) -> None:
    assert await Answers(error, error, "ready").wait(60) == "ready"
    with pytest.raises(type(error)):
        await Answers(error).wait(1)


async def test_a_wrong_setting_is_told_at_once() -> None:
    answers = Answers(UsageError("no such database"))
    with pytest.raises(UsageError):
        await answers.wait(60)
    assert answers.reads == 1
