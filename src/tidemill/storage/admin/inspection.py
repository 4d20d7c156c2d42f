"""An operator's queries: lanes and ledgers, commands, dead letters, projections, the counts of the audit.

Reads only; `lane_changes` has the changes. Ports: `admin.ports`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from tidemill.admin.rows import (
    AuditRows,
    CommandEntry,
    DeadLetter,
    DeadLetterEntry,
    ForeignRecords,
    LaneState,
    LedgerEntry,
    ProjectionHalt,
    ProjectionState,
    RepeatEntry,
    SentEntry,
)
from tidemill.domain.table_shape import TableShape
from tidemill.outbox.pack import Pack
from tidemill.storage.admin.archived_rows import count_rows, hold_chunks
from tidemill.storage.database.header_json import headers_of
from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.database.table_sql import table_name

_SQL = load_statements(Path(__file__).with_name("operations.sql"))

_AUDIT_TIMEOUT_S: Final = 1_800.0


_AUDIT_STATEMENTS: Final = (
    "ledger_sums",
    "ledger_by_generation",
    "ledger_totals",
    "log_by_generation",
    "outbox_by_generation",
    "parked_by_lane",
    "generations_kept",
)


class OperationsDatabase:
    """The database for operators. Every call may raise what `pool.connection` raises."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def lanes(self, aggregate: str | None = None, lane_id: int | None = None) -> list[LaneState]:
        return [LaneState._make(row) for row in await self._fetch("lanes", aggregate, lane_id)]

    async def lane_of(self, aggregate: str, partition: int) -> int | None:
        rows = await self._fetch("lane_of_partition", aggregate, partition)
        return rows[0]["lane"] if rows else None

    async def unpublished_since(self, positions: Mapping[int, int]) -> dict[int, datetime]:
        rows = await self._fetch("unpublished_since", list(positions), list(positions.values()))
        return {row["lane"]: row["at"] for row in rows}

    async def unfolded_since(self, sequences: Mapping[int, int]) -> dict[int, datetime]:
        rows = await self._fetch("unfolded_since", list(sequences), list(sequences.values()))
        return {row["lane"]: row["at"] for row in rows}

    async def ledger(self, lane_id: int, limit: int) -> list[LedgerEntry]:
        return [LedgerEntry._make(row) for row in await self._fetch("lane_ledger", lane_id, limit)]

    async def command(self, command_id: UUID) -> list[CommandEntry]:
        return [CommandEntry._make(row) for row in await self._fetch("commands_logged", command_id)]

    async def logged_at(self, lane_id: int, position: int) -> CommandEntry | None:
        rows = await self._fetch("logged_at", lane_id, position)
        return CommandEntry._make(rows[0]) if rows else None

    async def repeats(self, command_id: UUID, limit: int) -> list[RepeatEntry]:
        async with connection(self._pool) as borrowed, borrowed.transaction(readonly=True):
            await borrowed.execute("set local statement_timeout = 0")
            rows = await borrowed.fetch(_SQL["repeats_logged"], command_id, limit, timeout=_AUDIT_TIMEOUT_S)
        return [RepeatEntry._make(row) for row in rows]

    async def sent(self, lane_id: int, position: int) -> list[SentEntry] | Pack:
        packs = await self._fetch("pack_of_position", lane_id, position)
        if packs:
            return Pack._make(packs[0])
        return [SentEntry._make(row) for row in await self._fetch("sent", lane_id, position)]

    async def dead_letters(
        self, *, aggregate: str | None, code: str | None, limit: int
    ) -> list[DeadLetterEntry]:
        rows = await self._fetch("dead_letters", aggregate, code, limit)
        return [DeadLetterEntry._make(row) for row in rows]

    async def dead_letter(self, lane_id: int, position: int) -> DeadLetter | None:
        return _dead_letter(await self._fetch("dead_letter", lane_id, position))

    async def dead_letter_of(self, topic: str, partition: int, offset: int) -> DeadLetter | None:
        return _dead_letter(await self._fetch("dead_letter_of", topic, partition, offset))

    async def projections(self) -> list[ProjectionState]:
        sequences: dict[str, dict[int, int]] = defaultdict(dict)
        for row in await self._fetch("checkpoints"):
            sequences[row["projection"]][row["partition"]] = row["sequence"]
        halts: dict[str, list[ProjectionHalt]] = defaultdict(list)
        for row in await self._fetch("projection_halts"):
            halts[row["projection"]].append(ProjectionHalt._make(row))
        return [
            ProjectionState._make([*row, sequences[row["projection"]], halts[row["projection"]]])
            for row in await self._fetch("projections")
        ]

    async def foreign_records(self) -> list[ForeignRecords]:
        return [ForeignRecords._make(row) for row in await self._fetch("foreign_records")]

    async def audit_rows(self, tables: Sequence[TableShape]) -> AuditRows:
        async with (
            connection(self._pool) as borrowed,
            borrowed.transaction(isolation="repeatable_read", readonly=True),
        ):
            await borrowed.execute("set local statement_timeout = 0")  # it reads the whole log, on purpose
            held = await hold_chunks(borrowed, tables)
            lanes = await borrowed.fetch(_SQL["lanes"], None, None)
            found: dict[str, Any] = {
                name: await borrowed.fetch(_SQL[name], timeout=_AUDIT_TIMEOUT_S) for name in _AUDIT_STATEMENTS
            }
            readable = [table for table, why_not in held.items() if why_not is None]
            rows = await count_rows(borrowed, readable, timeout_s=_AUDIT_TIMEOUT_S)
        unread = {table_name(table): why_not for table, why_not in held.items() if why_not is not None}
        return AuditRows(lanes=[LaneState._make(row) for row in lanes], rows=rows, unread=unread, **found)

    async def _fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async with connection(self._pool) as borrowed:
            return await borrowed.fetch(_SQL[statement], *arguments)


def _dead_letter(rows: Sequence[asyncpg.Record]) -> DeadLetter | None:
    if not rows:
        return None
    *entry, key, value, headers = rows[0]
    return DeadLetter(DeadLetterEntry._make(entry), key, value, headers_of(headers))
