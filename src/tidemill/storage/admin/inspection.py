"""What an operator asks the database: lanes and ledgers, commands, dead letters, projections, the audit's books.

Reads only; `lanes` holds what an operator may change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy import Table

from tidemill.domain.parked import headers_of
from tidemill.storage.admin.archived_rows import TableRows, count_rows, hold_chunks
from tidemill.storage.database.pool import Pool, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.database.table_sql import table_name

_SQL = load_statements(Path(__file__).with_name("operations.sql"))

_AUDIT_TIMEOUT_S: Final = 1_800.0


class LaneState(NamedTuple):
    """A lane as the database knows it. `next_offset`, `position`, `sequence`: the newest row of its ledger.

    `waits_...`: the command of a newer version that it stands before, if it does, as `commands.ports.Wait` has it.
    """

    lane: int
    aggregate: str
    partition: int
    partitions: int
    command_topic: str
    event_topic: str
    outcome_topic: str
    dead_letter_topic: str
    epoch: int
    owner: str | None
    claimed_at: datetime | None
    gen: int
    batch: int
    timeline: int
    next_offset: int
    anchor_offset: int | None
    anchor_checksum: int | None
    position: int
    sequence: int
    chain: int
    at: datetime
    published_position: int | None
    published_sequence: int | None
    published_at: datetime | None
    halt_code: str | None
    halt_detail: str | None
    halted_since: datetime | None
    waits_before: int | None = None
    waits_schema: str | None = None
    waits_type: str | None = None
    waits_service: str | None = None
    waits_detail: str | None = None
    waits_since: datetime | None = None
    waits_until: datetime | None = None

    @property
    def name(self) -> str:
        """Return what people call it: `market-data/3`."""
        return f"{self.aggregate}/{self.partition}"


class LedgerEntry(NamedTuple):
    """A row of a lane's ledger."""

    gen: int
    batch: int
    epoch: int
    timeline: int
    from_offset: int
    to_offset: int
    position: int
    sequence: int
    applied: int
    rejected: int
    duplicate: int
    parked: int
    events: int
    at: datetime
    reason: str | None


class CommandEntry(NamedTuple):
    """What became of a command: its row in the log."""

    lane: int
    aggregate: str
    partition: int
    gen: int
    position: int
    command_id: UUID
    outcome: bytes
    events: int
    sequence: int
    at: datetime
    type: str | None
    service: str | None
    code: str | None
    detail: str | None


class RepeatEntry(NamedTuple):
    """A record that repeated a command's id."""

    lane: int
    aggregate: str
    partition: int
    gen: int
    position: int
    outcome: bytes
    at: datetime
    type: str | None
    service: str | None
    code: str | None
    detail: str | None


class SentEntry(NamedTuple):
    """What the outbox holds of a position. `record_offset`: None if no record brought it."""

    item: int
    outcome: bytes | None
    original: bytes | None
    sequence: int
    at: datetime
    record_offset: int | None
    key: bytes | None
    event_type: str | None
    payload: bytes | None
    correlation: str | None
    client_id: str | None
    trace: str | None


class DeadLetterEntry(NamedTuple):
    """A parked record, without its content. `state`: parked, redriven or discarded."""

    lane: int
    aggregate: str
    position: int
    topic: str
    partition: int
    record_offset: int
    code: str
    detail: str
    at: datetime
    state: str
    bytes: int | None

    @property
    def name(self) -> str:
        """Return what people call its lane: `market-data/3`."""
        return f"{self.aggregate}/{self.partition}"


class DeadLetter(NamedTuple):
    """A parked record as it came."""

    entry: DeadLetterEntry
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class ProjectionHalt(NamedTuple):
    """A projection that stands still in a lane: it expects event `expected`, and got `got`."""

    projection: str
    partition: int
    code: str
    expected: int
    got: int
    detail: str
    since: datetime


class ProjectionState(NamedTuple):
    """A projection as the database knows it. `sequences`: partition -> last event folded; `halts`: those in the way."""

    name: str
    aggregate: str
    incarnation: int
    read_table: str
    rebuilt_at: datetime | None
    verified_at: datetime | None
    sequences: Mapping[int, int]
    halts: Sequence[ProjectionHalt]


class ForeignRecords(NamedTuple):
    """Records in a topic of a lane that somebody else wrote: seen by read models, or accepted up to an offset."""

    lane: int
    aggregate: str
    partition: int
    topic: str
    records: int
    first_offset: int | None
    last_offset: int | None
    last_seen: datetime | None
    accepted_offset: int | None
    accepted_at: datetime | None
    reason: str | None


