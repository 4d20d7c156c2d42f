"""The rate of reading rows, and the end of work in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from tidemill.archiver.ports import Batch

T = TypeVar("T", bound=Batch)

_PIECES_PER_S: Final = 16
_MIN_BYTES: Final = 64 << 10


class Interrupted(Exception):
    """The copy was told to end; no answer is sent."""


class Pace:
    """Lets batches pass at a rate. Made for one request; `interrupt` may be called from any thread."""

    def __init__(
        self, bytes_per_second: int | None, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`bytes_per_second` None: without limit."""
        self._rate = bytes_per_second
        self._monotonic_s = monotonic_s
        self._interrupted = threading.Event()
        self._free_s = 0.0
        self._moved_s = monotonic_s()
        self.bytes_passed = 0

    @property
    def piece_bytes(self) -> int | None:
        """Return how large a batch should be: many small ones a second, no burst and a long pause. None: any size."""
        return None if self._rate is None else max(self._rate // _PIECES_PER_S, _MIN_BYTES)

    def interrupt(self) -> None:
        """End the copy at its next batch, or in its pause."""
        self._interrupted.set()

    def idle_s(self) -> float:
        """Return for how long nothing passed; below zero in a pause of its own, which is not a fault."""
        return self._monotonic_s() - self._moved_s

    def check(self) -> None:
        """Record progress. Raises `Interrupted` if the copy was told to end."""
        self._moved_s = self._monotonic_s()
        if self._interrupted.is_set():
            raise Interrupted

    def through(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield the batches, none earlier than the rate allows after the ones before it."""
        for batch in batches:
            self._wait(batch.nbytes)
            yield batch
        self.check()

    def _wait(self, size: int) -> None:
        self.check()
        self.bytes_passed += size
        if self._rate is None:
            return
        now = self._monotonic_s()
        start = max(now, self._free_s)
        self._free_s = start + size / self._rate
        self._moved_s = start
        if start > now and self._interrupted.wait(start - now):
            raise Interrupted
