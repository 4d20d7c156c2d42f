"""The supervisor: restarts what fails, ends for what no retry can fix, drains within its deadline."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.errors import ContractError, TableMisfit, Unavailable, UsageError
from tidemill.runtime.retry import Backoff
from tidemill.runtime.service import Exit, Health, Job, Supervisor

QUICK = Backoff(first_s=0.001, max_s=0.002, shut_s=0.001, open_s=0.001)
NEVER_S = 3_600


@dataclass
class Diary:
    """What happened to the services of one job, over all of its starts."""

    lines: list[str] = field(default_factory=list)
    made: int = 0

    def count(self, line: str) -> int:
        return self.lines.count(line)


class Fake:
    """A service that runs until it is stopped, unless told to fail in `start` or `run`."""

    def __init__(
        self,
        diary: Diary,
        *,
        starting: Callable[[], object] = lambda: None,
        running: Callable[[], object] = lambda: None,
        heeds_stop: bool = True,
    ) -> None:
        diary.made += 1
        self._diary, self._starting, self._running, self._heeds_stop = diary, starting, running, heeds_stop
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        self._diary.lines.append("start")
        result = self._starting()
        if asyncio.isfuture(result):
            await result

    async def run(self) -> None:
        self._diary.lines.append("run")
        result = self._running()
        if asyncio.isfuture(result):
            await result
        await self._stopped.wait()
        self._diary.lines.append("drained")

    async def stop(self) -> None:
        self._diary.lines.append("stop")
        if self._heeds_stop:
            self._stopped.set()

    def health(self) -> Health:
        return Health(ok=True, detail={"lanes": 3})


class Barrier:
    """A gate that the test opens and shuts; `away`: it cannot be told which."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open, self.away, self.looks, self.blamed = is_open, False, 0, ""
        self.looking: asyncio.Future[None] | None = None

    async def look(self) -> bool:
        self.looks += 1
        if self.looking is not None:
            await self.looking
        if self.away:
            raise Unavailable("database", "no answer")
        return self.is_open

    def blame(self, error: BaseException) -> bool:
        self.blamed = str(error)
        return isinstance(error, TableMisfit)

    def standing(self) -> dict[str, str]:
        return {"why": self.blamed or "shut"}


def faulty(diary: Diary, phase: str, fail: Callable[[], None]) -> Fake:
    return Fake(diary, starting=fail) if phase == "starting" else Fake(diary, running=fail)


def failing(*errors: BaseException) -> Callable[[], None]:
    """Raise each error once, then succeed."""
    left = list(errors)

    def fail() -> None:
        if left:
            raise left.pop(0)

    return fail


async def stopped_after(supervisor: Supervisor, ready: Callable[[], bool]) -> Exit:
    running = asyncio.create_task(supervisor.run())
    await eventually(ready)
    supervisor.request_stop()
    return await asyncio.wait_for(running, HANGING_S)


async def test_services_run_side_by_side_and_drain_when_asked() -> None:
    one, two = Diary(), Diary()
    supervisor = Supervisor([Job("one", lambda: Fake(one)), Job("two", lambda: Fake(two))])
    code = await stopped_after(supervisor, lambda: "run" in one.lines and "run" in two.lines)
    assert code is Exit.DRAINED
    for diary in (one, two):
        assert diary.lines[:3] == ["start", "run", "stop"]
        assert diary.count("drained") == 1


@pytest.mark.parametrize("phase", ["starting", "running"])
@pytest.mark.parametrize(
    "error", [ValueError("a bug"), Unavailable("kafka", "no answer"), asyncio.CancelledError()]
)
async def test_a_service_that_fails_is_made_anew(phase: str, error: BaseException) -> None:
    diary = Diary()
    fail = failing(error, error)
    supervisor = Supervisor([Job("one", lambda: faulty(diary, phase, fail))], backoff=QUICK)
    healthy = lambda: diary.made == 3 and supervisor.health()["one"].ok
    assert await stopped_after(supervisor, healthy) is Exit.DRAINED
    assert supervisor.health()["one"].detail["failures"] == 2


async def test_a_failed_service_is_freed_before_the_next_one_is_made() -> None:
    diary = Diary()
    fail = failing(ValueError("a bug"))
    supervisor = Supervisor([Job("one", lambda: Fake(diary, running=fail))], backoff=QUICK)
    await stopped_after(supervisor, lambda: diary.made == 2 and diary.count("run") == 2)
    assert diary.lines[:4] == ["start", "run", "stop", "start"]


