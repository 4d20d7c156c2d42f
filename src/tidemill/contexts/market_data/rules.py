"""What only the clock can refuse: facts that are too old or not yet true."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tidemill.api import Rejected
from tidemill.contexts.market_data.messages import RecordMarketData


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Which times are accepted: from `since` on, and at most `ahead` of the server's clock.

    Every year that the window reaches back may become a chunk of the hypertable; clocks that are ahead by minutes are
    wrong, not prophetic.
    """

    since: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    ahead: timedelta = timedelta(minutes=5)

    def check(self, command: RecordMarketData, now: datetime) -> Rejected | None:
        """Return why the command's time is outside the window, or None."""
        if command.time < self.since:
            return _refused(
                command.time, f"before {self.since.isoformat()}, the earliest time that is accepted"
            )
        if command.time > now + self.ahead:
            return _refused(
                command.time,
                f"more than {self.ahead.total_seconds():.0f} s ahead of the server's {now.isoformat()}",
            )
        return None


def _refused(time: datetime, where: str) -> Rejected:
    return Rejected("INVALID", f"time {time.isoformat()} lies {where}")
