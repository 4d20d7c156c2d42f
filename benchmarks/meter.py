"""What a hop took: wall time, CPU of the processes that did it, CPU of PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import psutil


@dataclass(frozen=True)
class Reading:
    """A measured hop: records, seconds, CPU microseconds per record of our side and of PostgreSQL."""

    records: int
    seconds: float
    own_us: float
    postgres_us: float

    @property
    def rate(self) -> float:
        """Return records per second."""
        return self.records / self.seconds

    def as_dict(self) -> dict[str, float]:
        """Return all of it as plain numbers."""
        return asdict(self) | {"rate": self.rate}


class Meter:
    """Measures from its making to `read`.

    `backend`: the pid of any backend of the server, whose parent is the postmaster. `own`: pids of our processes, whose
    children count as theirs; those of this very process do not, since it may have started the servers.
    """

    def __init__(self, backend: int, own: Iterable[int]) -> None:
        self._postmaster = psutil.Process(psutil.Process(backend).ppid())
        self._own = [psutil.Process(pid) for pid in own]
        self._postgres_s = _family_s(self._postmaster, itself=False)
        self._own_s = self._own_now_s()
        self._began = time.perf_counter()

    def read(self, records: int) -> Reading:
        """Return what `records` took so far."""
        seconds = time.perf_counter() - self._began
        own_s = self._own_now_s() - self._own_s
        postgres_s = _family_s(self._postmaster, itself=False) - self._postgres_s
        return Reading(records, seconds, own_s / records * 1e6, postgres_s / records * 1e6)

    def _own_now_s(self) -> float:
        return sum(_cpu_s(own) if own.pid == os.getpid() else _family_s(own) for own in self._own)


def _family_s(parent: psutil.Process, *, itself: bool = True) -> float:
    """Return the CPU seconds of a process and its children; those that have ended are counted by their parent."""
    try:
        ended = parent.cpu_times()
        living = sum(_cpu_s(child) for child in parent.children(recursive=True))
    except psutil.NoSuchProcess:
        return 0.0
    own = _cpu_s(parent) if itself else 0.0
    return float(own + ended.children_user + ended.children_system + living)


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
