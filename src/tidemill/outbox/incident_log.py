"""Incidents of the relays of a process, logged by kind: an outage affects every lane, repeatedly.

A line for each attempt of each lane would flood the log with one fact. Here a kind of incident is logged when it
begins, with all its lanes, and when it is over, with its number of failures.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import Lane, lane_spans
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger

_log = logger(__name__)


@dataclass
class _Incident:
    """One lane's. `kinds`: what it failed with so far."""

    since_s: float
    failures: int = 0
    kinds: set[str] = field(default_factory=set)


@dataclass
class _Struck:
    """Lanes with a new kind of incident, and the error of the first of them."""

    reason: str
    lanes: set[Lane] = field(default_factory=set)


@dataclass
class _Recovered:
    """Lanes whose incident is over. `failures`: of all; `after_s`: the longest."""

    lanes: set[Lane] = field(default_factory=set)
    failures: int = 0
    after_s: float = 0.0


class IncidentLog:
    """The incidents of lanes that end in the same way. `began`: their log event."""

    def __init__(self, began: Log) -> None:
        self._began = began
        self._open: dict[Lane, _Incident] = {}
        self._struck: dict[str, _Struck] = {}
        self._recovered = _Recovered()

    def failed(self, lane: Lane, error: Exception) -> bool:
        """Record a failed attempt; return whether it is the lane's first one of its kind."""
        incident = self._open.setdefault(lane, _Incident(time.monotonic()))
        incident.failures += 1
        kind = _kind(error)
        if kind in incident.kinds:
            return False
        incident.kinds.add(kind)
        self._struck.setdefault(kind, _Struck(str(error))).lanes.add(lane)
        return True

    def over(self, lane: Lane) -> None:
        """Record that what failed before has succeeded."""
        incident = self._open.pop(lane, None)
        if incident is not None:
            recovered = self._recovered
            recovered.lanes.add(lane)
            recovered.failures += incident.failures
            recovered.after_s = max(recovered.after_s, time.monotonic() - incident.since_s)

    def forget(self, lane: Lane) -> None:
        """Forget a lane: its next owner reports how it continues."""
        self._open.pop(lane, None)

    def tell(self) -> None:
        """Write a line for each kind of incident that began since the last call, and one for all that are over."""
        struck, self._struck = self._struck, {}
        recovered, self._recovered = self._recovered, _Recovered()
        for each in struck.values():
            _log.warning(self._began, lanes=lane_spans(each.lanes), reason=each.reason)
        if recovered.lanes:
            _log.info(
                Log.RELAY_RECOVERED,
                lanes=lane_spans(recovered.lanes),
                after=str(self._began),
                failures=recovered.failures,
                seconds=round(recovered.after_s, 1),
            )


def _kind(error: Exception) -> str:
    """Name it without its text, which may be specific to the lane."""
    return f"{type(error).__name__} {error.server if isinstance(error, Unavailable) else ''}"
