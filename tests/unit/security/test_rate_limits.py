"""A principal may spend its units at once or evenly, and never more of them than have come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.security.principals import MovedClock
from tidemill.security.rate_limits import UnitLimiter


def test_a_window_may_be_spent_at_once_and_then_what_comes() -> None:
    clock = MovedClock()
    limiter = UnitLimiter(clock)
    assert limiter.spend("a", 6_000).is_granted
    refused = limiter.spend("a", 50)
    assert (refused.is_granted, refused.left, refused.retry_after_s, refused.reset_s) == (False, 0, 0.5, 60.0)
    clock.pass_(0.5)
    assert limiter.spend("a", 50).is_granted


def test_each_principal_has_its_own() -> None:
    limiter = UnitLimiter(MovedClock())
    assert limiter.spend("a", 6_000).is_granted
    assert limiter.spend("b", 1).left == 5_999


def test_what_is_refused_costs_nothing() -> None:
    limiter = UnitLimiter(MovedClock(), per_s=1, window_s=10)
    limiter.spend("a", 8)
    for _ in range(5):
        assert not limiter.spend("a", 3).is_granted
    assert limiter.spend("a", 2).is_granted


def test_a_request_above_the_whole_bucket_is_served_from_a_full_one_and_owed() -> None:
    clock = MovedClock()
    limiter = UnitLimiter(clock, per_s=1, window_s=10)
    assert limiter.spend("a", 30).is_granted
    assert limiter.spend("a", 1).retry_after_s == 21
    clock.pass_(21)
    assert limiter.spend("a", 1).is_granted


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 40)), max_size=50))
def test_never_more_is_spent_than_has_come(requests: list[tuple[float, int]]) -> None:
    clock = MovedClock()
    limiter = UnitLimiter(clock, per_s=10, window_s=4)
    spent = passed = 0.0
    for seconds, units in requests:
        clock.pass_(seconds)
        passed += seconds
        allowance = limiter.spend("a", units)
        spent += units if allowance.is_granted else 0
        assert spent <= 40 + passed * 10 + 1e-3
        assert 0 <= allowance.retry_after_s <= 4


@given(st.floats(0, 4), st.integers(1, 40))
def test_after_the_told_time_it_is_granted(before_s: float, units: int) -> None:
    clock = MovedClock()
    limiter = UnitLimiter(clock, per_s=10, window_s=4)
    limiter.spend("a", 40)
    clock.pass_(before_s)
    allowance = limiter.spend("a", units)
    if not allowance.is_granted:
        clock.pass_(allowance.retry_after_s + 1e-5)
        assert limiter.spend("a", units).is_granted
