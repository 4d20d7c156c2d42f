"""Spans of time that may overlap: those of chunks do, once a table's chunk interval was changed. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")


class Ranges(Generic[T]):
    """Things by their span, `start <= time < end`. A look-up costs as much as there are spans around it."""

    def __init__(self, spans: Iterable[tuple[datetime, datetime, T]]) -> None:
        """`spans`: (start, end, thing), in any order."""
        found = sorted(spans, key=lambda each: each[:2])
        self._starts = [start for start, _, _ in found]
        self._ends = [end for _, end, _ in found]
        self._things = [thing for _, _, thing in found]
        self._reach = list(accumulate(self._ends, max))

    def at(self, time: datetime) -> Iterator[T]:
        """Yield what contains an instant, the latest start first."""
        return self._back_to(time, bisect_right(self._starts, time))

    def sharing(self, start: datetime, end: datetime) -> Iterator[T]:
        """Yield what overlaps a span, the latest start first."""
        return self._back_to(start, bisect_left(self._starts, end))

    def _back_to(self, time: datetime, before: int) -> Iterator[T]:
        """Yield from number `before` downwards what ends after `time`; `_reach` tells when nothing more does."""
        for number in range(before - 1, -1, -1):
            if self._reach[number] <= time:
                return
            if self._ends[number] > time:
                yield self._things[number]
