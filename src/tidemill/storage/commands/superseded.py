"""Superseded facts on TimescaleDB: where they may be removed, whose they are, and their removal.

A row of a hypertable has no unique place, since each chunk numbers its own, and a statement about all of them would
lock hundreds: so each statement is about one chunk, by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import asyncpg

from tidemill.commands.superseded_ports import OwnerOfFacts, SupersededFacts, TablePart
from tidemill.domain.table_shape import TableShape, plain_name
from tidemill.storage.database import superseded_sql
from tidemill.storage.database.errors import on_tables
from tidemill.storage.database.pool import Connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.database.table_sql import table_name

_SQL: Final = load_statements(Path(__file__).with_name("superseded.sql"))
_CLOSED: Final = load_statements(Path(__file__).with_name("commands.sql"))["closed_ranges"]
_INSTANT: Final = timedelta(microseconds=1)


async def removable_parts(borrowed: Connection, table: TableShape) -> list[TablePart]:
    """See `SupersededOwners`."""
    rows = await borrowed.fetch(_SQL["removable_parts"], plain_name(table), table_name(table))
    return [TablePart(*row) for row in rows]


async def owners(
    borrowed: Connection, superseded: SupersededFacts, after: str, limit: int
) -> list[OwnerOfFacts]:
    """See `SupersededOwners`; none where the chunk was dropped since it was listed."""
    facts, owner, part = superseded
    with on_tables():
        try:
            rows = await borrowed.fetch(superseded_sql.select_owners(facts, owner, part.name), after, limit)
        except asyncpg.UndefinedTableError:
            if part.start is None:
                raise
            return []
    return [OwnerOfFacts(*row) for row in rows]


async def remove(
    borrowed: Connection, superseded: SupersededFacts, keys: Sequence[str], limit: int
) -> dict[str, int]:
    """See `SupersededWork`."""
    facts, owner, part = superseded
    if not await _stays_removable(borrowed, facts.table, part):
        return {}
    with on_tables():
        rows = await borrowed.fetch(superseded_sql.delete_superseded(facts, owner, part.name), keys, limit)
    return {row[0]: row[1] for row in rows}


async def _stays_removable(borrowed: Connection, table: TableShape, part: TablePart) -> bool:
    """Tell whether the part is still removable, sharing the lock that a seal and a hold take alone, like a batch.

    The two statements are in this order, since the second one's snapshot must be taken under that lock.
    """
    if part.start is None or part.end is None:
        return True
    await borrowed.fetch(_CLOSED, plain_name(table), part.start, part.end - _INSTANT)
    return part in await removable_parts(borrowed, table)
