"""The API as a service of a process: listens, answers, and drains."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError
from tidemill.http.api_protocol import ApiProtocol
from tidemill.http.gateway import Gateway
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger

DRAIN_S: Final = 7.0
"""How long requests may take to end after a stop; less than a process has."""

MIN_DRAIN_S: Final = 1.0
"""How long answers may take to be sent, whatever was left of that."""

KEEP_ALIVE_S: Final = 75

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where it listens. `certificate` and `key`: PEM files; None: without TLS."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        """Return the scheme of its address."""
        return "http" if self.certificate is None else "https"


Drain = Callable[[], Awaitable[None]]


async def nothing_to_drain() -> None:
    """Return at once."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpService:
    """A `Service`: answers until it is stopped; then it refuses what comes, and ends what is in flight."""

    def __init__(
        self,
        gateway: Gateway,
        listening: Listening,
        *,
        drain: Drain = nothing_to_drain,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing listens before `start`. `drain`: ends what waits, before the connections are closed."""
        self._now_s = now_s
        self._gateway = gateway
        self._drain = drain
        self._listening = listening
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._running = False
        self.address = ""

    async def start(self) -> None:
        """Listen. Raises `UsageError`: the port is taken, or the host is not of this machine."""
        self._socket = _listen(self._listening)
        host, port = self._socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{self._listening.scheme}://{shown}:{port}"
        self._server = _Server(_config(self._gateway, self._listening))
        _log.info(Log.HTTP_SERVED, address=self.address, docs=f"{self.address}/docs")

    async def run(self) -> None:
        """Answer."""
        assert self._server is not None
        assert self._socket is not None
        if not self._server.should_exit:
            self._running = True
            await self._server.serve(sockets=[self._socket])

    async def stop(self) -> None:
        """Refuse what comes, and let `run` end."""
        began_s = self._now_s()
        self._gateway.draining = True
        await self._drain()
        if self._server is not None:
            left_s = DRAIN_S - (self._now_s() - began_s)
            self._server.config.timeout_graceful_shutdown = max(MIN_DRAIN_S, left_s)  # type: ignore[assignment]  # seconds
            self._server.should_exit = True
        if self._socket is not None and not self._running:
            self._socket.close()  # else the server does, when it ends

    def health(self) -> Health:
        """Return whether it answers, and how many requests are in flight."""
        return Health(ok=True, detail={"address": self.address, "in_flight": self._gateway.in_flight})


def _config(application: Any, listening: Listening) -> uvicorn.Config:
    tls = {}
    if listening.certificate is not None:
        tls = {"ssl_certfile": listening.certificate, "ssl_keyfile": listening.key}
    return uvicorn.Config(
        application,
        http=ApiProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        **tls,  # type: ignore[arg-type]  # two paths
    )


def _listen(listening: Listening) -> socket.socket:
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        return socket.create_server((listening.host, listening.port), family=family, backlog=512)
    except OSError as error:
        raise UsageError(
            f"TIDEMILL_HTTP_PORT={listening.port}: cannot listen at {listening.host}:{listening.port} "
            f"({error.strerror})",
            code=ErrorCode.PORT_IN_USE,
        ) from error
