"""Which commits wait until they are on disk: those of commands, not what is found again in the topics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.engine.commands import Harness, base, lanes_pool
from tidemill.contexts.market_data import context
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.stream import Stream
from tidemill.outbox.ports import Published
from tidemill.projections.ports import CheckpointMove
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.unit_of_work import BatchTransaction
from tidemill.storage.database.pool import Connection, Pool, connection
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.storage.read_models.rows import ViewDatabase

STREAM = Stream.of(context)
WAITS = "on"
QUOTES = context.projections[0]


class OneConnection:
    """Lends the connection of a transaction, so that what a statement sets in it can be asked for behind it."""

    def __init__(self, lent: Connection) -> None:
        self.lent = lent

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[Connection]:
        del timeout
        yield self.lent


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with lanes_pool(database, STREAM) as made:
        yield made


async def setting(of: Connection) -> str:
    return str(await of.fetchval("show synchronous_commit"))


async def test_a_mark_of_what_was_sent_does_not_wait(pool: Pool) -> None:
    lane = await pool.fetchval("select min(lane) from tm.lane")
    async with connection(pool) as lent:
        async with lent.transaction():
            await OutboxDatabase(OneConnection(lent)).mark({lane: Published(3, 3, "an id")})
            assert await setting(lent) == "off"
        assert await setting(lent) == WAITS, "only that transaction's"
    assert (await OutboxDatabase(pool).published(lane)).position == 3


async def test_a_folded_batch_does_not_wait(pool: Pool) -> None:
    store = ViewDatabase(pool)
    standing = await store.open(QUOTES, STREAM.aggregate, STREAM.partitions)
    async with store.transaction(standing.view) as rows:
        assert await setting(rows._borrowed) == WAITS
        await rows.advance({0: CheckpointMove(before=0, sequence=1, next_offset=1)})
        assert await setting(rows._borrowed) == "off"


async def test_a_batch_of_commands_waits(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a connection that did not wait before."""
    found: list[str] = []
    append_ledger = BatchTransaction.append_ledger

    async def noting(batch: BatchTransaction, rows: Any) -> None:
        await append_ledger(batch, rows)
        found.append(await setting(batch._borrowed))

    monkeypatch.setattr(BatchTransaction, "append_ledger", noting)
    lane = await pool.fetchval("select min(lane) from tm.lane")
    await OutboxDatabase(pool).mark({lane: Published(0, 0, None)})
    harness = Harness(STREAM, CommandDatabase(pool))
    await harness.claim()
    fields: dict[str, Any] = {"symbol": "AAPL", "price": 1, "time": "2026-01-01T00:00:00Z", "source": "test"}
    await harness.send(RecordMarketData(**base(**fields)))
    assert found == [WAITS]