class Books(NamedTuple):
    """Everything the audit adds up, of one moment. Rows as the statements of the same name give them."""

    lanes: Sequence[LaneState]
    ledger_books: Sequence[Mapping[str, Any]]
    ledger_by_generation: Sequence[Mapping[str, Any]]
    ledger_totals: Sequence[Mapping[str, Any]]
    log_by_generation: Sequence[Mapping[str, Any]]
    outbox_by_generation: Sequence[Mapping[str, Any]]
    parked_by_lane: Sequence[Mapping[str, Any]]
    generations_kept: Sequence[Mapping[str, Any]]
    rows: Mapping[str, TableRows]
    unread: Mapping[str, str] = MappingProxyType({})
    """Tables whose rows cannot be counted -> why."""


_BOOKS: Final = (
    "ledger_books",
    "ledger_by_generation",
    "ledger_totals",
    "log_by_generation",
    "outbox_by_generation",
    "parked_by_lane",
    "generations_kept",
)


class OperationsDatabase:
    """The database as an operator sees it. Every call may raise what `pool.connection` raises."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lanes(self, aggregate: str | None = None, lane: int | None = None) -> list[LaneState]:
        """Return lanes by aggregate and partition; all of them, those of an aggregate, or one."""
        return [LaneState._make(row) for row in await self._fetch("lanes", aggregate, lane)]

    async def lane_of(self, aggregate: str, partition: int) -> int | None:
        """Return the id of a lane that is named by its partition."""
        rows = await self._fetch("lane_of_partition", aggregate, partition)
        return rows[0]["lane"] if rows else None

    async def ledger(self, lane: int, limit: int) -> list[LedgerEntry]:
        """Return the newest entries of a lane's ledger, newest first."""
        return [LedgerEntry._make(row) for row in await self._fetch("lane_ledger", lane, limit)]

    async def command(self, command_id: UUID) -> list[CommandEntry]:
        """Return the log's rows of a command: none or one, unless a restored database holds two histories."""
        return [CommandEntry._make(row) for row in await self._fetch("commands_logged", command_id)]

    async def repeats(self, command_id: UUID, limit: int) -> list[RepeatEntry]:
        """Return the records that repeated a command's id. Reads the whole log."""
        async with connection(self._pool) as borrowed, borrowed.transaction(readonly=True):
            await borrowed.execute("set local statement_timeout = 0")
            rows = await borrowed.fetch(_SQL["repeats_logged"], command_id, limit, timeout=_AUDIT_TIMEOUT_S)
        return [RepeatEntry._make(row) for row in rows]

    async def sent(self, lane: int, position: int) -> list[SentEntry]:
        """Return what the outbox holds of a position; nothing once its generation has left."""
        return [SentEntry._make(row) for row in await self._fetch("sent", lane, position)]

    async def dead_letters(
        self, *, aggregate: str | None, code: str | None, limit: int
    ) -> list[DeadLetterEntry]:
        """Return parked records, newest first."""
        rows = await self._fetch("dead_letters", aggregate, code, limit)
        return [DeadLetterEntry._make(row) for row in rows]

    async def dead_letter(self, lane: int, position: int) -> DeadLetter | None:
        """Return the record that a lane parked at a position, with its content."""
        return _dead_letter(await self._fetch("dead_letter", lane, position))

    async def dead_letter_of(self, topic: str, partition: int, offset: int) -> DeadLetter | None:
        """Return a parked record by where it came from; the newest, if a topic that was made anew had two such."""
        return _dead_letter(await self._fetch("dead_letter_of", topic, partition, offset))

    async def projections(self) -> list[ProjectionState]:
        """Return every projection that was ever started, with its live checkpoints and its halts."""
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
        """Return what others wrote into the lanes' topics, as far as anybody has met it."""
        return [ForeignRecords._make(row) for row in await self._fetch("foreign_records")]

    async def books(self, tables: Sequence[Table]) -> Books:
        """Return what the audit adds up, as of one moment; `tables` are those whose rows are counted."""
        async with (
            connection(self._pool) as borrowed,
            borrowed.transaction(isolation="repeatable_read", readonly=True),
        ):
            await borrowed.execute("set local statement_timeout = 0")  # it reads the whole log, on purpose
            held = await hold_chunks(borrowed, tables)
            lanes = await borrowed.fetch(_SQL["lanes"], None, None)
            found: dict[str, Any] = {
                name: await borrowed.fetch(_SQL[name], timeout=_AUDIT_TIMEOUT_S) for name in _BOOKS
            }
            readable = [table for table, why_not in held.items() if why_not is None]
            rows = await count_rows(borrowed, readable, timeout_s=_AUDIT_TIMEOUT_S)
        unread = {table_name(table): why_not for table, why_not in held.items() if why_not is not None}
        return Books(lanes=[LaneState._make(row) for row in lanes], rows=rows, unread=unread, **found)

    async def _fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async with connection(self._pool) as borrowed:
            return await borrowed.fetch(_SQL[statement], *arguments)


def _dead_letter(rows: Sequence[asyncpg.Record]) -> DeadLetter | None:
    if not rows:
        return None
    *entry, key, value, headers = rows[0]
    return DeadLetter(DeadLetterEntry._make(entry), key, value, headers_of(headers))
