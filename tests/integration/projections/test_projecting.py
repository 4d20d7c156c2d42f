"""The projector on Kafka and TimescaleDB."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from random import Random
from typing import Any

import asyncpg
import pytest

from tests.support.engine.market import LANES, NOON, Market, random_ticks, tick
from tests.support.engine.projections import Running
from tidemill.contexts.market_data.read_models import daily_bars, latest_quotes
from tidemill.domain.messages import ReadModelBase
from tidemill.domain.projection import Key, Projection, Recorded
from tidemill.projections import halts
from tidemill.projections.fold import fold, keyed
from tidemill.transport.kafka.client.client import transactional_producer
from tidemill.transport.kafka.client.close import kill

QUOTES, BARS = latest_quotes.name, daily_bars.name


async def caught_up(running: Running, market: Market) -> None:
    for name in (QUOTES, BARS):
        await running.reaches(market.ends(), name)


def expected(market: Market, projection: Projection) -> list[dict[str, Any]]:
    """The rows that the events make when they are folded one by one, lane after lane."""
    rows: dict[Key, ReadModelBase] = {}
    for records in market.told.values():
        for record in records:
            event: Recorded[Any] = record
            touches = keyed(projection, [event])
            changes = fold(projection, touches, {key: rows[key] for key, _, _ in touches if key in rows})
            for row in [*changes.new, *changes.changed]:
                rows[tuple(getattr(row, name) for name in projection.key_columns)] = row
    names = [column.name for column in projection.table.columns]
    return [{name: getattr(row, name) for name in names} for row in rows.values()]


def sorted_by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: int(row["id"]))


async def test_late_ticks_of_many_lanes_make_the_rows_that_they_should(market: Market) -> None:
    random = Random(7)
    async with market.running() as running:
        for _ in range(5):
            for lane in random.sample(range(LANES), LANES):
                await market.tell(lane, *random_ticks(random, random.randrange(1, 200)))
        await caught_up(running, market)
    for projection, table in ((latest_quotes, "latest_quotes"), (daily_bars, "daily_bars")):
        assert sorted_by_id(await market.rows(table)) == sorted_by_id(expected(market, projection))


async def test_a_backlog_is_folded_in_few_transactions(market: Market) -> None:
    for lane in range(LANES):
        await market.tell(lane, *random_ticks(Random(lane), 2_000))
    async with market.running() as running:
        await caught_up(running, market)
    (counted,) = await market.rows("(select sum(version) as events from latest_quotes) counted")
    assert counted["events"] == LANES * 2_000


async def test_a_repeat_is_dropped_a_gap_halts_its_lane_and_heals(market: Market) -> None:
    ticks = {number: tick("AAPL", number, minutes=number) for number in (1, 2, 3, 4)}
    await market.publish(0, [(number, ticks[number]) for number in (1, 2, 1, 4)])
    await market.tell(1, tick("IBM", 7))
    async with market.running() as running:
        assert await running.halts(halts.GAP, 0, QUOTES) == "expected 3, got 4"
        await running.reaches({0: 2, 1: 1}, QUOTES)
        (halt,) = await market.rows(f"tm.projection_halt where projection = '{QUOTES}'")
        assert (halt["partition"], halt["expected"], halt["got"]) == (0, 3, 4)
        (quote,) = await market.rows("latest_quotes where symbol = 'AAPL'")
        assert (quote["price"], quote["version"]) == (2, 2)
        await market.publish(0, [(number, ticks[number]) for number in (3, 4)])
        await running.reaches({0: 4}, QUOTES)
        await running.reaches({0: 4}, BARS)
    (quote,) = await market.rows("latest_quotes where symbol = 'AAPL'")
    assert (quote["price"], quote["version"]) == (4, 4)
    assert await market.rows("tm.projection_halt") == []


async def test_markers_of_transactions_leave_holes_in_the_offsets(market: Market) -> None:
    plain, name = market.producer, market.stream.topics.events
    market.producer = transactional_producer(
        market.connection, transactional_id=name, transaction_timeout_ms=10_000, batch_bytes=200_000
    )
    await market.producer.start()
    async with market.running() as running:
        for price in (1, 2, 3):
            async with market.producer.transaction():
                await market.tell(0, tick("AAPL", price, minutes=price))
        await caught_up(running, market)
    await kill(market.producer)
    market.producer = plain
    (checkpoint,) = await market.rows(f"tm.checkpoint where projection = '{QUOTES}' and partition = 0")
    assert (checkpoint["sequence"], checkpoint["next_offset"]) == (3, 5)
    async with market.running() as again:  # finds its last event where the checkpoint says
        await market.tell(0, tick("AAPL", 4, minutes=4))
        await caught_up(again, market)


async def test_a_topic_that_was_created_again_halts(market: Market) -> None:
    await market.tell(0, *random_ticks(Random(1), 3))
    await market.tell(1, *random_ticks(Random(1), 3))
    async with market.running() as running:
        await caught_up(running, market)
    # three events, and one more offset where a producer had to repeat itself
    (held,) = await market.rows(f"tm.checkpoint where projection = '{QUOTES}' and partition = 0")
    await market.create_topics_again()
    market.told.clear()
    await market.tell(0, tick("AAPL", 1))
    await market.publish(1, [(number, tick("AAPL", 1)) for number in (1, 2, 9, 4)])
    async with market.running() as again:
        assert f"offset {held['next_offset']}" in await again.halts(halts.OFFSET_LOST, 0, QUOTES)
        assert "the topic now has event 9 at offset 2" in await again.halts(halts.TOPIC_CHANGED, 1, QUOTES)


async def test_when_the_database_cuts_all_connections_nothing_is_lost_or_doubled(market: Market) -> None:
    random = Random(3)
    async with market.running(max_events=50) as running:
        for _ in range(6):
            for lane in range(LANES):
                await market.tell(lane, *random_ticks(random, 60))
            await terminate_others(market)
        await caught_up(running, market)
    assert sorted_by_id(await market.rows("daily_bars")) == sorted_by_id(expected(market, daily_bars))


async def terminate_others(market: Market) -> None:
    async with market.pool.acquire() as borrowed:
        await borrowed.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )


async def test_two_projectors_at_once_fold_every_event_once(market: Market) -> None:
    random = Random(4)
    async with market.running(max_events=20) as first, market.running(max_events=20) as second:
        for _ in range(15):
            for lane in range(LANES):
                await market.tell(lane, *random_ticks(random, 8))
        await caught_up(first, market)
        await caught_up(second, market)
    assert sorted_by_id(await market.rows("daily_bars")) == sorted_by_id(expected(market, daily_bars))


async def test_a_projector_that_ends_in_the_middle_leaves_whole_batches(market: Market) -> None:
    for lane in range(LANES):
        await market.tell(lane, *random_ticks(Random(lane), 400))
    folded = 0
    for _ in range(40):
        running = market.running(max_events=25)
        async with running:
            await running.until(lambda: sum(running.sequences(QUOTES).values()) > folded, "some more")  # noqa: B023  used up at once
            assert running.task is not None
            running.task.cancel()
            await asyncio.wait({running.task})
            running.task = None
        (state,) = await market.rows(
            f"(select (select sum(version) from latest_quotes) as events, sum(sequence) as sequences "
            f"from tm.checkpoint where projection = '{QUOTES}') state"
        )
        assert state["events"] == state["sequences"]
        folded = int(state["sequences"])
        if folded == LANES * 400:
            break
    async with market.running() as running:
        await caught_up(running, market)
    assert sorted_by_id(await market.rows("daily_bars")) == sorted_by_id(expected(market, daily_bars))


async def test_a_row_that_the_database_refuses_stops_its_projection_only(market: Market) -> None:
    await market.pool.execute("alter table latest_quotes add constraint cheap check (price < 1000)")
    await market.tell(0, tick("AAPL", 5))
    await market.tell(2, tick("IBM", 5_000))
    async with market.running() as running:
        await running.until(lambda: running.status(QUOTES).error, "it is stopped")
        await running.reaches(market.ends(), BARS)
        assert "cheap" in str(running.status(QUOTES).error)
    (halt,) = await market.rows("tm.projection_halt")
    assert halt["code"] == halts.STOPPED
    await market.pool.execute("alter table latest_quotes drop constraint cheap")
    async with market.running() as running:
        await caught_up(running, market)
    assert await market.rows("tm.projection_halt") == []


async def test_a_read_model_whose_table_misfits_is_said_and_goes_on_when_it_is_mended(market: Market) -> None:
    await market.pool.execute("alter table latest_quotes rename to elsewhere")
    await market.tell(0, tick("AAPL", 5))
    async with market.running() as running:
        await running.reaches(market.ends(), BARS)
        assert running.status(QUOTES).misfit == "public.latest_quotes: the table is missing"
        await market.pool.execute("alter table elsewhere rename to latest_quotes")
        await running.reaches(market.ends(), QUOTES)
        assert running.status(QUOTES).misfit is None


async def test_a_column_that_nobody_fills_stops_no_projection_for_good(market: Market) -> None:
    await market.tell(0, tick("AAPL", 5))
    async with market.running() as running:
        await running.reaches(market.ends(), QUOTES)
        await market.pool.execute("alter table latest_quotes add column more int not null default 1")
        await market.pool.execute("alter table latest_quotes alter column more drop default")
        await market.tell(2, tick("IBM", 6))
        await running.until(lambda: running.status(QUOTES).misfit, "it stands")
        assert "column more is NOT NULL without a default" in str(running.status(QUOTES).misfit)
        await market.pool.execute("alter table latest_quotes alter column more set default 2")
        await running.reaches(market.ends(), QUOTES)
    assert await market.rows("tm.projection_halt") == []


async def test_a_lone_event_needs_no_company(market: Market) -> None:
    async with market.running() as running:
        await market.tell(0, tick("AAPL", 1))
        await caught_up(running, market)
        for price in range(2, 12):
            await market.tell(0, tick("AAPL", price, minutes=price))
            await caught_up(running, market)


async def test_times_are_those_of_the_events(market: Market) -> None:
    await market.tell(0, tick("AAPL", 1), tick("AAPL", 2))
    async with market.running() as running:
        await caught_up(running, market)
    (quote,) = await market.rows("latest_quotes")
    assert quote["created_at"] == datetime(2026, 3, 20, 12, 0, 1, tzinfo=UTC)
    assert (quote["updated_at"] - NOON).total_seconds() == 2


async def test_the_stream_of_another_projection_of_that_name_is_refused(market: Market) -> None:
    await market.pool.execute("insert into tm.projection values ($1, 'goods', 1, 'public.goods')", QUOTES)
    await market.tell(0, tick("AAPL", 1))
    async with market.running() as running:
        await running.reaches(market.ends(), BARS)
        assert "is recorded for goods" in str(running.status(QUOTES).error)


async def test_a_projector_waits_for_rows_that_somebody_locks(market: Market, database: str) -> None:
    await market.tell(0, tick("AAPL", 1))
    async with market.running() as running:
        await caught_up(running, market)
        other = await asyncpg.connect(database)
        async with other.transaction():
            await other.execute("select from latest_quotes for update")
            await market.tell(0, tick("AAPL", 2, minutes=1))
            await running.reaches(market.ends(), BARS)
            assert running.sequences(QUOTES)[0] == 1
        await other.close()
        await caught_up(running, market)


@pytest.mark.parametrize("seed", range(3))
async def test_any_shuffle_of_lanes_makes_the_same_rows(market: Market, seed: int) -> None:
    """Whichever order the lanes' batches come in, the rows are those of the events, lane after lane."""
    random = Random(seed)
    parts = {lane: random_ticks(Random(lane), 120) for lane in range(LANES)}
    async with market.running(max_events=random.randrange(5, 60)) as running:
        while any(parts.values()):
            lane = random.choice([lane for lane, left in parts.items() if left])
            size = random.randrange(1, 40)
            some, parts[lane] = parts[lane][:size], parts[lane][size:]
            await market.tell(lane, *some)
        await caught_up(running, market)
    for projection, table in ((latest_quotes, "latest_quotes"), (daily_bars, "daily_bars")):
        assert sorted_by_id(await market.rows(table)) == sorted_by_id(expected(market, projection))