async def test_a_service_that_ends_by_itself_has_failed() -> None:
    ends = Diary()

    class Ending(Fake):
        async def run(self) -> None:
            self._diary.lines.append("run")

    supervisor = Supervisor([Job("one", lambda: Ending(ends))], backoff=QUICK)
    await stopped_after(supervisor, lambda: ends.made >= 2)
    assert "ended by itself" in supervisor.health()["one"].detail["last_error"]


async def test_of_the_errors_of_a_task_group_the_one_that_no_retry_can_mend_counts() -> None:
    wrong = ContractError("wrong")
    group = ExceptionGroup("several", [ValueError("a bug"), ExceptionGroup("deeper", [wrong])])
    supervisor = Supervisor([Job("one", lambda: Fake(Diary(), running=failing(group)))])
    assert await asyncio.wait_for(supervisor.run(), HANGING_S) is Exit.FAILED
    assert supervisor.error is wrong


@pytest.mark.parametrize("error", [ContractError("wrong"), UsageError("wrong")])
@pytest.mark.parametrize("phase", ["starting", "running"])
async def test_what_no_retry_can_mend_ends_the_process_and_drains_the_others(
    phase: str, error: Exception
) -> None:
    wrong, other = Diary(), Diary()
    supervisor = Supervisor(
        [Job("wrong", lambda: faulty(wrong, phase, failing(error))), Job("other", lambda: Fake(other))]
    )
    assert await asyncio.wait_for(supervisor.run(), HANGING_S) is Exit.FAILED
    assert supervisor.error is error
    assert wrong.made == 1
    assert "stop" in other.lines


async def test_a_factory_that_raises_is_tried_again() -> None:
    diary = Diary()
    fail = failing(Unavailable("database", "no answer"))

    def make() -> Fake:
        fail()
        return Fake(diary)

    supervisor = Supervisor([Job("one", make)], backoff=QUICK)
    assert await stopped_after(supervisor, lambda: "run" in diary.lines) is Exit.DRAINED


async def test_a_start_that_waits_for_a_server_is_given_up_at_a_stop() -> None:
    diary = Diary()
    never = asyncio.get_running_loop().create_future()
    supervisor = Supervisor([Job("one", lambda: Fake(diary, starting=lambda: never))])
    assert await stopped_after(supervisor, lambda: "start" in diary.lines) is Exit.DRAINED
    assert "run" not in diary.lines


async def test_a_stop_while_it_pauses_between_starts_is_heeded_at_once() -> None:
    diary = Diary()
    patient = Backoff(first_s=3_600, max_s=3_600)
    supervisor = Supervisor(
        [Job("one", lambda: Fake(diary, running=failing(ValueError("a bug"))))], backoff=patient
    )
    waiting = lambda: supervisor.health()["one"].detail["state"] == "waiting" and diary.made == 1
    assert await stopped_after(supervisor, waiting) is Exit.DRAINED


async def test_a_service_that_does_not_drain_is_cut_off() -> None:
    diary = Diary()
    supervisor = Supervisor([Job("deaf", lambda: Fake(diary, heeds_stop=False))], drain_s=0.05)
    assert await stopped_after(supervisor, lambda: "run" in diary.lines) is Exit.CUT_OFF
    assert "drained" not in diary.lines


async def test_health_names_state_and_last_error() -> None:
    diary = Diary()
    patient = Backoff(first_s=3_600, max_s=3_600)
    fail = failing(Unavailable("kafka", "no answer"))
    supervisor = Supervisor([Job("one", lambda: Fake(diary, starting=fail))], backoff=patient)
    waiting = lambda: supervisor.health()["one"].detail.get("failures") == 1
    running = asyncio.create_task(supervisor.run())
    await eventually(waiting)
    health = supervisor.health()["one"]
    assert not health.ok
    assert health.detail["last_error"] == "Unavailable: kafka is not available: no answer"
    supervisor.request_stop()
    await running


def test_pauses_grow_up_to_a_bound() -> None:
    backoff = Backoff(first_s=1, max_s=8)
    for failures, whole_s in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (10_000, 8)):
        assert whole_s / 2 <= backoff.pause_s(failures) <= whole_s


