"""How fast rows may be read, and how a copy in a worker thread is told to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from tidemill.archiver.ports import Batch


class Interrupted(Exception):
    """The copy was told to end; nobody is to be answered."""


class Pace:
    """Lets batches pass at a rate. Made for one request; `interrupt` may be called from any thread."""

    def __init__(
        self, bytes_per_second: int | None, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`bytes_per_second` None: as fast as they come."""
        self._rate = bytes_per_second
        self._monotonic_s = monotonic_s
        self._interrupted = threading.Event()
        self._free_s = 0.0
        self.bytes_passed = 0

    def interrupt(self) -> None:
        """End the copy at its next batch, or in its pause."""
        self._interrupted.set()

    def check(self) -> None:
        """Raise `Interrupted` if the copy was told to end."""
        if self._interrupted.is_set():
            raise Interrupted

    def through(self, batches: Iterator[Batch]) -> Iterator[Batch]:
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
        if start > now and self._interrupted.wait(start - now):
            raise Interrupted
