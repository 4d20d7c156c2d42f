"""Telling a person what is going on: live lines on a terminal, plain ones elsewhere (CI, a pipe)."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class StackProgress(Protocol):
    """Called from several threads at once, one per server."""

    def step(self, server: str, text: str) -> None:
        """`server` has begun something that takes a while."""

    def detail(self, server: str, text: str) -> None:
        """A passing remark within the step, worth showing only where it can be overwritten."""

    def done(self, server: str, text: str) -> None:
        """`server` is where it should be."""


class SilentProgress:
    """Says nothing."""

    def step(self, server: str, text: str) -> None: ...

    def detail(self, server: str, text: str) -> None: ...

    def done(self, server: str, text: str) -> None: ...


class PlainLines:
    """One line per step, with the seconds since the start."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._started = time.monotonic()

    def step(self, server: str, text: str) -> None:
        elapsed_s = time.monotonic() - self._started
        # one write: several servers speak at once
        self._out.write(f"{elapsed_s:6.1f} s  {server:<9} {text}\n")
        self._out.flush()

    def detail(self, server: str, text: str) -> None:
        """Left out: it would fill a log with thousands of lines."""

    def done(self, server: str, text: str) -> None:
        self.step(server, text)


class LiveRows:
    """One row per server, with a spinner while it works."""

    def __init__(self, rows: RichProgress) -> None:
        self._rows = rows
        self._tasks: dict[str, TaskID] = {}
        self._steps: dict[str, str] = {}

    def step(self, server: str, text: str) -> None:
        self._steps[server] = text
        self._rows.update(self._task(server), description=text, remark="")

    def detail(self, server: str, text: str) -> None:
        self._rows.update(self._task(server), remark=text[:60])

    def done(self, server: str, text: str) -> None:
        self._rows.update(self._task(server), description=text, remark="", completed=1)

    def _task(self, server: str) -> TaskID:
        if server not in self._tasks:
            self._tasks[server] = self._rows.add_task("", total=1, server=server, remark="")
        return self._tasks[server]


@contextmanager
def shown(out: TextIO | None = None) -> Iterator[StackProgress]:
    """Progress on `out` (stderr by default, so that stdout stays for results)."""
    stream = sys.stderr if out is None else out
    console = Console(file=stream)
    if not console.is_terminal:
        yield PlainLines(stream)
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.fields[server]:<9}", markup=False),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remark]}", style="dim", markup=False),
    )
    with RichProgress(*columns, console=console) as rows:
        yield LiveRows(rows)
