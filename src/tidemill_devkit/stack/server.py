"""The handle of one server process of one stack: start it, stop it, break it.

The process is remembered in a file of its own, so that handles in different processes (the command
line, test workers) see the same state.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tidemill_devkit.stack import processes
from tidemill_devkit.stack.errors import ServerFailedError
from tidemill_devkit.stack.plan import ServerPlan
from tidemill_devkit.stack.processes import Life, ProcessId, kill, kill_marked, spawn, stop
from tidemill_devkit.stack.shell import log_tail

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 20.0


@dataclass(frozen=True)
class NativeServer:
    """One server process of a stack that devstack owns."""

    name: str
    plan: ServerPlan
    stack: Path

    @property
    def log(self) -> Path:
        return self.stack / "logs" / f"{self.name}.log"

    @property
    def address(self) -> str:
        return self.plan.address

    def process(self) -> ProcessId | None:
        return ProcessId.load(self._pid_file)

    def life(self) -> Life:
        process = self.process()
        return "gone" if process is None else process.life()

    def answers(self) -> bool:
        """Whether the server works as its clients need it."""
        process = self.process()
        if process is None or process.life() != "running":
            return False
        return self.plan.answers(process.pid)

    def start(self) -> None:
        """Start it on its own data and port and return when it answers; nothing if it does."""
        if self.life() == "frozen":
            self.thaw()
        if self.life() == "gone":
            self._start_process()
        self._wait_until_answering()

    def stop(self) -> None:
        """End it in an orderly way."""
        self._end(lambda process: stop(process, self.plan.stop_signal, grace_s=STOP_GRACE_S))

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        self._end(kill)

    def freeze(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        self._do(processes.freeze)

    def thaw(self) -> None:
        """Let a frozen server continue."""
        self._do(processes.thaw)

    def _do(self, act: Callable[[ProcessId], None]) -> None:
        process = self.process()
        if process is not None:
            act(process)

    @property
    def _pid_file(self) -> Path:
        return self.stack / f"{self.name}.pid"

    def initialise(self) -> None:
        """Make what is missing in its home, and write its configuration again."""
        self.plan.home.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.plan.initialise(self.log)

    def _start_process(self) -> None:
        # a run that was killed between start and note has left an unknown server
        kill_marked(self.plan.home)
        self.initialise()
        environment = {**os.environ, **self.plan.environment}
        started = spawn(self.plan.command(), home=self.plan.home, log=self.log, environment=environment)
        started.save(self._pid_file)

    def _wait_until_answering(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if self.life() == "gone":
                raise ServerFailedError(self.name, "ended at start", self.log, log_tail(self.log))
            if time.monotonic() > deadline:
                problem = f"did not answer within {START_TIMEOUT_S:.0f} s"
                raise ServerFailedError(self.name, problem, self.log, log_tail(self.log))
            time.sleep(0.05)

    def _end(self, how: Callable[[ProcessId], None]) -> None:
        self._do(how)
        self._pid_file.unlink(missing_ok=True)
