"""What a command costs when ten million ids are in the horizon, against an empty log: batches of 2,000, one lane.

The ids are v4, half of them in a closed generation with its filter, half in the open one, which is then as large as a
generation gets: the dearest moment. Both sides run in turn, on databases of their own.
"""

from __future__ import annotations

import os
import statistics
from datetime import timedelta
from typing import Any

import asyncpg
from rich.console import Console

from benchmarks import hops
from benchmarks.arena import Arena, arena
from benchmarks.data import market_data
from benchmarks.meter import Meter, Reading
from tidemill.app.processes.base import tune_gc
from tidemill.commands.batch import BatchWriter
from tidemill.commands.handlers import handlers_of
from tidemill.commands.validation import Validator
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import ClosedGenerations, GenerationStore
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.transport.avro.codec import StreamCodec

_BATCH = 2_000
_TURNS = 8
_BATCHES_A_TURN = 10

_FILL = """
insert into tm.log (lane, gen, position, command_id, digest, outcome, events, sequence, at, type, service)
select 1, $1, n, gen_random_uuid(), 0, 'a', 1, n, now(), 'tidemill.market_data.RecordMarketData', 'feed'
from generate_series(1, $2::bigint) n
"""


class _Record:
    """A record of the one lane."""

    headers = ()

    def __init__(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        self.partition, self.offset, self.key, self.value = partition, offset, key, value


async def growth(server: str, kafka: str, ids: int, console: Console) -> dict[str, Any]:
    """Measure both sides in turn; print and return the medians in CPU microseconds per command."""
    tune_gc()
    async with arena(server, kafka) as empty, arena(server, kafka) as full:
        for where in (empty, full):
            await hops.prepare(where)
        console.print(f"filling a log with {ids:,} ids ...")
        await _fill(full, ids)
        sides = {"empty": await _Side.open(empty), f"{ids:,} ids": await _Side.open(full)}
        readings: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(_TURNS):
            for name, side in sides.items():
                reading = await side.turn(turn)
                readings[name].append(reading.own_us + reading.postgres_us)
        for side in sides.values():
            await side.close()
    medians = {
        name: statistics.median(each[1:]) for name, each in readings.items()
    }  # the first turn warms up
    low, high = medians.values()
    console.print(
        f"CPU us per applied command: empty log {low:.1f}, with {ids:,} ids {high:.1f}: {high / low:.2f} x"
    )
    return medians


async def _fill(where: Arena, ids: int) -> None:
    connection = await asyncpg.connect(where.database_url, command_timeout=1800)
    pool = await create_pool(where.database_url, application_name="benchmark", size=1)
    generations = GenerationStore(pool)
    await connection.execute(_FILL, 1, ids // 2)
    await connection.execute("call tm.roll_generation(1, 2)")
    await generations.build_filters()
    await connection.execute(_FILL, 2, ids // 2)
    await connection.execute("vacuum analyze tm.log")
    await connection.close()
    await close_pool(pool)


class _Side:
    """One database that commands are applied to, batch after batch."""

    def __init__(self, **parts: Any) -> None:
        self._parts = parts
        self._offset = 0

    @classmethod
    async def open(cls, where: Arena) -> _Side:
        part = hops.deployment(where).catalog.of("market-data")
        pool = await create_pool(where.database_url, application_name="benchmark", size=2)
        codec = await StreamCodec.open(part.stream, part.messages(), clock=SystemClock())
        closed = ClosedGenerations()
        await GenerationStore(pool, closed).load_filters()
        store = CommandDatabase(pool, closed)
        (claim,) = await store.claim("market-data", [0], "benchmark")
        handlers = handlers_of(part.stream, codec, 1_000_000)
        return cls(
            pool=pool,
            claim=claim,
            validator=Validator(part.stream, codec),
            writer=BatchWriter(store, handlers, SystemClock(), horizon=timedelta(days=8)),
            backend=await pool.fetchval("select pg_backend_pid()"),
        )

    async def turn(self, seed: int) -> Reading:
        """Apply a few batches and measure them."""
        parts, count = self._parts, _BATCH * _BATCHES_A_TURN
        made = [each for each in market_data(count * 5, 1000 + seed) if each[0] == 0][:count]
        lane = parts["claim"].lane.id
        meter = Meter(parts["backend"], [os.getpid()])
        for at in range(0, len(made), _BATCH):
            records = [
                (lane, _Record(0, self._offset + number, key, value))
                for number, (_, key, value) in enumerate(made[at : at + _BATCH])
            ]
            self._offset += len(records)
            await parts["writer"].apply({lane: parts["claim"]}, await parts["validator"].validate(records))
        return meter.read(len(made))

    async def close(self) -> None:
        """Close its connections."""
        await close_pool(self._parts["pool"])
