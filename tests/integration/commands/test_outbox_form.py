"""The form of the outbox: it changes behind the batches in flight, and few records stay rows where it is packs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from tests.support.engine.commands import Harness, base, lanes_pool
from tests.support.engine.streams import MARKET_DATA, messages_of
from tests.support.waiting import eventually
from tidemill.contexts.market_data import context
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.stream import Stream
from tidemill.outbox.pack import Pack
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.outbox_form import OutboxFormDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.outbox.packs import KafkaPacks

STREAM = Stream.of(replace(context, partitions=3, keyed=False))
CHANGES = 10


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with lanes_pool(database, STREAM) as made:
        yield made


async def put_together(pool: Pool) -> Harness:
    outcomes = await AvroOutcomeCodec.open(MARKET_DATA.topics, messages_of("outcome"), clock=SystemClock())
    return Harness(STREAM, CommandDatabase(pool, packs=KafkaPacks(outcomes)))


def commands(count: int) -> list[RecordMarketData]:
    facts: dict[str, Any] = {"symbol": "AAPL", "time": datetime(2013, 3, 1, tzinfo=UTC), "source": "test"}
    return [RecordMarketData(**base(price=number, **facts)) for number in range(1, count + 1)]


async def write(harness: Harness, partition: int, over: asyncio.Event) -> int:
    """Send new commands in one lane until it is over; return how many."""
    for sent in count(0, 5):
        if over.is_set():
            return sent
        await harness.apply(*(harness.topic.record(each, partition=partition) for each in commands(5)))
    raise AssertionError("counts end")


async def test_no_pack_is_written_after_rows_were_chosen(pool: Pool) -> None:
    forms, over = OutboxFormDatabase(pool), asyncio.Event()
    harnesses = [await put_together(pool) for _ in range(STREAM.partitions)]
    for partition, harness in enumerate(harnesses):
        await harness.claim([partition])

    async def grown(table: str, than: int) -> bool:
        return bool(await pool.fetchval(f"select count(*) > $1 from tm.{table}", than))

    async def change() -> None:
        for _ in range(CHANGES):
            await forms.use(packs=True)
            stored = await pool.fetchval("select count(*) from tm.pack")
            await eventually(lambda than=stored: grown("pack", than), what="batches in packs")  # type: ignore[misc]
            await forms.use(packs=False)
            before, unsent = await pool.fetchval("select count(*) from tm.pack"), (await forms.form())[2]
            stored = await pool.fetchval("select count(*) from tm.outbox")
            await eventually(lambda than=stored + 30: grown("outbox", than), what="batches in rows")  # type: ignore[misc]
            assert await pool.fetchval("select count(*) from tm.pack") == before == unsent
        over.set()

    changing = asyncio.create_task(change())
    changing.add_done_callback(lambda _: over.set())
    written = await asyncio.gather(*(write(each, at, over) for at, each in enumerate(harnesses)))
    await changing
    counted = """select (select count(*) from tm.outbox where item = 0)
                      + (select coalesce(sum(position - first_position + 1), 0) from tm.pack)"""
    assert await pool.fetchval(counted) == await pool.fetchval("select count(*) from tm.log") == sum(written)


async def test_few_records_of_a_lane_stay_rows_and_are_read_in_their_order_between_packs(pool: Pool) -> None:
    """A pack of few takes more than their rows do; a lane has both, also in one batch with another lane."""
    harness, reader = await put_together(pool), OutboxDatabase(pool)
    await harness.claim()
    for sizes in ((1, 5), (2, 3), (6, 0), (4, 1), (3, 4)):
        batch = [
            harness.topic.record(each, partition=partition)
            for partition, size in enumerate(sizes)
            for each in commands(size)
        ]
        await harness.apply(*batch)
    lanes = [
        claim.lane.id for claim in sorted(harness.claims.values(), key=lambda claim: claim.lane.partition)
    ]
    read = [await spans(reader, lane) for lane in lanes[:2]]
    assert read == [
        [
            ("row", 1),
            ("row", 2),
            ("row", 3),
            ("pack", 9),
            ("pack", 13),
            ("row", 14),
            ("row", 15),
            ("row", 16),
        ],
        [("pack", 5), ("row", 6), ("row", 7), ("row", 8), ("row", 9), ("pack", 13)],
    ]


async def spans(reader: OutboxDatabase, lane: int) -> list[tuple[str, int]]:
    """Read a lane as a relay does, a bit at a time; return each form with its last position."""
    found: list[tuple[str, int]] = []
    while some := await reader.read(lane, found[-1][1] if found else 0, 6, 1 << 20):
        found += [("pack" if isinstance(each, Pack) else "row", each.position) for each in some]
    return found