STUCK = """
import asyncio, signal, threading
from tidemill.runtime.service import exit_after, Exit

def drain():
    exit_after(0.2, Exit.CUT_OFF)
    threading.Event().wait()  # the loop never turns again

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, drain)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_process_is_gone_after_the_deadline_even_if_nothing_ends() -> None:
    child = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(timeout=HANGING_S) == Exit.CUT_OFF


# --- gates ---


async def test_a_service_whose_gate_is_shut_stands_and_goes_on_by_itself() -> None:
    diary, gate = Diary(), Barrier(is_open=False)
    supervisor = Supervisor([Job("one", lambda: Fake(diary), gate)], backoff=QUICK)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: gate.looks > 2)
    health = supervisor.health()["one"]
    assert (health.ok, health.detail["state"], health.detail["why"]) == (True, "standing", "shut")
    assert diary.made == 0, "nothing is joined that others might do"
    gate.is_open = True
    await eventually(lambda: "run" in diary.lines)
    supervisor.request_stop()
    assert await asyncio.wait_for(running, HANGING_S) is Exit.DRAINED
    assert supervisor.health()["one"].detail["failures"] == 0


async def test_a_gate_that_shuts_drains_the_service_until_it_opens_again() -> None:
    diary, gate = Diary(), Barrier(is_open=True)
    supervisor = Supervisor([Job("one", lambda: Fake(diary), gate)], backoff=QUICK)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: "run" in diary.lines)
    gate.is_open = False
    await eventually(lambda: supervisor.health()["one"].detail["state"] == "standing")
    assert diary.lines[:4] == ["start", "run", "stop", "drained"]
    gate.is_open = True
    await eventually(lambda: diary.count("run") == 2)
    supervisor.request_stop()
    assert await asyncio.wait_for(running, HANGING_S) is Exit.DRAINED


async def test_what_a_gate_is_blamed_for_never_ends_the_process_and_is_tried_again() -> None:
    """Of several errors this one counts, though a comparison finds nothing: then it is the reason."""
    diary, other, gate = Diary(), Diary(), Barrier(is_open=True)
    misfit = ExceptionGroup("several", [ValueError("cancelled beside it"), TableMisfit("42P01: no table")])
    patient = Backoff(first_s=NEVER_S, max_s=NEVER_S)
    supervisor = Supervisor(
        [
            Job("one", lambda: Fake(diary, running=failing(misfit)), gate),
            Job("other", lambda: Fake(other)),
        ],
        backoff=patient,
    )
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: supervisor.health()["one"].detail["state"] == "standing")
    await eventually(lambda: gate.looks == 2)
    health = supervisor.health()["one"]
    assert (health.ok, health.detail["why"]) == (True, "TABLE_MISFIT: 42P01: no table")
    assert supervisor.health()["other"].ok
    supervisor.request_stop()
    assert await asyncio.wait_for(running, HANGING_S) is Exit.DRAINED


async def test_a_service_that_its_gate_was_blamed_for_starts_again() -> None:
    diary, gate = Diary(), Barrier(is_open=True)
    fail = failing(TableMisfit("one"), TableMisfit("two"))
    supervisor = Supervisor([Job("one", lambda: Fake(diary, running=fail), gate)], backoff=QUICK)
    healthy = lambda: diary.made == 3 and supervisor.health()["one"].detail["state"] == "running"
    assert await stopped_after(supervisor, healthy) is Exit.DRAINED


async def test_a_gate_that_cannot_be_looked_at_keeps_a_service_out_and_ends_none() -> None:
    diary, gate = Diary(), Barrier(is_open=True)
    gate.away = True
    supervisor = Supervisor([Job("one", lambda: Fake(diary), gate)], backoff=QUICK)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: gate.looks > 2)
    assert not supervisor.health()["one"].ok
    assert "no answer" in supervisor.health()["one"].detail["last_error"]
    gate.away = False
    await eventually(lambda: "run" in diary.lines)
    gate.away, seen = True, gate.looks
    await eventually(lambda: gate.looks > seen + 2)
    assert supervisor.health()["one"].detail["state"] == "running"
    assert diary.lines == ["start", "run"]
    supervisor.request_stop()
    assert await asyncio.wait_for(running, HANGING_S) is Exit.DRAINED


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_stop_does_not_wait_for_a_gate(is_open: bool) -> None:
    gate = Barrier(is_open=is_open)
    gate.looking = asyncio.get_running_loop().create_future()
    supervisor = Supervisor([Job("one", lambda: Fake(Diary()), gate)])
    assert await stopped_after(supervisor, lambda: gate.looks == 1) is Exit.DRAINED
