"""Processes that have their imports behind them: the program's, begun by a fork of one that has imported it.

A journey starts a handful of processes, and importing takes each of them longer than all that it does until it is
well. `NURSERY.begin` gives processes like those of `subprocess.Popen`; the nursery is their parent, begins them on
demand, and ends all that are left when the process that began it ends. What is run is the same module in the same way.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import selectors
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, NoReturn

from tests.support.waiting import HANGING_S, eventually_blocking

IMPORTED = (
    "tidemill.cli.program",
    "tidemill.app.processes.all",
    "tidemill.app.processes.archiver",
    "tidemill.app.processes.commands",
    "tidemill.app.processes.projections",
    "tidemill.app.processes.retention",
    "tidemill.contexts.connector_profiles",
    "tidemill.contexts.market_data",
    "tidemill.transport.registry",
)

KEEPS_DEADLINES = "TESTS_KEEP_DEADLINES"
"""The variable under which a process has the product's own deadlines for its end."""


@dataclass
class Child:
    """A process that the nursery has begun; the same methods as those of `subprocess.Popen`."""

    pid: int
    args: Sequence[str]
    _exit_file: Path
    returncode: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        """Return the exit code, less than 0 for a signal, None while it lives."""
        if self.returncode is None:
            with suppress(FileNotFoundError):
                self.returncode = int(self._exit_file.read_text())
        return self.returncode

    def wait(self, timeout_s: float = HANGING_S) -> int:
        """Return the exit code; `timeout_s`: how long it may take."""
        eventually_blocking(lambda: self.poll() is not None, timeout_s, f"the end of {self.args}")
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The client's side: one process that forks, begun when the first child is wanted."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._folder = Path()
        self._begun = 0
        self._one_at_a_time = threading.Lock()

    def begin(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> Child:
        """Run `python -m MODULE ARGUMENTS` with exactly this environment; what it says is added to `log`."""
        with self._one_at_a_time:
            parent = self._process or self._started()
            self._begun += 1
            exit_file = self._folder / str(self._begun)
            order = {"arguments": [module, *arguments], "environment": dict(environment), "log": str(log)}
            assert parent.stdin is not None
            assert parent.stdout is not None
            parent.stdin.write(json.dumps({**order, "exit_file": str(exit_file)}) + "\n")
            parent.stdin.flush()
            return Child(int(parent.stdout.readline()), [module, *arguments], exit_file)

    def _started(self) -> subprocess.Popen[str]:
        self._folder = Path(mkdtemp(prefix="tidemill-nursery-"))
        command = [sys.executable, "-m", "tests.support.servers.nursery", str(self._folder)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        atexit.register(self._process.communicate, timeout=HANGING_S)
        return self._process


NURSERY = Nursery()
"""The one of this process."""


# --- the nursery itself ----------------------------------------------------------------------------------------------


def serve(folder: Path) -> None:
    """Begin what standard input asks for, note how each ended; at its end, end all that are left.

    `folder`: where endings are noted; it goes with the nursery.
    """
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()  # or each child looks at all that was imported, and copies its pages
    asleep, awake = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(awake)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # it wakes the loop below
    endings: dict[int, str] = {}
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    waiting.register(asleep, selectors.EVENT_READ)
    while True:
        ready = [key.fileobj for key, _ in waiting.select()]
        if asleep in ready:
            os.read(asleep, 4096)
            _note_the_ended(endings)
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                break
            _begin(json.loads(line), endings)
    for pid in endings:
        os.kill(pid, signal.SIGKILL)
    rmtree(folder)


def _begin(order: Mapping[str, Any], endings: dict[int, str]) -> None:
    pid = os.fork()
    if pid == 0:
        _live(**order)
    endings[pid] = order["exit_file"]
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()


def _note_the_ended(endings: dict[int, str]) -> None:
    for pid in list(endings):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            exit_file = Path(endings.pop(pid))
            new = exit_file.with_suffix(".new")
            new.write_text(str(os.waitstatus_to_exitcode(status)))
            new.rename(exit_file)


def _live(arguments: Sequence[str], environment: Mapping[str, str], log: str, exit_file: str) -> NoReturn:
    """Be the program: what the interpreter does around a module, from its environment to its exit code."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _redirect(Path(log))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(arguments)
    named = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in named if path and path not in sys.path]
    if KEEPS_DEADLINES not in environment:
        _be_patient()
    code = _run(arguments[0])
    threading._shutdown()  # type: ignore[attr-defined]  # as at an interpreter's end: threads first, then handlers
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _be_patient() -> None:
    """Let it have a minute to drain: on a busy machine ten seconds are short, and most journeys are not about them."""
    for name, seconds in {"DRAIN_S": 50.0, "EXIT_AFTER_S": 60.0, "CUT_OFF_ANYWAY_S": 40.0}.items():
        setattr(import_module("tidemill.app.processes.base"), name, seconds)


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    for here, there in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(here, there)
    os.closerange(3, 256)


def _run(module: str) -> int:
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # noqa: BLE001  the interpreter reports whatever it is
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
