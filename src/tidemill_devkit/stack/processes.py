"""Processes that outlive this one: started in their own session, identified by pid and start time.

A pid alone is no identity: after a crash or a reboot the kernel gives it to another process, which must
never be signalled. The start time in clock ticks together with the boot id is unique.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

PROC = Path("/proc")
Life = Literal["running", "frozen", "gone"]

# a variable in the environment of whatever is started here: the folder for which it works
MARK = "TIDEMILL_DEVSTACK_FOLDER"


def boot_id() -> str:
    """Which start of the machine this is."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class _Stat:
    state: str
    parent_pid: int
    start_ticks: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name may hold spaces and brackets: the numbered fields start after the last one
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(state=fields[0], parent_pid=int(fields[1]), start_ticks=int(fields[19]))


@dataclass(frozen=True)
class ProcessId:
    """A unique process: no other process of any boot compares equal."""

    pid: int
    start_ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        stat = _stat(pid)
        return None if stat is None else cls(pid, stat.start_ticks, boot_id())

    def life(self) -> Life:
        stat = _stat(self.pid)
        if stat is None or stat.start_ticks != self.start_ticks or self.boot != boot_id():
            return "gone"
        if stat.state in "ZX":
            _reap(self.pid)
            return "gone"
        return "frozen" if stat.state in "Tt" else "running"

    def save(self, path: Path) -> None:
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "ProcessId | None":
        """The process written to `path`, or None if there is none or the file is damaged."""
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def _reap(pid: int) -> None:
    # another process's child is left to its parent or to init
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def spawn(command: Sequence[str], *, home: Path, log: Path, environment: Mapping[str, str]) -> ProcessId:
    """Start a server that survives this process and its terminal; what it prints is appended to `log`.

    It runs in the folder `home` (where a dying JVM leaves its remains) and is marked with it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # posix_spawn cannot change the folder; `env` replaces itself by the command, so the pid is right
    inside = ["env", f"--chdir={home}", *command]
    pid = os.posix_spawnp(
        inside[0],
        inside,
        {**environment, MARK: str(home)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP],
    )
    stat = _stat(pid)
    if stat is None:
        raise ChildProcessError(f"{command[0]} left the process table before it was collected")
    return ProcessId(pid, stat.start_ticks, boot_id())


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def family(process: ProcessId) -> list[ProcessId]:
    """The process and all its descendants, parents first; empty if it is gone."""
    if process.life() == "gone":
        return []
    children: dict[int, list[int]] = {}
    for pid in _pids():
        stat = _stat(pid)
        if stat is not None:
            children.setdefault(stat.parent_pid, []).append(pid)
    found = [process]
    for member in found:
        offspring = (ProcessId.of(pid) for pid in children.get(member.pid, []))
        found.extend(child for child in offspring if child is not None)
    return found


def send(process: ProcessId, number: signal.Signals) -> None:
    """Signal exactly this process; nothing happens if it is gone."""
    if process.life() == "gone":
        return
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return


def send_family(process: ProcessId, number: signal.Signals) -> None:
    """Signal the process first and then its descendants, so that it cannot replace them."""
    for member in family(process):
        send(member, number)


def freeze(process: ProcessId) -> None:
    """Stop the process and its descendants where they are; returns when they are stopped."""
    send_family(process, signal.SIGSTOP)
    _wait_until(lambda life: life != "running", family(process), timeout_s=5)


def thaw(process: ProcessId) -> None:
    """Let a frozen process and its descendants continue; returns when they do."""
    send_family(process, signal.SIGCONT)
    _wait_until(lambda life: life != "frozen", family(process), timeout_s=5)


def wait_gone(processes: Sequence[ProcessId], timeout_s: float) -> bool:
    """True once all are gone, False if one is still there after `timeout_s`."""
    return _wait_until(lambda life: life == "gone", processes, timeout_s)


def _wait_until(is_right: Callable[[Life], bool], processes: Sequence[ProcessId], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not all(is_right(process.life()) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def stop(process: ProcessId, number: signal.Signals, *, grace_s: float) -> None:
    """End the process and its descendants: politely with `number`, after `grace_s` by force."""
    members = family(process)
    send_family(process, signal.SIGCONT)
    send(process, number)
    if not wait_gone(members, grace_s):
        kill(process, members)


def kill(process: ProcessId, members: Sequence[ProcessId] | None = None) -> None:
    """SIGKILL to the process and its descendants (those of `members` too); returns when all are gone."""
    everybody = list(members or []) + family(process)
    for member in everybody:
        send(member, signal.SIGKILL)
    wait_gone(everybody, timeout_s=10)


def kill_marked(folder: Path) -> None:
    """Kill what was started for something in `folder` and forgotten: an orphaned set-up or server."""
    marked = [process for pid in _pids() if (process := _marked(pid, folder)) is not None]
    for process in marked:
        send(process, signal.SIGKILL)
    wait_gone(marked, timeout_s=10)


def _marked(pid: int, folder: Path) -> ProcessId | None:
    try:
        variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return None  # gone meanwhile, a kernel thread, or another user's
    begin = f"{MARK}=".encode()
    marks = [Path(os.fsdecode(text.removeprefix(begin))) for text in variables if text.startswith(begin)]
    return ProcessId.of(pid) if any(mark.is_relative_to(folder) for mark in marks) else None
