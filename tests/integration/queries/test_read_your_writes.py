"""A reader with the token of a write never reads an older row, however late its projector is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

import asyncpg
import pytest

from tests.fakes.events import START, MemoryCodec, MemoryEvents, MemoryTopic
from tests.support.engine.commands import Harness, base, create_lanes
from tests.support.engine.projections import Running
from tests.support.waiting import HANGING_S, eventually
from tidemill.admin import lane_results
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.stream import Stream
from tidemill.outbox.common_history import Agreement
from tidemill.outbox.ports import Tail, Tails
from tidemill.projections.projector import Projector
from tidemill.queries.ports import Condition
from tidemill.queries.seen import SeenLane, SeenNumber, SeenToken
from tidemill.queries.seen_waiter import MAX_WAIT_S, Reached, SeenWaiter
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.lane_changes import LaneDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.queries.seen import SeenDatabase
from tidemill.storage.read_models.pages import ReadModelDatabase
from tidemill.storage.read_models.rows import ViewDatabase

TICKS = Stream.of(replace(market_data, partitions=2))
(QUOTES,) = [projection for projection in market_data.projections if projection.name == "latest-quotes"]
NOTHING = SeenNumber(1, 0)
SYMBOLS = ("AAPL", "IBM", "MSFT", "TSLA")


@dataclass
class Market:
    """A writer, a projector and a reader on one database, each with connections of its own."""

    harness: Harness
    topic: MemoryTopic
    waiter: SeenWaiter
    reader: ReadModelDatabase
    reading: Pool
    numbers: int = 0

    async def write(self, symbol: str) -> tuple[SeenToken, float]:
        """Apply a command as the engine does, and send its event as the relay does; return its token."""
        self.numbers += 1
        price = float(self.numbers)
        fields: dict[str, Any] = {
            "symbol": symbol,
            "price": price,
            "time": START + timedelta(seconds=self.numbers),
            "source": "test",
        }
        command = RecordMarketData(**base(**fields))
        await self.harness.send(command)
        partition = self.harness.topic.lane(command)
        written = await self.reading.fetchval(
            "select max(b.sequence) from tm.batch b join tm.lane l using (lane) where l.partition = $1",
            partition,
        )
        event = MarketDataRecorded(**command.model_dump())
        self.topic.append(partition, written, event)
        return {SeenLane(TICKS.aggregate, partition): SeenNumber(1, written)}, price

    def is_waited_for(self) -> bool:
        return self.waiter.waiting == 1

    async def read(self, symbol: str, seen: SeenToken) -> float:
        """Read a quote that is not older than what was seen."""
        assert await self.waiter.reached(seen, QUOTES.name, MAX_WAIT_S) == Reached()
        (row,) = await self.reader.read(QUOTES, [Condition("symbol", symbol)], 1)
        return float(row["price"])


@pytest.fixture
async def market(database: str) -> AsyncIterator[Market]:
    async with AsyncExitStack() as stack:

        async def opened() -> Pool:
            pool = await create_pool(database, application_name="tidemill-tests", size=4)
            stack.push_async_callback(close_pool, pool)
            return pool

        writing, folding, reading = [await opened() for _ in range(3)]
        async with writing.acquire() as connection:
            await create_lanes(connection, TICKS)
        harness = Harness(TICKS, CommandDatabase(writing))
        await harness.claim()
        topic = MemoryTopic()
        projector = Projector(
            TICKS,
            [QUOTES],
            source=MemoryEvents(topic, partitions=TICKS.partitions),
            codec=MemoryCodec(MarketDataRecorded),
            store=ViewDatabase(folding),
            clock=SystemClock(),
        )
        waiter = SeenWaiter(SeenDatabase(reading), {QUOTES.name: TICKS.aggregate}, SystemClock())
        await stack.enter_async_context(Running(projector))
        yield Market(harness, topic, waiter, ReadModelDatabase(reading), reading)


async def test_a_read_with_the_token_of_a_write_is_never_older(
    market: Market, database: str, seed: int
) -> None:
    """Three hundred times; in a third of them the projector cannot move its checkpoints until the reader waits."""
    random = Random(seed)
    holder = await asyncpg.connect(database)
    for _ in range(300):
        symbol = random.choice(SYMBOLS)
        if random.random() < 1 / 3:
            async with holder.transaction():
                await holder.execute("select from tm.checkpoint for update")
                seen, price = await market.write(symbol)
                reading = asyncio.create_task(market.read(symbol, seen))
                await eventually(market.is_waited_for)
                assert not reading.done(), "no projector can have folded it"
        else:
            seen, price = await market.write(symbol)
            reading = asyncio.create_task(market.read(symbol, seen))
        assert await asyncio.wait_for(reading, HANGING_S) == price
    await holder.close()


async def test_what_an_answer_says_it_saw_is_what_its_rows_show(market: Market) -> None:
    """The token of `seen=all` is asked before the rows, while a projector writes: they show it, or more."""
    stopped = asyncio.Event()

    async def writing() -> None:
        while not stopped.is_set():
            await market.write("AAPL")

    task = asyncio.create_task(writing())
    partition = market.harness.topic.lane(
        RecordMarketData(**base(symbol="AAPL", price=1, time=START, source="t"))
    )
    lane, last = SeenLane(TICKS.aggregate, partition), 0
    while last < 50:
        folded = await market.waiter.lanes_of(TICKS.aggregate, QUOTES.name)
        last = int(await market.reading.fetchval("select max(price) from public.latest_quotes") or 0)
        written = await market.waiter.lanes_of(TICKS.aggregate, None)
        assert NOTHING <= folded.get(lane, NOTHING) <= SeenNumber(1, last) <= written.get(lane, NOTHING)
        assert folded.keys() | written.keys() <= {lane}
    stopped.set()
    await task


async def test_after_a_reconciliation_exactly_what_was_withdrawn_is_said_to_be(market: Market) -> None:
    """The topic holds events 1 to 6; the database was restored to 4, of which it shares 3 with the topic."""
    tokens = [(await market.write("AAPL"))[0] for _ in range(4)]
    (lane,) = tokens[-1]
    lane_id = await market.reading.fetchval(
        "insert into tm.halt (lane, code, detail) select lane, 'HISTORY_FORKED', '' from tm.lane "
        "where aggregate = $1 and partition = $2 returning lane",
        *lane,
    )
    refused = await refusal(market, {lane: SeenNumber(1, 6)})
    assert refused is RequestCode.LANE_HALTED, "before it is reconciled it may have existed"
    (row,) = await market.reading.fetch(
        "select l.epoch, max(b.batch) from tm.lane l join tm.batch b using (lane) where lane = $1 group by 1",
        lane_id,
    )
    tail = Tail(6, 6, None)
    await LaneDatabase(market.reading).reconcile(
        lane_id,
        lane_results.TopicsEnd(Tails(tail, tail, None), timeline=1, first_offset=0),
        Agreement(3, 3),
        "a test",
        seen=lane_results.Seen(*row),
    )
    for sequence in (1, 3):
        assert await market.waiter.reached({lane: SeenNumber(1, sequence)}, None) == Reached()
    for sequence in (4, 6, 7):
        assert await refusal(market, {lane: SeenNumber(1, sequence)}) is RequestCode.WITHDRAWN
    assert await market.waiter.reached({lane: SeenNumber(2, 7)}, None) == Reached()
    assert await refusal(market, {lane: SeenNumber(2, 8)}) is RequestCode.BEHIND, (
        "its owner has not compared it"
    )
    await market.harness.claim()
    assert await refusal(market, {lane: SeenNumber(2, 8)}) is RequestCode.BAD_TOKEN
    assert await market.waiter.lanes_of(TICKS.aggregate, None) == {lane: SeenNumber(2, 7)}


async def refusal(market: Market, seen: SeenToken) -> RequestCode:
    with pytest.raises(RequestRefused) as refused:
        await market.waiter.reached(seen, None, 0.0)
    return refused.value.request_code
