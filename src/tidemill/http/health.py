"""The health of a process: probes of the servers it needs, and `/health` and `/metrics` over HTTP.

The Kafka client does not report an unavailable broker, and a pool only when it is used: so each server is asked,
every few seconds. The HTTP server runs in the process's own event loop: if that is stuck, it does not answer either.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import TidemillError, UsageError
from tidemill.http.guarded_protocol import GuardedProtocol
from tidemill.runtime.periodic import Periodic
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import DEPENDENCY_UP, REGISTRY

PROBE_EVERY_S: Final = 2.0
PROBE_TIMEOUT_S: Final = 2.0
STALE_AFTER_S: Final = 10.0

_log = logger(__name__)


class Probe(Protocol):
    """Asks one server whether it is available."""

    @property
    def name(self) -> str:
        """The server: `database`, `kafka`."""
        ...

    async def ask(self) -> None:
        """Return if the server answers; raise if it does not. Gets a deadline from the caller."""
        ...

    async def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    ok: bool
    text: str
    seconds: float
    at_s: float


class Dependencies:
    """The servers that a process needs, asked periodically."""

    def __init__(self, probes: Sequence[Probe], *, every_s: float = PROBE_EVERY_S) -> None:
        """Connect nothing before `watching`."""
        self._watches = [_ProbeWatch(probe, self._note, every_s=every_s) for probe in probes]
        self._answers: dict[str, _Answer] = {}
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Ask while the block runs."""
        tasks = [
            asyncio.create_task(watch.run(), name=f"probe {watch.probe.name}") for watch in self._watches
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0) if tasks else None
            for watch in self._watches:
                await _quietly(watch.probe.close())

    def health(self) -> dict[str, Health]:
        """Return the last answer of each server; one that is too old counts as none."""
        names = [watch.probe.name for watch in self._watches]
        return {name: self._of(self._answers.get(name)) for name in names}

    def missing(self) -> list[str]:
        """Return the servers that do not answer; one that was not asked yet may."""
        return [name for name, health in self.health().items() if name in self._answers and not health.ok]

    async def loss_of(self, name: str) -> None:
        """Return when a server does not answer; never for one without a probe."""
        while (answer := self._answers.get(name)) is None or answer.ok:
            await self._news.wait()

    def ask_at_once(self) -> None:
        """Ask now instead of after the pause, for a decision."""
        for watch in self._watches:
            watch.wake()

    def _note(self, name: str, answer: _Answer) -> None:
        before = self._answers.get(name)
        self._answers[name] = answer
        self._news.set()
        self._news = asyncio.Event()  # those who waited look at the answers, and wait for the next ones
        DEPENDENCY_UP.labels(name).set(answer.ok)
        if answer.ok != (before is None or before.ok):
            event = Log.DEPENDENCY_BACK if answer.ok else Log.DEPENDENCY_LOST
            _log.warning(event, dependency=name, error=answer.text)

    def _of(self, answer: _Answer | None) -> Health:
        if answer is None:
            return Health(ok=False, detail={"error": "not asked yet"})
        age_s = time.monotonic() - answer.at_s
        detail = {"latency_ms": round(answer.seconds * 1000, 1), "age_s": round(age_s, 1)}
        if not answer.ok:
            return Health(ok=False, detail=detail | {"error": answer.text})
        return Health(ok=age_s < STALE_AFTER_S, detail=detail)


class _ProbeWatch(Periodic):
    """Asks one server; `note` hears the answer."""

    def __init__(self, probe: Probe, note: Callable[[str, _Answer], None], *, every_s: float) -> None:
        super().__init__(every_s=every_s)
        self.probe = probe
        self._note = note

    async def look(self) -> None:
        self._note(self.probe.name, await _ask(self.probe))


async def _ask(probe: Probe) -> _Answer:
    began = time.monotonic()
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await probe.ask()
        text = ""
    except TimeoutError:
        text = f"no answer within {PROBE_TIMEOUT_S:g} s"
    except (TidemillError, OSError) as error:
        text = str(error)
    ended = time.monotonic()
    return _Answer(not text, text, ended - began, ended)


async def _quietly(closing: Any) -> None:
    with contextlib.suppress(TidemillError, OSError, TimeoutError):
        await asyncio.wait_for(closing, 1.0)


# --- over HTTP -------------------------------------------------------------------------------------------------------

Report = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Returns whether the process is healthy, and the content of `/health`."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    report: Report, host: str, port: int, protocol: type[GuardedProtocol] = GuardedProtocol
) -> AsyncIterator[str]:
    """Answer `/health` (200 or 503, JSON) and `/metrics` while the block runs; yields the address.

    `protocol`: how many connections it holds, and for how long; each is for one request.

    Raises:
        UsageError: the port is taken, or the host is not of this machine.
    """
    listening = _listen(host, port)
    address = "http://{}:{}".format(*listening.getsockname()[:2])
    config = uvicorn.Config(
        _application(report),
        http=protocol,
        ws="none",
        headers=[("connection", "close")],
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    answering = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    _log.info(Log.HEALTH_SERVED, address=f"{address}/health", metrics=f"{address}/metrics")
    try:
        yield address
    finally:
        server.should_exit = True
        await asyncio.wait({answering}, timeout=1.5)
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=64)
    except OSError as error:
        raise UsageError(
            f"TIDEMILL_HEALTH_PORT={port}: cannot listen at {host}:{port} ({error.strerror})",
            code=ErrorCode.PORT_IN_USE,
        ) from error


def _application(report: Report) -> Starlette:
    async def health(_: Request) -> Response:
        ok, content = report()
        return JSONResponse(dict(content), status_code=200 if ok else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/health", health), Route("/metrics", metrics)])
