"""Attempts by key: a burst, then one now and then; a flood of keys frees no other."""

from __future__ import annotations

from datetime import UTC, datetime

from tidemill.runtime.rate_limits import RateLimiter


class Hands:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at_s, UTC)

    def monotonic_s(self) -> float:
        return self.at_s


def test_a_key_has_a_burst_and_then_one_for_each_pause() -> None:
    clock = Hands()
    limiter = RateLimiter(clock, burst=2, every_s=10.0)
    assert [limiter.take("ann") for _ in range(3)] == [0.0, 0.0, 10.0]
    clock.at_s += 4.0
    assert limiter.take("ann") == 6.0
    clock.at_s += 6.0
    assert [limiter.take("ann") for _ in range(2)] == [0.0, 10.0]


def test_keys_do_not_limit_each_other_and_a_reset_begins_anew() -> None:
    limiter = RateLimiter(Hands(), burst=1)
    assert limiter.take("ann") == 0.0
    assert limiter.take("ben") == 0.0
    assert limiter.take("ann") > 0.0
    limiter.reset("ann")
    limiter.reset("nobody")
    assert limiter.take("ann") == 0.0


def test_a_bucket_never_holds_more_than_a_burst() -> None:
    clock = Hands()
    limiter = RateLimiter(clock, burst=2, every_s=1.0)
    limiter.take("ann")
    clock.at_s += 1_000.0
    assert [limiter.take("ann") > 0.0 for _ in range(3)] == [False, False, True]


def test_a_flood_of_keys_shares_one_bucket_and_frees_none() -> None:
    clock = Hands()
    limiter = RateLimiter(clock, burst=1, every_s=10.0, max_keys=3)
    assert [limiter.take(key) for key in ("ann", "x1", "x2", "x3", "x4")] == [0.0, 0.0, 0.0, 0.0, 10.0]
    assert limiter.take("ann") == 10.0
    clock.at_s += 10.0
    assert [limiter.take(key) for key in ("x5", "x6", "ann")] == [0.0, 0.0, 0.0]
