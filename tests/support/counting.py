"""Work that is counted, where a stopwatch would measure the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest


@contextmanager
def counted_calls() -> Iterator[Callable[[], int]]:
    """Count what is called during the block, Python's functions and C's: work, whatever the machine makes of it."""
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(before)


def calls_of(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> Callable[[], int]:
    """Count the calls of a module's function from now on."""
    calls, real = 0, getattr(module, name)

    def counted(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, counted)
    return lambda: calls
