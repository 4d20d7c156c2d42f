"""What becomes of a clock that was wrong once: nothing that lasts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from structlog.testing import capture_logs

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.commands import Harness, base, outcomes, uuid7
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.context import AppendSpec
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock

TICKS = Stream.of(replace(market_data, partitions=3, keyed=False))
PROFILES = Stream.of(replace(connector_profiles, partitions=3))
MONTH = timedelta(days=30)


async def wrong_once(stream: Stream, ahead: timedelta) -> tuple[Harness, MemoryCommandStore, datetime]:
    """Return a stream whose first lane has committed a batch while the clock was `ahead`, and that time."""
    store = MemoryCommandStore(stream)
    harness = Harness(stream, store)
    await harness.claim()
    wrong = SystemClock().now() + ahead
    store.lanes[1].progress = replace(store.lanes[1].progress, at=wrong)
    return harness, store, wrong


def tick(**fields: Any) -> RecordMarketData:
    time = datetime(2013, 3, 1, tzinfo=UTC)
    return RecordMarketData(**base(symbol="AAPL", time=time, price=1.0, source="test", **fields))


async def test_no_command_of_today_is_stale_and_the_next_batch_has_the_right_time() -> None:
    harness, store, _ = await wrong_once(TICKS, MONTH)
    commands = [tick(command_id=uuid7(SystemClock().now())) for _ in range(6)]
    records = [harness.topic.record(each, partition=at % 3, key=b"k") for at, each in enumerate(commands)]
    with capture_logs() as lines:
        assert outcomes(await harness.apply(*records)) == {"applied": 6}
    assert all(row.at < SystemClock().now() for row in store.tables.ledger)
    (told,) = [line for line in lines if line["event"] == "time_was_ahead"]
    assert (told["lanes"], round(told["seconds"])) == ("market-data/0", MONTH.total_seconds())
    with capture_logs() as lines:
        await harness.send(tick())
    assert lines == []


async def test_a_rule_judges_by_the_clock_and_what_is_stored_is_never_before_the_lanes_last_batch() -> None:
    """State and event have the same time, or a rebuild would give other rows."""
    judged: list[datetime] = []

    def check(command: Any, at: datetime) -> None:
        del command
        judged.append(at)

    commands = {
        name: replace(spec, check=check) if isinstance(spec, AppendSpec) else spec
        for name, spec in TICKS.commands.items()
    }
    soon = timedelta(minutes=2)
    harness, store, ahead = await wrong_once(replace(TICKS, commands=commands), soon)
    await harness.apply(*(harness.topic.record(tick(), partition=at, key=b"k") for at in range(3)))
    now = SystemClock().now()
    assert max(judged) <= now
    assert [row.at == ahead for row in store.tables.outbox] == [True, False, False]

    profiles, store, ahead = await wrong_once(PROFILES, soon)
    await profiles.send(
        *(
            RegisterConnectorProfile(**base(profile_id=f"p{at}", name=f"n{at}", profile_data="{}"))
            for at in range(9)
        )
    )
    times = {row.key.decode(): row.at for row in store.tables.outbox if row.key}
    states = store.tables.states["connector_profiles"]
    assert {key: state.updated_at for key, state in states.items()} == times
    assert {row.at == ahead for row in store.tables.outbox if row.lane == 1} == {True}
    assert {row.at <= now + soon for row in store.tables.outbox if row.lane != 1} == {True}
