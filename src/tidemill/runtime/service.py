"""Services: long-running work, started, watched and stopped.

A process is a supervisor with several services. A failed service is created and started again, with growing
pauses; one that fails because it is declared or configured wrongly ends the process, since no retry can fix that.
One with a gate waits while that is shut, without ending the others: it continues by itself.
A stop drains: every service ends what is in flight, within a deadline that also holds when the servers are unavailable.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Protocol

from tidemill.domain.errors import (
    ContractError,
    MasterKeyMissing,
    TableMisfit,
    TidemillError,
    TransientError,
    UsageError,
)
from tidemill.runtime.outages import Outages
from tidemill.runtime.pauses import stopped_within
from tidemill.runtime.retry import Backoff
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import LOOP_LAG_SECONDS, SERVICE_RESTARTS

DRAIN_S = 8.0
"""How long services may take to end by themselves; then they are cancelled."""

EXIT_AFTER_S = 10.0
"""How long after the signal the process exits in any case."""

_log = logger(__name__)


class Exit(IntEnum):
    """Exit codes of a process that serves."""

    DRAINED = 0
    FAILED = 1
    CUT_OFF = 3


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a service: `detail` holds plain values for people and machines (JSON), never secrets."""

    ok: bool
    detail: Mapping[str, Any] = field(default_factory=dict)


class Service(Protocol):
    """Something that works until it is stopped."""

    async def start(self) -> None:
        """Prepare: connect, join, load. May raise; `stop` is called then too."""
        ...

    async def run(self) -> None:
        """Work until `stop` is called. Returning or raising earlier is a failure, whatever the reason."""
        ...

    async def stop(self) -> None:
        """Let `run` end after what is in flight, then free everything. Safe twice, and after a failed start."""
        ...

    def health(self) -> Health:
        """Return its health, without waiting."""
        ...


class Gate(Protocol):
    """A condition for a service, checked before it starts and while it runs."""

    async def look(self) -> bool:
        """Return whether it holds. Raises `TransientError` if that is unknown now."""
        ...

    def blame(self, error: BaseException) -> bool:
        """Tell whether a service ended with this error because the condition does not hold; store it as the reason."""
        ...

    def standing(self) -> Mapping[str, Any]:
        """Return the reason, as `Health.detail`."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """A service to run: `make` returns a new one for every start, since a failed one is not used again.

    While its `gate` is shut, the service is not started, or is stopped, and the process is healthy.
    """

    name: str
    make: Callable[[], Service]
    gate: Gate | None = None


class ServiceState(StrEnum):
    """The state of a service."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    STANDING = "standing"
    STOPPED = "stopped"
    FAILED = "failed"


