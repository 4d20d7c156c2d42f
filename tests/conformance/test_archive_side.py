"""What the archive asks of every `CommandStore`: `ClosedRanges`, late rows, orders; of fake and real one alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.commands import Harness, base, codes, create_lanes, outcomes
from tests.support.engine.streams import messages_of
from tidemill.commands.decide_fold import EncodedEvent
from tidemill.commands.internal_commands import InternalCommand, InternalCommandWriter
from tidemill.commands.ports import ClosedRange, CommandStore
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.archive.policy import LateRule
from tidemill.domain.errors import Fenced, LaneHalted, NotCompared, TransientError
from tidemill.domain.lane import NO_OFFSET, Claim
from tidemill.domain.stream import Stream
from tidemill.outbox.ports import OutboxItem
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import GenerationStore
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.transport.avro.outcome import AvroOutcomeCodec

CONTEXT = replace(market_data, partitions=1)
TICKS = Stream.of(CONTEXT)
assert CONTEXT.retention is not None
REFUSING = replace(TICKS, retention=replace(CONTEXT.retention, late=LateRule.REJECT))
JUNE = ClosedRange(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
SEPTEMBER = ClosedRange(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))

Rows = Callable[[], Coroutine[Any, Any, list[datetime]]]


@dataclass
class Subject:
    """A store, how its ranges are closed, and what its tables hold: times of rows, in order.

    `forget`: restores it to how it was after so many batches, as far as the ledger goes.
    """

    store: CommandStore
    close: Callable[[ClosedRange], Coroutine[Any, Any, None]]
    hot: Rows
    late: Rows
    forget: Callable[[int], Coroutine[Any, Any, None]]


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield _in_memory(MemoryCommandStore(TICKS))
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        await create_lanes(connection, TICKS)
    yield _on_timescaledb(pool)
    await close_pool(pool)


def _in_memory(store: MemoryCommandStore) -> Subject:
    async def close(closed: ClosedRange) -> None:
        store.closed.append(closed)

    async def hot() -> list[datetime]:
        return sorted(row[0] for row in store.tables.appended.get("market_data", []))

    async def late() -> list[datetime]:
        return sorted(row[0] for row in store.tables.late.get("market_data", []))

    async def forget(batch: int) -> None:
        (row,) = [each for each in store.tables.ledger if each.batch == batch]
        (held,) = store.lanes.values()
        held.progress = replace(held.progress, batch=row.batch, position=row.position, sequence=row.sequence)

    return Subject(store, close, hot, late, forget)


def _on_timescaledb(pool: Any) -> Subject:
    async def close(closed: ClosedRange) -> None:
        await pool.execute(
            """
            insert into tm.archive (table_name, range_start, range_end, generation, state, closed, since, source, chunk,
                                    size_bytes, columns, seal, attempt, superseded)
            values ('public.market_data', $1, $2, 1, 'sealed', true, now(), 'chunk', 'c', 0, '[]', 1, 0, '{}')
            """,
            *closed,
        )

    async def times(table: str) -> list[datetime]:
        return [row[0] for row in await pool.fetch(f"select time from {table} order by 1")]

    async def forget(batch: int) -> None:
        await pool.execute("delete from tm.batch where batch > $1", batch)

    return Subject(
        CommandDatabase(pool),
        close,
        lambda: times("public.market_data"),
        lambda: times("tm_late.public__market_data"),
        forget,
    )


def tick(time: datetime) -> RecordMarketData:
    return RecordMarketData(**base(symbol="A", time=time, price=1.0, source="tests"))


EDGES = [
    JUNE.start - timedelta(microseconds=1),
    JUNE.start,
    JUNE.end - timedelta(microseconds=1),
    JUNE.end,
    SEPTEMBER.start + timedelta(days=3),
]
"""Times around and within the closed ranges."""


async def test_rows_of_closed_ranges_are_diverted_and_the_others_are_not(subject: Subject) -> None:
    for closed in (JUNE, SEPTEMBER):
        await subject.close(closed)
    ticks = Harness(TICKS, subject.store)
    await ticks.claim()
    done = await ticks.send(*map(tick, EDGES))
    assert outcomes(done) == {"applied": 5}
    assert done.events == 5, "a row that came late happened all the same"
    assert await subject.hot() == [EDGES[0], EDGES[3]]
    assert await subject.late() == [EDGES[1], EDGES[2], EDGES[4]]


async def test_rows_behind_a_closed_range_within_another_one_are_diverted_too(subject: Subject) -> None:
    """So closed ranges lie once the chunk interval was changed."""
    within = ClosedRange(JUNE.start + timedelta(days=3), JUNE.start + timedelta(days=4))
    for closed in (JUNE, within):
        await subject.close(closed)
    ticks = Harness(TICKS, subject.store)
    await ticks.claim()
    times = [within.start, within.end, JUNE.end]
    assert outcomes(await ticks.send(*map(tick, times))) == {"applied": 3}
    assert (await subject.hot(), await subject.late()) == ([JUNE.end], [within.start, within.end])


async def test_a_batch_of_nothing_but_late_rows_is_applied(subject: Subject) -> None:
    await subject.close(JUNE)
    ticks = Harness(TICKS, subject.store)
    await ticks.claim()
    assert outcomes(await ticks.send(tick(JUNE.start))) == {"applied": 1}
    assert (await subject.hot(), await subject.late()) == ([], [JUNE.start])


async def test_a_table_may_refuse_late_rows(subject: Subject) -> None:
    await subject.close(JUNE)
    ticks = Harness(REFUSING, subject.store)
    await ticks.claim()
    done = await ticks.send(tick(JUNE.end), tick(JUNE.start), tick(JUNE.end), tick(JUNE.start))
    assert codes(done) == [None, "RANGE_CLOSED", None, "RANGE_CLOSED"]
    assert (await subject.hot(), await subject.late()) == ([JUNE.end] * 2, [])


def order(*events: str) -> InternalCommand:
    encoded = [EncodedEvent("tidemill.archival.ArchivalEvent", each.encode()) for each in events]
    return InternalCommand("test", str(uuid4()), "tidemill", b"public.market_data", encoded)


async def test_an_order_takes_its_place_in_the_lane_and_consumes_nothing(subject: Subject) -> None:
    ticks, writer = Harness(TICKS, subject.store), InternalCommandWriter(subject.store, SystemClock())
    await ticks.claim()
    await ticks.send(tick(JUNE.start))
    (claim,) = ticks.claims.values()
    async with writer.transaction(claim) as numbering:
        numbering.orders += [order("a", "b"), order()]
    assert outcomes(await ticks.send(tick(JUNE.end))) == {"applied": 1}
    (claim,) = await ticks.claim()
    progress = claim.progress
    assert (progress.batch, progress.next_offset, progress.position, progress.sequence) == (3, 2, 4, 4)
    assert progress.anchor is not None
    assert progress.anchor.offset == 1


async def test_the_first_thing_of_a_lane_may_be_an_order(subject: Subject) -> None:
    ticks, writer = Harness(TICKS, subject.store), InternalCommandWriter(subject.store, SystemClock())
    (claim,) = await ticks.claim()
    async with writer.transaction(claim) as numbering:
        numbering.orders.append(order("a"))
    (claim,) = await ticks.claim()
    assert (claim.progress.next_offset, claim.progress.position, claim.progress.anchor) == (0, 1, None)


async def test_a_transaction_without_orders_leaves_no_trace_in_the_lane(subject: Subject) -> None:
    ticks, writer = Harness(TICKS, subject.store), InternalCommandWriter(subject.store, SystemClock())
    (claim,) = await ticks.claim()
    async with writer.transaction(claim):
        pass
    (claim,) = await ticks.claim()
    assert claim.progress.batch == 0


async def test_who_lost_the_lane_gives_no_orders(subject: Subject) -> None:
    ticks, writer = Harness(TICKS, subject.store), InternalCommandWriter(subject.store, SystemClock())
    (stale,) = await ticks.claim()
    await ticks.claim(owner="another")
    with pytest.raises(Fenced):
        async with writer.transaction(stale) as numbering:
            numbering.orders.append(order("a"))


async def give(writer: InternalCommandWriter, claim: Claim) -> None:
    """Give an order, which must not come to be refused at its end only: what it stands for may take long."""
    async with writer.transaction(claim) as numbering:
        numbering.orders.append(order("a"))


async def test_a_halted_lane_is_never_written_to_though_it_may_be_held(subject: Subject) -> None:
    ticks, writer = Harness(TICKS, subject.store), InternalCommandWriter(subject.store, SystemClock())
    (claim,) = await ticks.claim()
    await subject.store.halt(claim, "HISTORY_BEHIND", "by the test")
    with pytest.raises(LaneHalted, match="HISTORY_BEHIND: by the test"):
        async with writer.transaction(claim):
            raise AssertionError("the lane is not ours to write to")
    async with InternalCommandWriter(subject.store, SystemClock(), silent=True).transaction(claim):
        pass
    (claim,) = await ticks.claim()
    assert claim.progress.batch == 0


async def test_a_lane_is_not_written_to_before_it_is_compared_under_its_present_claim(
    subject: Subject,
) -> None:
    """Its database may be one that was restored: what is written then has numbers that its topics have already."""
    store, writer = subject.store, InternalCommandWriter(subject.store, SystemClock())
    (first,) = await store.claim(TICKS.aggregate, [0], "one")
    with pytest.raises(NotCompared, match="not compared with its topics since"):
        await give(writer, first)
    await store.compared([first])
    await give(writer, first)
    (second,) = await store.claim(TICKS.aggregate, [0], "two")
    await store.compared([first])
    with pytest.raises(NotCompared):
        await give(writer, second)
    await store.compared([second])
    await give(writer, second)


async def test_a_lane_that_was_set_back_under_its_owner_is_not_written_to(subject: Subject) -> None:
    ticks, writer = Harness(TICKS, subject.store), InternalCommandWriter(subject.store, SystemClock())
    (claim,) = await ticks.claim()
    ahead = replace(claim, progress=replace(claim.progress, position=1))
    with pytest.raises(NotCompared, match="since the database was restored"):
        await give(writer, ahead)
    await give(writer, claim)
    await give(writer, claim)
    await subject.forget(1)
    with pytest.raises(NotCompared, match="since the database was restored"):
        await give(writer, claim)


async def test_an_order_that_meets_a_roll_of_the_log_may_be_given_again(database: str) -> None:
    pool = await create_pool(database, application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        await create_lanes(connection, TICKS)
    writer = InternalCommandWriter(CommandDatabase(pool), SystemClock())
    (claim,) = await Harness(TICKS, CommandDatabase(pool)).claim()
    async with writer.transaction(claim) as numbering:  # an empty generation is not closed
        numbering.orders.append(order("a"))

    async def meet_a_roll() -> None:
        async with writer.transaction(claim) as numbering:
            await GenerationStore(pool).roll_if_due(max_age=timedelta(0), max_ids=0)
            numbering.orders.append(order("a"))

    with pytest.raises(TransientError, match="again"):
        await meet_a_roll()
    async with writer.transaction(claim) as numbering:
        numbering.orders.append(order("a"))
    assert await pool.fetchval("select max(position) from tm.batch") == 2
    await close_pool(pool)


async def test_an_order_has_no_offset_that_a_record_may_have(database: str) -> None:
    """The next record gets the next offset, and its sender looks for its outcome there."""
    pool = await create_pool(database, application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        await create_lanes(connection, TICKS)
    writer = InternalCommandWriter(CommandDatabase(pool), SystemClock())
    (claim,) = await Harness(TICKS, CommandDatabase(pool)).claim()
    async with writer.transaction(claim) as numbering:
        numbering.orders.append(order("a", "b"))
    items = await OutboxDatabase(pool).read(claim.lane.id, 0, 10, 1 << 20)
    codec = await AvroOutcomeCodec.open(TICKS.topics, messages_of("outcome"), clock=SystemClock())
    (outcome,) = codec.encode(claim.lane, [item for item in items[:1] if isinstance(item, OutboxItem)])
    assert codec.decode(outcome)["record_offset"] == NO_OFFSET == -1
    assert await pool.fetchval("select min(record_offset) from tm.outbox") == -1, "0.1.0 cannot read a null"
    await pool.execute("update tm.outbox set record_offset = null")
    assert await OutboxDatabase(pool).read(claim.lane.id, 0, 10, 1 << 20) == items, (
        "the next version writes it"
    )
    await close_pool(pool)
