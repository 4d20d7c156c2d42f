"""The processes of the demo: children that run the same program as a user would, with this run's settings."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from tidemill.domain.errors import TidemillError
from tidemill.runtime.service import EXIT_AFTER_S, Exit
from tidemill_devkit.demo.place import DemoSite
from tidemill_devkit.demo.poll import polled

PROCESSES: Final = ("commands", "projections", "http")
"""The processes from the start."""

ARCHIVE_PROCESSES: Final = ("retention", "archiver")
"""The processes that start after the quotes."""

_GONE_AFTER_S: Final = EXIT_AFTER_S + 3.0
_LINES_QUOTED: Final = 6
_HTTP_SERVED: Final = b'"http_served"'


class ProcessEnded(TidemillError):
    """A process ended too early. `name`: its verb."""

    def __init__(self, name: str, exit_code: int, log: Path, last: Sequence[str]) -> None:
        quoted = "\n".join(f"    {line}" for line in last)
        super().__init__(
            f"`tidemill serve {name}` ended with exit code {exit_code}; its log is {log}, the last lines:\n{quoted}"
        )


@dataclass(frozen=True)
class ProcessExit:
    """How a process ended after SIGTERM; its log is kept if it failed."""

    name: str
    exit_code: int
    seconds: float
    log: Path


class Serving:
    """The processes while they run."""

    def __init__(self, place: DemoSite, logs: Path) -> None:
        """Use `serving`."""
        self._place = place
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self.logs = logs

    async def start(self, name: str) -> None:
        """Start one more."""
        self._children[name] = await _start(name, self._place, self._log(name))

    def demand_alive(self) -> None:
        """Return if all run. Raises `ProcessEnded`."""
        for name, child in self._children.items():
            if child.returncode is not None:
                log = self._log(name)
                raise ProcessEnded(name, child.returncode, log, _last_lines(log))

    def last_words(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(
            f"    {name}: {line}" for name in self._children for line in _last_lines(self._log(name))
        )

    async def http_address(self) -> str:
        """Return where the API listens, once its process has logged it. Raises `ProcessEnded`: it does not."""
        return await polled(self._logged_address)

    async def _logged_address(self) -> str | None:
        self.demand_alive()
        whole_lines = self._log("http").read_bytes().split(b"\n")[:-1]
        addresses = (json.loads(line)["address"] for line in whole_lines if _HTTP_SERVED in line)
        return next(addresses, None)

    async def stop(self) -> list[ProcessExit]:
        """Ask all to drain and wait for it; one that does not end in time is killed."""
        return list(await asyncio.gather(*(self._stop(name) for name in self._children)))

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    async def _stop(self, name: str) -> ProcessExit:
        child, began_s = self._children[name], monotonic()
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(child.wait(), _GONE_AFTER_S)
        except TimeoutError:
            child.kill()
            await child.wait()
        assert child.returncode is not None
        return ProcessExit(name, child.returncode, monotonic() - began_s, self._log(name))


@asynccontextmanager
async def serving(place: DemoSite) -> AsyncIterator[Serving]:
    """Start the first processes; after the block all have ended in any case.

    Their logs are kept after an error, and deleted otherwise.
    """
    logs = Path(tempfile.mkdtemp(prefix=f"tidemill-demo-{place.run}-"))
    running = Serving(place, logs)
    wanted = False
    try:
        for name in PROCESSES:
            await running.start(name)
        yield running
        wanted = any(process_exit.exit_code != Exit.DRAINED for process_exit in await running.stop())
    except Exception:
        wanted = True
        raise
    finally:
        await asyncio.shield(running.stop())
        if not wanted:
            shutil.rmtree(logs)


async def _start(name: str, place: DemoSite, log: Path) -> asyncio.subprocess.Process:
    own = {
        "TIDEMILL_LOG_FORMAT": "json",
        "TIDEMILL_LOG_LEVEL": "INFO",
        "TIDEMILL_HEALTH_PORT": "0",
        "TIDEMILL_HTTP_HOST": "127.0.0.1",
        "TIDEMILL_HTTP_PORT": "0",  # any free one, which its log says
        "TIDEMILL_RETENTION_EVERY_S": "0.5",
    }
    given = place.servers.env_file
    file = ["--env-file", str(given)] if given is not None else []
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tidemill", *file, "serve", name),
            env=dict(os.environ) | place.environment() | own,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def _last_lines(log: Path) -> list[str]:
    """Return the end of a log for people: of a line of JSON its content."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_said(line) for line in lines[-_LINES_QUOTED:]]


def _said(line: str) -> str:
    try:
        fields = json.loads(line)
        return " ".join(str(fields[name]) for name in ("level", "event", "error") if name in fields)
    except (ValueError, TypeError, KeyError):
        return line