class ServiceRunner:
    """Keeps one job running until it is told to stop."""

    def __init__(self, job: Job, backoff: Backoff) -> None:
        """Nothing runs before `keep`."""
        self.job = job
        self.state = ServiceState.WAITING
        self.failures = 0
        self.last_error = ""
        self._backoff = backoff
        self._stopping = asyncio.Event()
        self._outages = Outages()
        self._service: Service | None = None
        self._work: asyncio.Task[Any] | None = None

    async def keep(self) -> None:
        """Run the service, and restart it. Raises `ContractError` or `UsageError` of the service; ends after `stop`."""
        while await self._let_in():
            began = time.monotonic()
            error = await self._once()
            if error is None:
                continue
            if isinstance(error, ContractError | UsageError):
                self.state = ServiceState.FAILED
                raise error
            stable = time.monotonic() - began > self._backoff.stable_s
            await self._pause(error, 1 if stable else self.failures + 1)
        self.state = ServiceState.STOPPED
        _log.info(Log.SERVICE_STOPPED, service=self.job.name)

    async def stop(self) -> None:
        """Ask the service to end; returns when it has freed everything."""
        self._stopping.set()
        if self.state in {ServiceState.STARTING, ServiceState.STANDING} and self._work is not None:
            self._work.cancel()  # nothing is in flight yet, and a start may wait for a server that is unavailable
        elif self.state is ServiceState.RUNNING and self._service is not None:
            await self._service.stop()

    def health(self) -> Health:
        """Return the service's own health, with its state."""
        own = self._own_health()
        detail = {"state": self.state.value, "failures": self.failures, **own.detail}
        if self.last_error:
            detail["last_error"] = self.last_error
        return Health(ok=own.ok, detail=detail)

    def _own_health(self) -> Health:
        if self.state is ServiceState.STANDING and self.job.gate is not None:
            return Health(ok=True, detail=self.job.gate.standing())  # no restart opens it
        return (
            self._service.health()
            if self._service and self.state is ServiceState.RUNNING
            else Health(ok=False)
        )

    async def _let_in(self) -> bool:
        """Return whether the service may start, once its gate is open; False if a stop came first."""
        while not self._stopping.is_set():
            if self.state is not ServiceState.STANDING:
                self.state = ServiceState.STARTING
            is_open = await self._look()
            if is_open:
                return True
            self.state = ServiceState.WAITING if is_open is None else ServiceState.STANDING
            await stopped_within(self._stopping, self._backoff.shut_s)
        return False

    async def _look(self) -> bool | None:
        """Return whether the gate is open; None if that is unknown, or a stop came first."""
        if self.job.gate is None:
            return True
        looking = self._work = asyncio.create_task(self.job.gate.look(), name=f"gate of {self.job.name}")
        try:
            await asyncio.wait({looking})
            return None if looking.cancelled() else looking.result()
        except TransientError as error:
            self.last_error = str(error)
            return None
        finally:
            looking.cancel()  # a no-op unless we are cancelled ourselves

    async def _shut(self) -> None:
        """Return once the gate is shut; never without one."""
        while self.job.gate is not None:
            await asyncio.sleep(self._backoff.open_s)
            with suppress(TransientError):
                if not await self.job.gate.look():
                    return
        await asyncio.Event().wait()

    async def _once(self) -> BaseException | None:
        """Run one service from start to end; return why it ended, None if it was asked to, or its gate is shut."""
        try:
            service = self._service = self.job.make()
        except Exception as error:  # noqa: BLE001  whatever it is, the supervisor decides what follows
            return error
        work = self._work = asyncio.create_task(self._live(service), name=self.job.name)
        shut = asyncio.create_task(self._shut())
        try:
            await asyncio.wait({work, shut}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await self._free(service)  # what is in flight ends
                await _cancel({work})
                self.state = ServiceState.STANDING
                return None
        finally:
            shut.cancel()
            work.cancel()  # a no-op unless we are cancelled ourselves
            await self._free(service)
        return self._why(work)

    async def _live(self, service: Service) -> None:
        self.state = ServiceState.STARTING
        await service.start()
        self.state = ServiceState.RUNNING
        if (
            not self._outages
        ):  # else it may fail as before: an outage is over when the service has run for a while
            _log.info(Log.SERVICE_STARTED, service=self.job.name)
        stable = asyncio.get_running_loop().call_later(self._backoff.stable_s, self._say_what_is_over)
        try:
            await service.run()
        finally:
            stable.cancel()

    def _say_what_is_over(self) -> None:
        for outage in self._outages.ended(self.job):
            _log.info(
                Log.SERVICE_RECOVERED,
                service=self.job.name,
                attempts=outage.attempts,
                seconds=outage.seconds,
            )

    async def _free(self, service: Service) -> None:
        try:
            await asyncio.wait_for(service.stop(), DRAIN_S)
        except Exception as error:  # noqa: BLE001  it is given up anyway; what counts is why it ended
            _log.warning(Log.SERVICE_GAVE_UP, service=self.job.name, error=repr(error))

    def _why(self, work: asyncio.Task[None]) -> BaseException | None:
        """Return the error to act on; None after a stop was requested, unless it is a bug."""
        asked = self._stopping.is_set()
        if work.cancelled():  # by the supervisor, or by a library that cancelled the task it ran in
            return None if asked else RuntimeError("was cancelled by a library")
        error = work.exception()
        if error is None:
            return None if asked else RuntimeError("ended by itself")
        decisive = _decisive(error)
        return None if asked and isinstance(decisive, TransientError) else decisive

    async def _pause(self, error: BaseException, failures: int) -> None:
        blamed = self.job.gate is not None and self.job.gate.blame(error)
        self.state = ServiceState.STANDING if blamed else ServiceState.WAITING
        self.failures, self.last_error = failures, f"{type(error).__name__}: {error}"
        pause_s = self._backoff.pause_s(failures)
        if blamed and await self._look() is False:
            return  # no failure of its own
        SERVICE_RESTARTS.labels(self.job.name).inc()
        if self._outages.failed(self.job, error):
            _log.warning(
                Log.SERVICE_FAILED,
                service=self.job.name,
                error=self.last_error,
                pause_s=round(pause_s, 2),
                exc_info=None if isinstance(error, TidemillError) else error,
            )
        await stopped_within(self._stopping, pause_s)


class Supervisor:
    """Runs jobs side by side until a stop is requested or one of them cannot continue."""

    def __init__(
        self, jobs: Sequence[Job], *, drain_s: float = DRAIN_S, backoff: Backoff | None = None
    ) -> None:
        """`drain_s`: how long services may take to end by themselves once a stop was requested."""
        self._runners = [ServiceRunner(job, backoff or Backoff()) for job in jobs]
        self._drain_s = drain_s
        self._stop = asyncio.Event()
        self.error: BaseException | None = None

    def request_stop(self) -> None:
        """Let all services end; `run` returns when they have."""
        self._stop.set()

    async def run(self) -> Exit:
        """Keep all jobs running; return how it ended. `error` then holds its error, if it failed."""
        kept = {asyncio.create_task(runner.keep(), name=runner.job.name) for runner in self._runners}
        stop = asyncio.create_task(self._stop.wait())
        lag = asyncio.create_task(watch_loop())
        try:
            done, _ = await asyncio.wait({stop, *kept}, return_when=asyncio.FIRST_COMPLETED)
            self._note_failure(done - {stop})
            drained = await self._drain(kept)
        finally:
            await _cancel({stop, lag, *kept})
        self._note_failure(kept)
        if self.error is not None:
            return Exit.FAILED
        return Exit.DRAINED if drained else Exit.CUT_OFF

    def health(self) -> dict[str, Health]:
        """Return the health of every service by name."""
        return {runner.job.name: runner.health() for runner in self._runners}

    async def _drain(self, kept: set[asyncio.Task[None]]) -> bool:
        stops = {asyncio.create_task(runner.stop()) for runner in self._runners}
        _, late = await asyncio.wait({*stops, *kept}, timeout=self._drain_s)
        if late:
            _log.error(
                Log.DRAIN_CUT_OFF,
                services=sorted(task.get_name() for task in late & kept),
                after_s=self._drain_s,
            )
        await _cancel(stops)
        return not late

    def _note_failure(self, ended: set[asyncio.Task[Any]]) -> None:
        for task in ended:
            if self.error is None and task.done() and not task.cancelled():
                self.error = task.exception()


async def watch_loop(every_s: float = 0.25, warn_s: float = 0.5) -> None:
    """Measure how late the event loop is; a loop that blocks starves heartbeats."""
    while True:
        due = time.monotonic() + every_s
        await asyncio.sleep(every_s)
        late_s = max(0.0, time.monotonic() - due)
        LOOP_LAG_SECONDS.observe(late_s)
        if late_s > warn_s:
            _log.warning(Log.LOOP_LATE, late_s=round(late_s, 3))


def exit_after(seconds: float, code: int) -> threading.Timer:
    """End the process in `seconds` whatever happens, also if the event loop is stuck; cancel it after a clean end."""

    def leave() -> None:
        sys.stderr.write(f"tidemill: not stopped {seconds:g} s after the signal; leaving at once\n")
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    return timer


def _decisive(error: BaseException) -> BaseException:
    """Return the error to act on: of a task group's errors a permanent one, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_decisive(part) for part in error.exceptions]
    for decisive in (ContractError | UsageError, TableMisfit | MasterKeyMissing):
        if found := [leaf for leaf in leaves if isinstance(leaf, decisive)]:
            return found[0]
    return leaves[0]


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for them a moment; tasks that still run end with the process."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1.0)
