"""The limit of the intake: the two `COPY`s that any must make, and nothing else.

The rows of market data into their indexed hypertable, and a row of the outbox for each, in transactions of 2,000 rows
on four connections, as tuples through asyncpg: nothing is read, decoded, checked or decided.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks import hops
from benchmarks.arena import Arena
from benchmarks.data import PARTITIONS
from benchmarks.meter import Meter, Reading

_BATCH = 2_000
_AT = datetime(2026, 1, 5, tzinfo=UTC)
_TARGET = ("time", "symbol", "price", "volume", "source", "command_id")
_OUTBOX = (
    *("lane", "gen", "position", "item", "outcome", "original", "code", "detail", "command_id", "service"),
    *(
        "correlation",
        "sequence",
        "at",
        "seconds",
        "record_offset",
        "key",
        "event_type",
        "payload",
        "chain",
        "trace",
    ),
    "client_id",
)


async def work(where: Arena, count: int) -> Reading:
    """Measure the two `COPY`s of `count` rows, in a database that `hops.prepare` has made."""
    connection, backend = await hops.backend_of(where)
    generation = await connection.fetchval("select gen from tm.generation where closed_at is null")
    pool = await asyncpg.create_pool(where.database_url, min_size=PARTITIONS, max_size=PARTITIONS)
    batches = [_rows(at, min(_BATCH, count - at), generation) for at in range(0, count, _BATCH)]
    meter = Meter(backend, [os.getpid()])
    waiting = iter(batches)
    await asyncio.gather(*(_lane(pool, waiting) for _ in range(PARTITIONS)))
    reading = meter.read(count)
    await pool.close()
    await connection.close()
    return reading


async def _lane(pool: Any, waiting: Any) -> None:
    async with pool.acquire() as connection:
        for target, outbox in waiting:
            async with connection.transaction():
                await connection.copy_records_to_table("market_data", records=target, columns=_TARGET)
                await connection.copy_records_to_table(
                    "outbox", schema_name="tm", records=outbox, columns=_OUTBOX
                )


def _rows(first: int, count: int, generation: int) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return rows of both tables, with values as wide as those that the intake writes."""
    ids = [
        UUID(int=(number * 0x9E3779B97F4A7C15) % (1 << 128), version=4)
        for number in range(first, first + count)
    ]
    target = [
        (_AT + timedelta(milliseconds=10 * (first + at)), f"S{at % 1000:03d}", 100.5, 7.25, "nyse", name)
        for at, name in enumerate(ids)
    ]
    outbox = [
        (
            *(1, generation, first + at, 0, b"a", None, None, None, name, "feed"),
            *(None, first + at, _AT, 0.1, first + at, b"S000", "tidemill.market_data.MarketDataRecorded"),
            *(bytes(95), 7, None, None),
        )
        for at, name in enumerate(ids)
    ]
    return target, outbox
