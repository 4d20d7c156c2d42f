"""Processes that have their imports behind them: the program's, begun by a fork of one that has imported it.

A journey starts a handful of processes, and importing takes each of them longer than all that it does until it is
well. `NURSERY.begin` gives processes like those of `subprocess.Popen`; the nursery is their parent, begins them on
demand, and ends all that are left when the process that began it ends. What is run is the same module in the same way.

Programs that somebody types in a shell ask for such a process at the nursery's socket: `forked_program`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import selectors
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
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

SOCKET = "typed"
"""Where the nursery listens for typed programs, in its folder."""
READY = "ready\n"

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

    @property
    def pid(self) -> int:
        """The process that forks, once it was begun."""
        assert self._process is not None
        return self._process.pid

    def forked_program(self, module: str, environment: Path) -> str:
        """Return the text of a program that runs `main` of a module as a fork of the nursery.

        Its arguments, variables, folder and streams are those of who calls it, and so are its exit code and the
        signals that it gets. `environment`: the folder of the virtual environment that it belongs to; what is installed
        there is found behind what we have.
        """
        with self._one_at_a_time:
            _ = self._process or self._started()
        values = {"python": sys.executable, "module": module, "environment": str(environment)}
        return _FORKED_PROGRAM.format(address=str(self._folder / SOCKET), **values)

    def _started(self) -> subprocess.Popen[str]:
        self._folder = Path(mkdtemp(prefix="tidemill-nursery-"))
        command = [sys.executable, "-m", "tests.support.servers.nursery", str(self._folder)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == READY
        atexit.register(self._process.communicate, timeout=HANGING_S)
        return self._process


# It may import little: it is to be quick.
_FORKED_PROGRAM = """#!{python} -IS
import json, os, signal, socket, sys
wire = socket.socket(socket.AF_UNIX)
wire.connect({address!r})
socket.send_fds(wire, [b" "], [0, 1, 2])
order = dict(
    module={module!r}, environment={environment!r}, arguments=sys.argv, folder=os.getcwd(), variables=dict(os.environ)
)
wire.sendall(json.dumps(order).encode() + b"\\n")
answers = wire.makefile()
pid = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(pid, number))
code = int(answers.readline())
sys.exit(code if code >= 0 else 128 - code)
"""

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
    typed = TypedPrograms(folder / SOCKET, waiting)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    waiting.register(asleep, selectors.EVENT_READ)
    sys.stdout.write(READY)
    sys.stdout.flush()
    while True:
        ready = [key.fileobj for key, _ in waiting.select()]
        if asleep in ready:
            os.read(asleep, 4096)
            _note_the_ended(endings)
            typed.tell_the_ended()
        typed.end_the_left(ready)
        if typed.listener in ready:
            typed.begin()
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                break
            _begin(json.loads(line), endings)
    for pid in [*endings, *typed.callers]:
        os.kill(pid, signal.SIGKILL)
    rmtree(folder)


class TypedPrograms:
    """Processes for programs that somebody types; each ends with its caller, whom `waiting` watches."""

    def __init__(self, address: Path, waiting: selectors.BaseSelector) -> None:
        self._waiting = waiting
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(address))
        self.listener.listen(64)
        self.callers: dict[int, socket.socket] = {}
        waiting.register(self.listener, selectors.EVENT_READ)

    def begin(self) -> None:
        """Take one order, and begin what it asks for."""
        caller, _ = self.listener.accept()
        _, streams, _, _ = socket.recv_fds(caller, 1, 3)
        with caller.makefile() as orders:
            order = json.loads(orders.readline())
        pid = os.fork()
        if pid == 0:
            _be_typed(order, streams)
        for stream in streams:
            os.close(stream)
        caller.sendall(f"{pid}\n".encode())
        self.callers[pid] = caller
        self._waiting.register(caller, selectors.EVENT_READ)

    def end_the_left(self, ready: Collection[Any]) -> None:
        """End those whose callers are gone: they say no more once they have given their orders."""
        for pid, caller in self.callers.items():
            if caller in ready:
                os.kill(pid, signal.SIGKILL)
                self._waiting.unregister(caller)

    def tell_the_ended(self) -> None:
        """Give the exit codes to those who wait for them."""
        for pid in list(self.callers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with self.callers.pop(pid) as caller, suppress(OSError, KeyError):
                    self._waiting.unregister(caller)
                    caller.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _be_typed(order: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be a program of a virtual environment: its packages are found, and its folder is the interpreter's."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 256)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  the one that is there may hold orders of the nursery
    own = sys.modules["__main__"]
    own.__spec__, own.__package__ = None, ""  # or the program would call itself by the nursery's name
    os.chdir(order["folder"])
    environment = Path(order["environment"])
    sys.prefix, sys.executable = str(environment), str(environment / "bin" / "python")
    site.addsitedir(str(environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"))
    _live(order["arguments"], order["variables"], lambda: import_module(order["module"]).main())


def _begin(order: Mapping[str, Any], endings: dict[int, str]) -> None:
    pid = os.fork()
    if pid == 0:
        _redirect(Path(order["log"]))
        module, *_ = arguments = order["arguments"]
        _live(
            arguments,
            order["environment"],
            lambda: runpy.run_module(module, None, "__main__", alter_sys=True),
        )
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


def _live(
    arguments: Sequence[str], environment: Mapping[str, str], program: Callable[[], object]
) -> NoReturn:
    """Be the program: what the interpreter does around a module, from its environment to its exit code."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(arguments)
    named = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in named if path and path not in sys.path]
    if KEEPS_DEADLINES not in environment:
        _be_patient()
    code = _exit_code_of(program)
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


def _exit_code_of(program: Callable[[], object]) -> int:
    try:
        program()
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
