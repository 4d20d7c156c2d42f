"""A process that serves: logging, signals, health, what its services share, the supervisor, and its end.

TidemillError at start that no retry fixes -> exit 1     drained after SIGTERM -> exit 0
servers down at start -> waits, unhealthy                not drained in time   -> exit 3

A signal is handled whatever the event loop does: see `stop_signals`. After it the process ends within
`EXIT_AFTER_S`.

A drain waits a limited time for a database that does not answer: then it is cut off, and work in flight is left to
the next owner of the lanes, whose claim fences whatever the database still does for this one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import structlog
import uvloop

from tidemill import __version__
from tidemill.admin.footprint import Footprint
from tidemill.app.connections import Login, SharedResources, open_pool
from tidemill.domain.errors import TransientError
from tidemill.http.health import Dependencies, Probe, serving
from tidemill.runtime import open_files
from tidemill.runtime.outages import Outages
from tidemill.runtime.retry import Backoff
from tidemill.runtime.service import DRAIN_S, EXIT_AFTER_S, Exit, Health, Job, Supervisor, exit_after
from tidemill.runtime.stop_signals import run_beside_signals
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import Redactor, configure_logging, logger
from tidemill.runtime.telemetry.metrics import BUILD
from tidemill.settings import Settings
from tidemill.storage.admin.processes import ProcessDatabase
from tidemill.storage.database.pool import quiet_driver
from tidemill.storage.database.probe import DatabaseProbe
from tidemill.transport.kafka.client.logs import limit_client_logs

Assemble = Callable[[SharedResources], Awaitable[Sequence[Job]]]
"""Opens what the services share (the stack closes it again) and returns the jobs. May raise `TransientError`."""

CUT_OFF_S: Final = 3.0
"""How long after the signal a database that does not answer is cut off."""

CUT_OFF_ANYWAY_S: Final = 6.0
"""How long after the signal the database is cut off in any case: a statement may wait for a lock without end."""

NICENESS: Final = 10
"""The niceness of processes that can wait: on busy cores, others get nine times as much time."""

_YOUNG_OBJECTS = 50_000

_MAX_NAME_BYTES = 63  # PostgreSQL cuts application names there

_log = logger(__name__)


def owner_name(process: str) -> str:
    """Return a name for this process that no other has: in `tm.lane`, and as its connections' application name."""
    host = socket.gethostname().split(".")[0][:24]
    return f"tidemill {process} {host} {os.getpid()} {uuid4().hex[:6]}"[:_MAX_NAME_BYTES]


def run_process(name: str, settings: Settings, assemble: Assemble, probes: Sequence[Probe]) -> int:
    """Run until a signal or a permanent failure; return the exit code.

    Raises:
        TidemillError: a failure that no retry can fix.
    """
    configure_logging(settings.log.level, settings.log.format, secrets=settings.secrets())
    limit_client_logs()
    quiet_driver()
    open_files.raise_limit()
    structlog.contextvars.bind_contextvars(process=name)
    BUILD.labels(__version__, name).set(1)
    process = Process(name, settings, assemble, probes)
    tune_gc()
    code = process.run_to_its_end()
    if process.error is not None:
        raise process.error
    return code


def lower_priority() -> None:
    """Let the other processes of this machine go first. Call it before there are threads: they inherit it.

    Not for processes with locks that writers wait for: these would wait for the cores too.
    """
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


