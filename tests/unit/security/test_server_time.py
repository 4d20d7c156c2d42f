"""The server's time is counted on from its last answer, as long as both clocks here agree about what passed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.fakes.journal import MemoryJournal
from tests.support.security.principals import MovedClock
from tests.unit.security.test_journal_writer import PROCESS, intent
from tidemill.domain.errors import Unavailable
from tidemill.security.journal_writer import Journal, JournalLimits
from tidemill.security.server_time import FRESH_S, ServerTime

SERVER = datetime(2026, 12, 1, 9, tzinfo=UTC)


class SetClock(MovedClock):
    """One whose wall time may also be set, or whose monotonic time stands still while the machine sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.set_by


def test_time_passes_as_it_does_here() -> None:
    clock = MovedClock()
    time = ServerTime(clock)
    assert time.current() is None
    assert time.learn(SERVER) == SERVER
    clock.pass_(FRESH_S)
    assert time.current() == SERVER + timedelta(seconds=FRESH_S)
    clock.pass_(0.001)
    assert time.current() is None, "it is asked for again"


def test_it_never_goes_back() -> None:
    clock = MovedClock()
    time = ServerTime(clock)
    time.learn(SERVER)
    clock.pass_(5)
    later = time.current()
    assert later is not None
    assert time.learn(SERVER + timedelta(seconds=4)) == later
    clock.pass_(2)
    assert time.current() == SERVER + timedelta(seconds=6)


def test_a_clock_that_was_set_and_a_machine_that_slept_are_noticed() -> None:
    clock = SetClock()
    time = ServerTime(clock)
    time.learn(SERVER)
    clock.set_by = timedelta(hours=1)
    assert time.current() is None
    time.learn(SERVER)
    clock.set_by = timedelta()
    assert time.current() is None
    time.learn(SERVER)
    time.forget()
    assert time.current() is None


class CountedJournal(MemoryJournal):
    """It counts how often its time is asked for."""

    asked = 0

    async def now(self) -> datetime:
        self.asked += 1
        return await super().now()


async def test_many_entries_ask_once_and_a_failure_asks_again() -> None:
    store, clock = CountedJournal(), MovedClock()
    hasty = JournalLimits(deadline_s=300.0, lazy_s=0.0, fails_at_once=True)
    async with Journal(store, PROCESS, limits=hasty, clock=clock) as ours:
        for number in range(5):
            await ours.intents([intent(number)])
        assert store.asked == 1
        ours.failed(Unavailable("database", "it went away"), begins=True)
        await ours.intents([intent(6)])
        assert store.asked == 2
        clock.pass_(FRESH_S + 1)
        await ours.intents([intent(7)])
    assert store.asked == 3
    at = [row.at for _, row in sorted(store.table.items()) if row.at is not None]
    assert len(at) == len(store.table)
    assert at == sorted(at)
