"""Outages, logged when they begin and when they are over, not at each attempt.

An outage affects many pieces of work, repeatedly, for as long as it lasts. The number of log lines must not grow
with that. Counters count the attempts, and `/health` shows the error.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, field

from tidemill.domain.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Over:
    """An outage that is over: how often something failed in it, and how long it lasted."""

    attempts: int
    seconds: float


@dataclass
class _Outage:
    since_s: float
    attempts: int = 0
    work: set[Hashable] = field(default_factory=set)


class Outages:
    """The outages of one service, by kind. `work` names what fails: a call, a slice, the service itself."""

    def __init__(self) -> None:
        """Start without an outage."""
        self._open: dict[str, _Outage] = {}

    def __bool__(self) -> bool:
        """Tell whether there is one."""
        return bool(self._open)

    def failed(self, work: Hashable, error: BaseException | None) -> bool:
        """Record a failed attempt; return whether it begins an outage, which is to be logged."""
        kind = _kind(error)
        begins = kind not in self._open
        outage = self._open.setdefault(kind, _Outage(time.monotonic()))
        outage.attempts += 1
        outage.work.add(work)
        return begins

    def ended(self, work: Hashable) -> list[Over]:
        """Record that `work` no longer fails, or is no longer tried; return the outages that end with that."""
        over = []
        for kind, outage in list(self._open.items()):
            outage.work.discard(work)
            if not outage.work:
                del self._open[kind]
                over.append(Over(outage.attempts, round(time.monotonic() - outage.since_s, 1)))
        return over


def _kind(error: BaseException | None) -> str:
    """Name it without its text, which differs from attempt to attempt."""
    return f"{type(error).__name__} {error.server if isinstance(error, Unavailable) else ''}"
