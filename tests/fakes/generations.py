"""The generations of a log in memory: obeys the same conformance suite as the real ones."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from datetime import datetime, timedelta

from tests.fakes.commands import MemoryCommandStore
from tidemill.runtime.clock import SystemClock

AGREED = timedelta(hours=6)


class MemoryGenerations:
    """`Generations` of a `MemoryCommandStore`. `faults`: one for each of the next rolls. `asked`: calls by method.

    `build_faults`: one for each of the next times that filters are built.
    """

    def __init__(self, store: MemoryCommandStore, faults: Iterable[Exception] = ()) -> None:
        self.faults = deque(faults)
        self.build_faults = deque[Exception]()
        self.asked: Counter[str] = Counter()
        self._store = store
        self._clock = SystemClock()
        self._opened = self._clock.now()
        self._closed: dict[int, datetime] = {}
        self._opened_before: dict[int, datetime] = {}
        self._built: set[int] = set()

    async def roll_if_due(self, *, max_age: timedelta, max_ids: int) -> int | None:
        self.asked["roll_if_due"] += 1
        if self.faults:
            raise self.faults.popleft()
        now, gen = self._clock.now(), self._store.gen
        rows = self._store.tables.log[gen]
        ids = sum(row.command_id is not None for row in rows)
        if not rows or (abs(now - self._opened) < max_age and ids < max_ids):
            return None
        self._store.roll()
        self._opened_before[gen] = self._opened
        self._closed[gen], self._opened = now, now
        return self._store.gen

    async def build_filters(self) -> list[int]:
        self.asked["build_filters"] += 1
        if self.build_faults:
            raise self.build_faults.popleft()
        missing = sorted(self._closed.keys() - self._built)
        self._built.update(missing)
        return missing

    async def load_filters(self) -> None:
        self.asked["load_filters"] += 1

    async def drop_expired(self, horizon: timedelta) -> list[int]:
        self.asked["drop_expired"] += 1
        now, held = self._clock.now(), self._store.tables.log
        opened = [*self._opened_before.values(), self._opened]
        expired = []
        for gen, closed_at in sorted(self._closed.items()):
            agreed = [at for at in opened if closed_at + horizon <= at <= now - min(AGREED, horizon / 4)]
            if gen in held and closed_at < now - horizon and agreed:
                expired.append(gen)
                del held[gen]
        return expired

    def jump(self, time: timedelta) -> None:
        """Let the clock jump ahead: what was written down is as much older."""
        self._opened -= time
        self._opened_before = {gen: at - time for gen, at in self._opened_before.items()}
        self._closed = {gen: at - time for gen, at in self._closed.items()}
