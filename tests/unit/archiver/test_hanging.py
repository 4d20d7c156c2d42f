"""A lake or a database that hangs: the request is answered as failed, and the archiver begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.archive.archival import request
from tests.support.archive.archiver_scenes import Scene, SlowReader
from tests.support.waiting import HANGING_S, eventually
from tidemill.archiver.archiver import ArchiverTimeouts
from tidemill.domain.archive.messages import ArchivalStatus
from tidemill.domain.errors import Unavailable

COMPLETED, FAILED, IN_PROGRESS = ArchivalStatus.COMPLETED, ArchivalStatus.FAILED, ArchivalStatus.IN_PROGRESS


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def hanging(scene: Scene) -> Iterator[SlowReader]:
    """A database that gives one batch and then nothing, and an archiver that waits a moment for it."""
    scene.reader, scene.options = SlowReader(), {"timeouts": ArchiverTimeouts(heartbeat_s=0.02, stall_s=0.2)}
    yield scene.reader
    scene.reader.on.set()


async def test_a_copy_that_hangs_is_answered_as_failed_and_ends_the_service(
    scene: Scene, hanging: SlowReader
) -> None:
    scene.requests.add(request(scene.day(1)))
    async with scene.running() as work:
        await asyncio.wait({work}, timeout=HANGING_S)
        with pytest.raises(Unavailable, match=r"no progress within 0\.2 s"):
            work.result()
    answer = scene.replies.sent[-1]
    assert (answer.status, answer.error_code, answer.retryable) == (FAILED, "STALLED", True)
    assert (scene.requests.committed, scene.lake.copies) == (1, {}), "whoever asked asks again"
    hanging.on.set()
    await eventually(lambda: hanging.ended, what="the thread ends at its next batch")
    assert scene.lake.copies == {}
    async with scene.running():
        scene.requests.add(request(scene.day(1), attempt=2))
        await scene.settled()
    assert scene.said()[-1] is COMPLETED


async def test_a_copy_that_hangs_and_is_somebody_elses_is_not_answered(
    scene: Scene, hanging: SlowReader
) -> None:
    scene.requests.add(request(scene.day(1)))
    async with scene.running() as work:
        await asyncio.to_thread(hanging.reading.wait, 5)
        scene.requests.taken_away = True
        await asyncio.wait({work}, timeout=HANGING_S)
        with pytest.raises(Unavailable):
            work.result()
    assert set(scene.said()) == {IN_PROGRESS}
    assert scene.requests.committed == 0


async def test_a_slow_copy_that_goes_on_is_none_that_hangs(scene: Scene) -> None:
    """Its pauses are longer than what would be a stall."""
    scene.options = {"max_bytes_per_second": 500, "timeouts": ArchiverTimeouts(stall_s=0.1)}
    scene.requests.add(request(scene.day(1)))
    async with scene.running():
        await scene.settled()
    assert scene.said() == [IN_PROGRESS, COMPLETED]
