"""Running the programs that set things up: their output goes to a log, failures show its end."""

import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tidemill_devkit.stack.errors import CommandFailedError, DevstackError
from tidemill_devkit.stack.processes import MARK

TAIL_LINES = 15


def run(
    command: Sequence[str],
    *,
    what: str,
    log: Path,
    folder: Path,
    on_line: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run to the end; raises CommandFailedError with the last lines when the exit code is not 0.

    `folder` is what it works on: should we be killed, the next run finds the orphan by it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    marked = {**(os.environ if environment is None else environment), MARK: str(folder)}
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with log.open("a") as file, _started(command, marked) as process:
        for line in process.stdout or ():
            file.write(line)
            tail.append(line.rstrip())
            if on_line is not None:
                on_line(line.strip())
    if process.returncode != 0:
        raise CommandFailedError(what, process.returncode, log, list(tail))


def _started(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(environment),
    )


def output(command: Sequence[str], *, timeout_s: float = 20.0) -> str | None:
    """What the command prints on stdout and stderr, or None if it fails, hangs or is not there."""
    try:
        completed = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout if completed.returncode == 0 else None


def check(command: Sequence[str], *, timeout_s: float = 20.0) -> None:
    """Run something short that must succeed."""
    if output(command, timeout_s=timeout_s) is None:
        raise DevstackError(f"could not run: {' '.join(command)}")


def log_tail(log: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log, empty if there is none."""
    try:
        return log.read_text(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
