"""What left for the archive: `queries.ports.ArchivedSpanReader`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from tidemill.queries.ports import ArchiveMark, TimeSpan
from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.database.table_sql import quoted

_SQL = load_statements(Path(__file__).with_name("archived.sql"))


@lru_cache(maxsize=1_000)
def late_table(table: str) -> str:
    """Return where late rows of `schema.table` are kept, quoted."""
    return f"tm_late.{quoted(table.replace('.', '__'))}"


@lru_cache(maxsize=1_000)
def spans_left(table: str, *, has_late: bool) -> str:
    """Return the statement for the spans that left, merged and within the span that is asked for.

    Its parameters are those of `ranges_left`. `has_late`: rows for a closed range are not in the table either.
    """
    ranges = _SQL["ranges_left"]
    if has_late:
        ranges += (
            "\nunion all\nselect range_start, range_end from tm.archive a\nwhere a.table_name = $1 and a.closed "
            f"and exists (select from {late_table(table)} late where late.tm_range_start = a.range_start)"
        )
    return (
        "select lower(span) as start, upper(span) as end from unnest((\n"
        f"select range_agg(tstzrange(range_start, range_end)) from (\n{ranges}\n) ranges\n"
        ") * multirange(tstzrange($3, $4))) as span order by 1"
    )


class ArchivedSpanDatabase:
    """Asks the registry and the log."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def mark(self, table: str) -> ArchiveMark:
        async with connection(self._pool) as borrowed:
            (row,) = await borrowed.fetch(_SQL["archive_mark"], late_table(table))
        return ArchiveMark(row["entry"], row["has_late"])

    async def left(self, table: str, mark: ArchiveMark, span: TimeSpan) -> Sequence[TimeSpan]:
        statement = spans_left(table, has_late=mark.has_late)
        async with connection(self._pool) as borrowed:
            rows = await borrowed.fetch(statement, table, mark.entry, *span)
        return [TimeSpan(*row) for row in rows]

    async def was_applied(self, aggregate: str, command_id: UUID) -> bool:
        async with connection(self._pool) as borrowed:
            known: bool = await borrowed.fetchval(_SQL["command_applied"], command_id, aggregate)
        return known
