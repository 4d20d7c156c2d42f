"""Rules that need the clock: facts that are too old or in the future are refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tidemill.api import Rejected
from tidemill.contexts.market_data.messages import RecordMarketData


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Which times are accepted: from `since` on, and at most `ahead` of the server's clock.

    Every year of the window may become a chunk of the hypertable; a clock that is ahead by minutes is
    wrong.
    """

    since: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    ahead: timedelta = timedelta(minutes=5)

    def check(self, command: RecordMarketData, now: datetime) -> Rejected | None:
        """Return why the command's time is outside the window, or None."""
        if command.time < self.since:
            return _refused(command.time, f"before {self.since.isoformat()}, the earliest accepted time")
        if command.time > now + self.ahead:
            return _refused(
                command.time,
                f"more than {self.ahead.total_seconds():.0f} s ahead of the server's {now.isoformat()}",
            )
        return None


def _refused(time: datetime, where: str) -> Rejected:
    return Rejected("INVALID", f"time {time.isoformat()} is {where}")
