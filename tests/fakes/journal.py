"""The journal in memory: obeys the same conformance suite as the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tidemill.domain.errors import Unavailable
from tidemill.security.journal import EntryKind, EntryRef, JournalRow
from tidemill.security.ports import OpenIntent

_NO_COMMAND = UUID(int=0)
BEGIN = datetime(2026, 12, 1, tzinfo=UTC)


class MemoryJournal:
    """A `JournalStore`. `table`: what is stored. `appends`: the number of rows of each call that stored some.

    `failures`: what the next calls of `append` do instead: `refused` stores nothing and raises, `answer lost` stores
    all and raises.
    """

    def __init__(self) -> None:
        self.table: dict[EntryRef, JournalRow] = {}
        self.appends: list[int] = []
        self.failures: list[str] = []

    async def now(self) -> datetime:
        return BEGIN + timedelta(seconds=len(self.table))

    async def append(self, rows: Sequence[JournalRow]) -> bool:
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "refused":
            raise Unavailable("database", "it refuses")
        if any(row.ref in self.table for row in rows):
            return False
        self.table.update({row.ref: row for row in rows})
        self.appends.append(len(rows))
        if failure == "answer lost":
            raise Unavailable("database", "the connection broke")
        return True

    async def hash_of(self, ref: EntryRef) -> bytes | None:
        row = self.table.get(ref)
        return None if row is None else row.hash


class MemoryJournalHistory:
    """A `JournalReader` of what a `MemoryJournal` holds. `log`: command -> outcome, code, time."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal
        self.log: dict[UUID, tuple[bytes, str | None, datetime]] = {}
        self.log_begins: datetime | None = BEGIN - timedelta(days=1)

    async def size(self) -> int:
        return len(self._journal.table)

    async def rows(self) -> AsyncIterator[Sequence[JournalRow]]:
        for ref in sorted(self._journal.table):
            yield [self._journal.table[ref]]

    async def open_intents(self) -> AsyncIterator[Sequence[OpenIntent]]:
        rows = self._journal.table.values()
        closed = {(row.of_writer, row.of_number) for row in rows}
        for ref in sorted(row.ref for row in rows if row.kind == EntryKind.INTENT):
            if ref not in closed:
                row = self._journal.table[ref]
                outcome, code, at = self.log.get(row.command_id or _NO_COMMAND, (None, None, None))
                yield [OpenIntent(row, outcome, code, at, self.log_begins)]

    async def hash_of(self, ref: EntryRef) -> bytes | None:
        return await self._journal.hash_of(ref)