def tune_gc() -> None:
    """Run the cyclic garbage collector rarely, and never over imported objects.

    A batch makes tens of thousands of tuples and dicts that reference counting frees; with the default threshold the
    collector took a third of the time per command.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 50)


class Process:
    """One process from start to exit code."""

    def __init__(self, name: str, settings: Settings, assemble: Assemble, probes: Sequence[Probe]) -> None:
        """Nothing happens before `run_to_its_end`."""
        self._name = name
        self._settings = settings
        self._assemble = assemble
        self._dependencies = Dependencies(probes)
        self._redact = Redactor(settings.secrets())
        self._supervisor: Supervisor | None = None
        self._stopping = asyncio.Event()
        self._last_resort: threading.Timer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began_s = time.monotonic()
        self._problem = "starting"
        self._outages = Outages()
        self.error: BaseException | None = None

    def run_to_its_end(self) -> Exit:
        """Serve until a signal or a permanent failure, which `error` then has. For the main thread."""
        return run_beside_signals(lambda: uvloop.run(self._run()), self._on_signal)

    async def _run(self) -> Exit:
        self._loop = asyncio.get_running_loop()
        if self._last_resort is not None:  # a signal came first
            self._drain()
        _log.info(Log.PROCESS_STARTED, version=__version__, pid=os.getpid())
        health = self._settings.health
        try:
            async with self._dependencies.watching(), serving(self.report, health.host, health.port):
                code = await self._serve()
        except Exception as error:  # noqa: BLE001  it ends the process, whatever it is
            self.error, code = error, Exit.FAILED
        _log.info(Log.PROCESS_STOPPED, exit_code=int(code))
        if self._last_resort is not None:
            self._last_resort.cancel()
        return code

    def request_stop(self) -> None:
        """Drain and end; the process exits `EXIT_AFTER_S` later in any case. A second call exits at once.

        From any thread.
        """
        if self._last_resort is not None:
            exit_after(0, Exit.CUT_OFF)
            return
        self._last_resort = exit_after(EXIT_AFTER_S, Exit.CUT_OFF)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: there is nothing left to drain
                self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._stopping.set()
        if self._supervisor is not None:
            self._supervisor.request_stop()

    def report(self) -> tuple[bool, Mapping[str, Any]]:
        """Return whether the process is healthy, and the content of `/health`."""
        dependencies = self._dependencies.health()
        services = self._supervisor.health() if self._supervisor else {}
        ok = bool(services) and all(health.ok for health in [*dependencies.values(), *services.values()])
        content = {
            "status": "ok" if ok else "failing",
            "process": self._name,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._began_s, 1),
            "open_files": open_files.count(),
            "file_limit": open_files.limit(),
            "dependencies": {name: _shown(health) for name, health in dependencies.items()},
            "services": {name: _shown(health) for name, health in services.items()},
        }
        whole = content if services else content | {"trouble": self._problem}
        return ok, self._redact(None, "", whole)  # errors may quote their input

    def _on_signal(self, number: signal.Signals) -> None:
        self.request_stop()  # first: writing a line may take long
        _log.info(Log.STOP_REQUESTED, signal=number.name)

    async def _serve(self) -> Exit:
        shared = SharedResources()
        shared.missing = self._dependencies.missing
        cutting = asyncio.create_task(self._cut_off(shared), name="cut off")
        try:
            async with shared:
                jobs = await self._assembled(shared)
                if jobs is None:
                    return Exit.DRAINED
                self._supervisor = Supervisor(jobs, drain_s=DRAIN_S)
                if self._stopping.is_set():
                    self._supervisor.request_stop()
                code = await self._supervisor.run()
                self.error = self._supervisor.error
            return code
        finally:
            cutting.cancel()

    async def _cut_off(self, shared: SharedResources) -> None:
        """Cut the database off when a drain has waited for it too long."""
        await self._stopping.wait()
        asked_s = time.monotonic()
        self._dependencies.ask_at_once()
        await asyncio.sleep(CUT_OFF_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(CUT_OFF_ANYWAY_S - CUT_OFF_S):
                await self._dependencies.loss_of(DatabaseProbe.name)
        _log.warning(
            Log.DATABASE_CUT_OFF,
            after_s=round(time.monotonic() - asked_s, 1),
            undone="what was in flight, and giving lanes back: the next owner resumes after the last commit",
        )
        shared.cutoff.cut()

    async def _assembled(self, shared: SharedResources) -> Sequence[Job] | None:
        """Open what is shared, waiting for servers that are unavailable; None if a stop came first."""
        failures = 0
        while not self._stopping.is_set():
            opening = asyncio.ensure_future(self._assemble(shared))
            await self._unless_stopped(opening)
            try:
                return opening.result()
            except asyncio.CancelledError:
                break
            except TransientError as error:
                failures += 1
                self._problem = str(error)
                if self._outages.failed(self._name, error):
                    _log.warning(Log.SERVICE_FAILED, service=self._name, error=str(error))
            await shared.aclose()
            await self._unless_stopped(asyncio.ensure_future(asyncio.sleep(Backoff().pause_s(failures))))
        return None

    async def _unless_stopped(self, work: asyncio.Future[Any]) -> None:
        """Wait for `work`; cancel it if a stop comes first."""
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work}, timeout=1.0)


async def footprint_job(
    shared: SharedResources, settings: Settings, process: str, *, login: Login = "service"
) -> Job:
    """Open a connection of its own, so that it waits for nobody's, and return the job."""
    name = owner_name(process)
    database = ProcessDatabase(await open_pool(shared, settings, name=name, size=1, login=login))
    return Job("footprint", lambda: Footprint(database, name, shared.names))


def _shown(health: Health) -> dict[str, Any]:
    return {"ok": health.ok, **health.detail}
