"""The journal in the database: `security.ports.JournalStore` and `JournalReader`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg

from tidemill.security.journal import EntryRef, JournalRow
from tidemill.security.ports import OpenIntent
from tidemill.storage.database.pool import Lender, Timeouts, connection
from tidemill.storage.database.statements import load_statements

STATEMENTS: Final = load_statements(Path(__file__).with_name("journal.sql"))

JOURNAL_TIMEOUTS: Final = Timeouts(
    connect_s=2.0, statement_ms=2_000, lock_ms=1_000, idle_in_transaction_ms=5_000, command_s=3.0
)
"""For the pool of a `Journal`: one insert at a time, and whoever waits for it waits no longer than seconds."""

WALK_TIMEOUTS: Final = Timeouts(statement_ms=0, idle_in_transaction_ms=0, command_s=300.0)
"""For the pool of whoever walks the journal: its first rows come after a sort, or at once from the index."""

_CHUNK_ROWS: Final = 500


class JournalDatabase:
    """Stores entries, each call on a connection that it borrows; what it inserted is durable when it returns."""

    def __init__(self, pool: Lender) -> None:
        """`pool`: with `JOURNAL_TIMEOUTS`."""
        self._pool = pool

    async def now(self) -> datetime:
        async with connection(self._pool) as borrowed:
            at: datetime = await borrowed.fetchval(STATEMENTS["server_time"])
            return at

    async def append(self, rows: Sequence[JournalRow]) -> bool:
        async with connection(self._pool) as borrowed:
            try:
                await borrowed.execute(
                    STATEMENTS["append_entries"], *(list(column) for column in zip(*rows, strict=True))
                )
            except asyncpg.UniqueViolationError:
                return False
            return True

    async def hash_of(self, ref: EntryRef) -> bytes | None:
        return await _hash_of(self._pool, ref)


class JournalHistoryDatabase:
    """Reads the journal as of one moment, by a cursor of the server."""

    def __init__(self, pool: Lender) -> None:
        """`pool`: with `WALK_TIMEOUTS`."""
        self._pool = pool

    async def size(self) -> int:
        async with connection(self._pool) as borrowed:
            count: int = await borrowed.fetchval(STATEMENTS["count_entries"])
            return count

    async def rows(self) -> AsyncIterator[Sequence[JournalRow]]:
        async for records in _chunks(self._pool, STATEMENTS["walk_entries"]):
            yield [JournalRow(*record) for record in records]

    async def open_intents(self) -> AsyncIterator[Sequence[OpenIntent]]:
        width = len(JournalRow._fields)
        async for records in _chunks(self._pool, STATEMENTS["open_intents"]):
            values = [tuple(record) for record in records]
            yield [OpenIntent(JournalRow(*row[:width]), *row[width:]) for row in values]

    async def hash_of(self, ref: EntryRef) -> bytes | None:
        return await _hash_of(self._pool, ref)


async def _hash_of(pool: Lender, ref: EntryRef) -> bytes | None:
    async with connection(pool) as borrowed:
        stored: bytes | None = await borrowed.fetchval(STATEMENTS["entry_hash"], *ref)
        return stored


async def _chunks(pool: Lender, statement: str) -> AsyncIterator[list[Any]]:
    async with connection(pool) as borrowed, borrowed.transaction(isolation="repeatable_read", readonly=True):
        cursor = await borrowed.cursor(statement)
        while records := await cursor.fetch(_CHUNK_ROWS):
            yield records
