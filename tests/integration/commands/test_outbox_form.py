"""The form of the outbox changes behind the batches in flight: once it is rows, no pack is written any more."""

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
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.outbox_form import OutboxFormDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.outbox.packs import KafkaPacks

STREAM = Stream.of(replace(context, partitions=3, keyed=False))
CHANGES = 10


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with lanes_pool(database, STREAM) as made:
        yield made


async def write(harness: Harness, partition: int, over: asyncio.Event) -> int:
    """Send new commands in one lane until it is over; return how many."""
    facts: dict[str, Any] = {"symbol": "AAPL", "time": datetime(2013, 3, 1, tzinfo=UTC), "source": "test"}
    for sent in count(0, 5):
        if over.is_set():
            return sent
        commands = [RecordMarketData(**base(price=number, **facts)) for number in range(1, 6)]
        await harness.apply(*(harness.topic.record(each, partition=partition) for each in commands))
    raise AssertionError("counts end")


async def test_no_pack_is_written_after_rows_were_chosen(pool: Pool) -> None:
    outcomes = await AvroOutcomeCodec.open(MARKET_DATA.topics, messages_of("outcome"), clock=SystemClock())
    forms, over = OutboxFormDatabase(pool), asyncio.Event()
    harnesses = [
        Harness(STREAM, CommandDatabase(pool, packs=KafkaPacks(outcomes))) for _ in range(STREAM.partitions)
    ]
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
