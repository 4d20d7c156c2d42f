"""A page that is followed to the letter: its files are written, its commands are typed, what they print is compared.

    **path/of/a/file**        a line of its own, then a block of code: the content of the file
    ```console                a block of commands; below each what it prints, or nothing if that does not matter
    $ command                 which goes on in the next line if it ends with a backslash
    what it prints            `...` stands for any text; on a line of its own for any lines

Blank lines, and white space at the end of a line, are not compared.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import psutil

from tests.support.waiting import HANGING_S

_BLOCK = re.compile(r"(?ms)(?:^\*\*(?P<path>[^*\n]+)\*\*\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$")
_ANY_LINES = "..."


@dataclass(frozen=True)
class File:
    """A file to write."""

    path: str
    text: str


@dataclass
class Command:
    """A command to type, and the lines that it prints; none: whatever it prints."""

    text: str
    printed: list[str] = field(default_factory=list)


def steps(page: str) -> Iterator[File | Command]:
    """Yield what a page tells its reader to do, in order."""
    for block in _BLOCK.finditer(page):
        if block["path"]:
            yield File(block["path"], block["text"])
        elif block["kind"] == "console":
            yield from _commands(block["text"])


def _commands(block: str) -> Iterator[Command]:
    command: Command | None = None
    for line in block.splitlines():
        if line.startswith("$ "):
            if command is not None:
                yield command
            command = Command(line.removeprefix("$ "))
        elif command is not None and command.text.endswith("\\") and not command.printed:
            command.text += f"\n{line}"
        else:
            assert command is not None, f"a block begins with what is printed: {line}"
            command.printed.append(line)
    if command is not None:
        yield command


def agrees(expected: list[str], printed: str) -> bool:
    """Whether a command printed what the page shows."""
    wanted = [line.rstrip() for line in expected if line.strip()]
    return not wanted or _matches(wanted, [line.rstrip() for line in printed.splitlines() if line.strip()])


def _matches(wanted: list[str], lines: list[str]) -> bool:
    if not wanted:
        return not lines
    if wanted[0] == _ANY_LINES:
        return any(_matches(wanted[1:], lines[skipped:]) for skipped in range(len(lines) + 1))
    return bool(lines) and _line_matches(wanted[0], lines[0]) and _matches(wanted[1:], lines[1:])


def _line_matches(wanted: str, line: str) -> bool:
    """A gap takes the white space around it with it: columns are as wide as what stands in them."""
    parts = [re.escape(part.strip()) for part in wanted.split("...")]
    if len(parts) == 1:
        return wanted == line
    return re.fullmatch(r"\s*" + r".*".join(parts), line) is not None


class Shell:
    """One bash for the whole page: folders, variables and jobs stay as the commands before left them."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._code = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it with all the jobs that it still has."""
        for process in psutil.Process(self._bash.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._bash.kill()
        self._bash.wait(HANGING_S)
        for stream in (self._bash.stdin, self._bash.stdout):
            assert stream is not None
            stream.close()

    def folder(self) -> Path:
        """Where it is."""
        return Path(self.type("pwd")[1].strip())

    def type(self, command: str, timeout_s: float = HANGING_S) -> tuple[int, str]:
        """Type a command; return its exit code and what it and the jobs in the background print meanwhile."""
        mark = uuid4().hex
        assert self._bash.stdin is not None
        before = f"(exit {self._code})\n"  # so that `echo $?` tells of the command before
        self._bash.stdin.write(f"{before}{command}\necho {mark} $?\n".encode())
        self._bash.stdin.flush()
        output, code, _ = self._read_until(re.compile(rf"{mark} (\d+)\n"), timeout_s)
        self._code = int(code)
        return self._code, output

    def _read_until(self, mark: re.Pattern[str], timeout_s: float) -> list[str]:
        assert self._bash.stdout is not None
        deadline_s, read = time.monotonic() + timeout_s, b""
        while not (found := mark.split(read.decode(errors="replace"), maxsplit=1))[1:]:
            ready, _, _ = select.select([self._bash.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
            chunk = os.read(self._bash.stdout.fileno(), 65_536) if ready else b""
            assert chunk, f"not within {timeout_s} s, or the shell is gone; so far: {read.decode()}"
            read += chunk
        return found
