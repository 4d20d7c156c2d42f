"""The connections of one process, shared by all of its streams: who waits for a lock takes none from the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from tests.support.engine.commands import create_lanes
from tests.support.waiting import HANGING_S, eventually
from tidemill.contexts.market_data import context
from tidemill.domain.errors import Unavailable
from tidemill.domain.stream import Stream
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, connection, create_pool
from tidemill.storage.database.pool_parts import DividedPool, PoolPart, size_for

STREAMS = [Stream.of(replace(context, aggregate=f"ticks-{number:02}", partitions=2)) for number in range(16)]
LOCK = "select from tm.lane order by lane for update"


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """What a process with one worker opens, whatever its streams."""
    made = await create_pool(database, application_name="claimer", size=size_for(1))
    async with connection(made) as borrowed:
        for stream in STREAMS:
            await create_lanes(borrowed, stream)
    yield made
    await close_pool(made)


async def test_claims_of_all_streams_wait_for_an_owner_and_leave_batches_their_connection(
    pool: Pool, database: str
) -> None:
    frozen = await asyncpg.connect(database, server_settings={"application_name": "frozen"})
    await frozen.execute("update tm.lane set owner = 'frozen'")
    await frozen.execute(f"begin; {LOCK}")
    store = CommandDatabase(DividedPool(pool), owner_wait_s=0.2)
    claims = [asyncio.create_task(store.claim(stream.aggregate, [0, 1], "claimer")) for stream in STREAMS]
    await eventually(lambda: _waiting(pool) >= 4, what="claims that wait for the owner's locks")
    async with store.unit_of_work():
        assert await store.halted([1]) == {}
        claimed = await asyncio.wait_for(asyncio.gather(*claims), HANGING_S)
    assert [[claim.lane.partition for claim in each] for each in claimed] == [[0, 1]] * len(STREAMS)
    await eventually(frozen.is_closed, what="the frozen owner to be gone")


def _waiting(pool: Pool) -> int:
    return pool.get_size() - pool.get_idle_size()


async def test_a_part_lends_no_more_than_its_own_and_says_when_it_took_too_long(pool: Pool) -> None:
    part = PoolPart(pool, 1)
    async with connection(part) as borrowed:
        with pytest.raises(Unavailable):
            async with connection(part, timeout_s=0.05):
                pass
        async with connection(pool) as other:
            assert other.get_server_pid() != borrowed.get_server_pid()
    async with connection(part, timeout_s=5) as borrowed:
        assert await borrowed.fetchval("select 1") == 1
