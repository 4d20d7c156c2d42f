"""How fast batches pass."""

from __future__ import annotations

from itertools import repeat

import pytest

from tests.fakes.archiver import Rows
from tidemill.archiver.read_pace import Interrupted, Pace

TEN = Rows(((1,),) * 10)  # 1000 bytes


class Watch:
    """A clock that only the pauses of a pace move; it counts them."""

    def __init__(self) -> None:
        self.now_s, self.pauses = 100.0, 0

    def pace(self, bytes_per_second: int | None) -> Pace:
        pace = Pace(bytes_per_second, monotonic_s=lambda: self.now_s)
        pace._interrupted.wait = self._pause  # type: ignore[method-assign]
        return pace

    def _pause(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now_s += timeout
        self.pauses += 1
        return False


def test_without_a_rate_nothing_waits() -> None:
    watch = Watch()
    pace = watch.pace(None)
    assert len(list(pace.through(iter([TEN] * 100)))) == 100
    assert watch.pauses == 0
    assert pace.bytes_passed == 100_000


def test_bytes_pass_at_the_rate_and_no_faster() -> None:
    watch = Watch()
    assert len(list(watch.pace(20_000).through(iter([TEN] * 11)))) == 11
    # the last batch has nothing behind it to wait for
    assert watch.pauses == 10
    assert watch.now_s == pytest.approx(100.5)


def test_a_request_of_several_chunks_has_one_rate() -> None:
    watch = Watch()
    pace = watch.pace(20_000)
    for _ in range(11):
        assert len(list(pace.through(iter([TEN])))) == 1
    assert watch.pauses == 10
    assert watch.now_s == pytest.approx(100.5)


def test_time_that_was_not_used_is_not_saved_up() -> None:
    watch = Watch()
    passing = watch.pace(1_000_000).through(repeat(TEN))
    next(passing)
    watch.now_s += 3_600
    next(passing)
    assert watch.pauses == 0
    next(passing)
    assert watch.pauses == 1
    assert watch.now_s == pytest.approx(3_700.001)


def test_what_is_held_back_comes_in_small_pieces() -> None:
    assert Pace(None).piece_bytes is None
    assert Pace(16 << 20).piece_bytes == 1 << 20
    assert Pace(1).piece_bytes == 64 << 10  # each one costs something too


def test_what_is_interrupted_ends() -> None:
    pace = Pace(1)
    passing = pace.through(repeat(TEN))
    next(passing)
    pace.interrupt()
    with pytest.raises(Interrupted):
        next(passing)
    with pytest.raises(Interrupted):
        list(pace.through(iter(())))
    with pytest.raises(Interrupted):
        pace.check()


def test_what_passes_or_is_checked_is_progress_and_a_pause_is_no_stall() -> None:
    now = [100.0]
    pace = Pace(1_000, monotonic_s=lambda: now[0])
    assert pace.idle_s() == 0
    now[0] += 5
    assert pace.idle_s() == 5
    pace.check()
    assert pace.idle_s() == 0
    passing = pace.through(iter([TEN]))
    next(passing)  # the next batch may pass in a second
    now[0] += 0.25
    pace.interrupt()
    with pytest.raises(Interrupted):
        next(pace.through(iter([TEN])))
    assert pace.idle_s() == 0
