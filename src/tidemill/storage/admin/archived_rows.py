"""Where the rows of archived tables are, for operators, metrics and the audit: `admin.ports.HoldingsReader`.

Reads only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tidemill.admin.rows import Holdings, SliceCount, TableRows
from tidemill.domain.archive.slices import ArchiveState
from tidemill.domain.errors import TableMisfit
from tidemill.domain.table_shape import TableShape, plain_name
from tidemill.storage.database.errors import on_tables
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.database.table_sql import table_name

_SQL: Final = load_statements(Path(__file__).with_name("holdings.sql"))
_S: Final = ArchiveState


class HoldingsDatabase:
    """The database for questions about archived rows."""

    def __init__(self, pool: Lender) -> None:
        """`pool`: of any login of the service."""
        self._pool = pool

    async def holdings(self, tables: Sequence[str]) -> list[Holdings]:
        async with (
            connection(self._pool) as borrowed,
            borrowed.transaction(isolation="repeatable_read", readonly=True),
        ):
            counts = await slice_counts(borrowed, tables)
            late = await _late_tables(borrowed, tables)
            diverted = await _late_rows(borrowed, late)
            hot = {row["table_name"]: row for row in await borrowed.fetch(_SQL["hot"], tables)}
            times = {
                row["table_name"]: row["times"] for row in await borrowed.fetch(_SQL["mismatches"], tables)
            }
        return [
            Holdings(
                table=table,
                slices=counts.get(table, []),
                diverted_rows=diverted.get(table, 0),
                hot_bytes=hot[table]["bytes"] if table in hot else 0,
                late_bytes=late[table][1] if table in late else 0,
                lake_bytes=sum(each.lake_bytes for each in counts.get(table, ()) if each.stage in _LEFT),
                oldest_end=hot[table]["oldest_end"] if table in hot else None,
                mismatches=times.get(table, 0),
            )
            for table in tables
        ]


_LEFT: Final = frozenset({_S.DROPPED, _S.RESTORED})


async def hold_chunks(borrowed: Connection, tables: Sequence[TableShape]) -> dict[TableShape, str | None]:
    """Prevent drops of chunks until the transaction ends. Call it before the transaction's first query.

    A drop removes the rows from every snapshot, also from those that still have the slice in the registry; this
    reader's lock keeps the two consistent. Returns the tables; with the reason where one cannot be read.
    """
    held: dict[TableShape, str | None] = dict.fromkeys(tables)
    for table in tables:
        try:
            async with borrowed.transaction():  # a savepoint: a missing table does not affect the others
                with on_tables():
                    await borrowed.execute(f"lock table {table_name(table)} in access share mode")
        except TableMisfit as misfit:
            held[table] = misfit.detail
    return held


async def count_rows(
    borrowed: Connection, tables: Sequence[TableShape], *, timeout_s: float
) -> dict[str, TableRows]:
    """Return where the rows of these tables are, in this transaction, by the table's quoted name."""
    plain = {plain_name(table): table_name(table) for table in tables}
    counts = await slice_counts(borrowed, list(plain))
    late = await _late_tables(borrowed, list(plain))
    diverted = await _late_rows(borrowed, late, timeout_s=timeout_s)
    found = {}
    for name, quoted in plain.items():
        found[quoted] = TableRows(
            in_table=await borrowed.fetchval(f"select count(*) from {quoted}", timeout=timeout_s),
            archived=sum(each.rows for each in counts.get(name, ()) if each.stage in _LEFT),
            restored=sum(each.rows for each in counts.get(name, ()) if each.stage is _S.RESTORED),
            diverted=diverted.get(name, 0),
        )
    return found


async def slice_counts(borrowed: Connection, tables: Sequence[str]) -> Mapping[str, list[SliceCount]]:
    """Return the slices by table and state."""
    found: dict[str, list[SliceCount]] = defaultdict(list)
    for table, state, held_from, *numbers in await borrowed.fetch(_SQL["slice_counts"], tables):
        held = ArchiveState(held_from) if held_from else None
        found[table].append(SliceCount(table, ArchiveState(state), held, *numbers))
    return found


async def _late_tables(borrowed: Connection, tables: Sequence[str]) -> dict[str, tuple[str, int]]:
    rows = await borrowed.fetch(_SQL["late_tables"], tables)
    return {row["table_name"]: (row["late"], row["bytes"]) for row in rows}


async def _late_rows(
    borrowed: Connection, late: Mapping[str, tuple[str, int]], *, timeout_s: float | None = None
) -> dict[str, int]:
    return {
        table: await borrowed.fetchval(f"select count(*) from {name}", timeout=timeout_s)
        for table, (name, _) in late.items()
    }
