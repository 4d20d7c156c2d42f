"""The outbox that the conformance suites ask, in memory and on TimescaleDB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Protocol

from tests.fakes.outbox import MemoryOutbox
from tests.support.engine.commands import create_lanes
from tests.support.engine.outbox import Written, lane_of, store
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.lane import Lane
from tidemill.domain.stream import Stream
from tidemill.outbox.ports import OutboxGenerations, OutboxReader, PackFormat
from tidemill.storage.commands.generations import GenerationStore
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.outbox.reader import OutboxDatabase


class Outbox(OutboxReader, OutboxGenerations, Protocol):
    """Both ports: one adapter serves them."""


class Subject:
    """An outbox in memory, and what the way in and the keeper of generations do to it."""

    def __init__(self) -> None:
        self.memory = MemoryOutbox()
        self.outbox: Outbox = self.memory
        self.lanes = [lane_of(number, number - 1) for number in (1, 2)]
        for lane in self.lanes:
            self.memory.create(lane.id)

    async def store(self, *batches: Written, packs: PackFormat | None = None) -> None:
        """Commit batches, in packs if a format of them is given."""
        self.memory.store(*batches, packs=packs)

    async def lose(self, lane: Lane, position: int) -> None:
        """Delete the pack that holds a position."""
        packs = self.memory.packs[lane.id]
        self.memory.packs[lane.id] = [
            (gen, pack) for gen, pack in packs if not pack.first_position <= position <= pack.position
        ]

    async def claim(self, lane: Lane, epoch: int) -> None:
        self.memory.epochs[lane.id] = epoch

    async def roll(self) -> int:
        return self.memory.roll()

    async def lift(self, lane: Lane) -> None:
        del self.memory.halts[lane.id]

    async def jump(self, time: timedelta) -> None:
        """Let the server's clock jump ahead."""
        self.memory.now += time


class RealSubject(Subject):
    """The same on TimescaleDB."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.outbox = OutboxDatabase(pool)

    async def open(self) -> None:
        async with self.pool.acquire() as connection:
            await create_lanes(connection, Stream.of(market_data))
            rows = await connection.fetch("select lane, partition from tm.lane order by partition limit 2")
            await connection.execute("update tm.lane set epoch = 1")
        self.lanes = [lane_of(row["lane"], row["partition"]) for row in rows]

    async def lose(self, lane: Lane, position: int) -> None:
        await self.pool.execute(
            "delete from tm.pack where lane = $1 and first_position <= $2 and position >= $2",
            lane.id,
            position,
        )

    async def store(self, *batches: Written, packs: PackFormat | None = None) -> None:
        async with self.pool.acquire() as connection:
            await store(connection, batches, packs)

    async def claim(self, lane: Lane, epoch: int) -> None:
        await self.pool.execute("update tm.lane set epoch = $2 where lane = $1", lane.id, epoch)

    async def roll(self) -> int:
        rolled = await GenerationStore(self.pool).roll_if_due(max_age=timedelta(0), max_ids=0)
        assert rolled is not None, "the open generation is empty"
        return rolled

    async def lift(self, lane: Lane) -> None:
        await self.pool.execute("delete from tm.halt where lane = $1", lane.id)

    async def jump(self, time: timedelta) -> None:
        """Let what the server has written down be as much older."""
        await self.pool.execute(
            "update tm.generation set outbox_sent_at = outbox_sent_at - $1::interval", time
        )


@asynccontextmanager
async def real_subject(database: Any) -> AsyncIterator[Subject]:
    """Open the outbox of a database."""
    pool = await create_pool(database, application_name="tidemill-tests", size=4)
    try:
        real = RealSubject(pool)
        await real.open()
        yield real
    finally:
        await close_pool(pool)
