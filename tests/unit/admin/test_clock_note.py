"""What `status` says of lanes whose last batch is ahead of the time."""

from datetime import timedelta

from tests.unit.admin.audit.test_balance import lane_state
from tidemill.admin.status import ahead_of
from tidemill.runtime.clock import SystemClock


def test_lanes_that_are_minutes_ahead_are_named_with_the_worst() -> None:
    now = SystemClock().now()
    ahead = [timedelta(days=-400), timedelta(minutes=4), timedelta(minutes=6), timedelta(days=30)]
    lanes = [lane_state(n, position=1, sequence=1, at=now + by) for n, by in enumerate(ahead, start=1)]
    said = ahead_of(lanes, now)
    assert said is not None
    assert "of lanes market-data/2-3 is up to 30 days, 0:00:00 ahead of this machine's clock" in said
    assert ahead_of(lanes[:2], now) is None
