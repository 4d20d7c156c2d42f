"""What blocks in a thread is waited for as long as we say, whatever it does."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.errors import Unavailable
from tidemill.runtime import threads
from tidemill.runtime.threads import MAX_GIVEN_UP, in_thread


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """What blocks everything that waits for it, until the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_the_result_comes_back() -> None:
    assert (
        await in_thread(lambda: threading.current_thread().name, server="lake", timeout_s=HANGING_S)
        == "tidemill lake"
    )


@pytest.mark.parametrize("fault", [OSError("away"), TimeoutError("its own"), KeyboardInterrupt()])
async def test_so_does_what_it_raises(fault: BaseException) -> None:
    def fail() -> None:
        raise fault

    with pytest.raises(type(fault)) as raised:
        await in_thread(fail, server="lake", timeout_s=HANGING_S)
    assert str(raised.value) == str(fault)


async def test_what_hangs_is_given_up(hanging: threading.Event) -> None:
    with pytest.raises(Unavailable, match=r"lake is not available: no answer within 0\.05 s"):
        await in_thread(hanging.wait, server="lake", timeout_s=0.05)


async def test_what_makes_progress_may_take_longer_and_is_given_up_when_it_does_not(
    hanging: threading.Event,
) -> None:
    idle_s = iter([0.0, 0.01, 0.03, 0.05])
    with pytest.raises(Unavailable, match=r"no progress within 0\.05 s"):
        await in_thread(hanging.wait, server="lake", timeout_s=0.05, idle_s=lambda: next(idle_s))
    assert next(idle_s, None) is None, "it was asked until nothing moved any more"


async def test_who_waits_can_be_cancelled_meanwhile(hanging: threading.Event) -> None:
    begun = threading.Event()

    def work() -> None:
        begun.set()
        hanging.wait()

    waiting = asyncio.create_task(in_thread(work, server="lake", timeout_s=HANGING_S))
    await eventually(begun.is_set, what="the work")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert threads._given_up


async def test_nothing_more_is_begun_while_many_hang(hanging: threading.Event) -> None:
    for _ in range(MAX_GIVEN_UP):
        with suppress(Unavailable):
            await in_thread(hanging.wait, server="lake", timeout_s=0.01)
    with pytest.raises(Unavailable, match="abandoned calls still hang"):
        await in_thread(lambda: pytest.fail("begun"), server="lake", timeout_s=HANGING_S)
    hanging.set()
    await eventually(lambda: not any(each.is_alive() for each in threads._given_up), what="their end")
    assert await in_thread(lambda: 1, server="lake", timeout_s=HANGING_S) == 1


def test_the_process_ends_though_one_hangs() -> None:
    program = (
        "import asyncio, threading; from tidemill.runtime.threads import in_thread\n"
        "asyncio.run(in_thread(threading.Event().wait, server='lake', timeout_s=0.1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGING_S, check=False
    )
    assert done.returncode == 1
    assert "lake is not available: no answer within 0.1 s" in done.stderr
