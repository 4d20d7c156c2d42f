"""Restores the rows of a copy by COPY. Values are text that PostgreSQL itself parses, whatever their types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tidemill.domain.archive.slices import CopyPart, LakeColumn, LakeType
from tidemill.runtime.threads import in_thread
from tidemill.storage.database.pool import Connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.retention import digest_sql
from tidemill.storage.retention.digest_sql import quoted
from tidemill.storage.retention.measurement import SCAN_TIMEOUT_S, relation_of

_SQL = load_statements(Path(__file__).with_name("archive_columns.sql"))
_PIECE_BYTES: Final = 1 << 20
_BESIDE: Final = "tm_restored"
_FLOATS: Final = {LakeType.FLOAT32: "float4", LakeType.FLOAT64: "float8"}


async def restore_batches(
    connection: Connection,
    table: str,
    columns: Sequence[LakeColumn],
    parts: Iterator[CopyPart],
    *,
    timeout_s: float = SCAN_TIMEOUT_S,
    read_timeout_s: float = SCAN_TIMEOUT_S,
) -> int:
    """COPY `parts` into `table` (`schema.table`), in the caller's transaction; return the number of rows.

    `parts` is advanced in a thread, one part ahead; its instants are in UTC. A generated column is
    generated again. The transaction's `statement_timeout` is `timeout_s` from then on; `read_timeout_s` is for
    each part.

    Raises:
        Unavailable: the lake did not give a part in time.
    """
    relation = await relation_of(connection, table)
    generated = {row[0] for row in await connection.fetch(_SQL["generated"], relation)}
    await connection.execute(digest_sql.pin_settings_sql())
    await connection.execute("select set_config('statement_timeout', $1, true)", str(int(timeout_s * 1000)))
    schema, _, name = table.partition(".")
    feed = _Feed(parts, read_timeout_s)
    if not generated:
        return await _copy(connection, schema, name, columns, feed, timeout_s)
    whole = f"{quoted(schema)}.{quoted(name)}"
    await connection.execute(f"create temporary table {_BESIDE} (like {whole}) on commit drop")
    count = await _copy(connection, "pg_temp", _BESIDE, columns, feed, timeout_s)
    names = ", ".join(quoted(column.name) for column in columns if column.name not in generated)
    statement = f"insert into {whole} ({names}) select {names} from pg_temp.{_BESIDE}"
    await connection.execute(statement, timeout=timeout_s)
    await connection.execute(f"drop table pg_temp.{_BESIDE}")
    return count


async def _copy(
    connection: Connection,
    schema: str,
    name: str,
    columns: Sequence[LakeColumn],
    feed: _Feed,
    timeout_s: float,
) -> int:
    await connection.copy_to_table(
        name,
        schema_name=schema,
        source=feed.csv(),
        columns=[column.name for column in columns],
        format="csv",
        timeout=timeout_s,
    )
    if feed.beside:
        await connection.executemany(
            _insert_sql(f"{quoted(schema)}.{quoted(name)}", columns), feed.beside, timeout=timeout_s
        )
    return feed.row_count


class _Feed:
    """Takes parts in a thread, one ahead of what COPY has sent."""

    def __init__(self, parts: Iterator[CopyPart], timeout_s: float) -> None:
        """`timeout_s`: for each part."""
        self._parts = parts
        self._timeout_s = timeout_s
        self.row_count = 0
        self.beside: list[tuple[float | str | None, ...]] = []

    async def csv(self) -> AsyncIterator[bytes]:
        waiting = asyncio.create_task(self._next())
        try:
            while (part := await waiting) is not None:
                waiting = asyncio.create_task(self._next())
                self.row_count += part.row_count
                self.beside += part.rows
                for start in range(0, len(part.csv), _PIECE_BYTES):
                    yield part.csv[start : start + _PIECE_BYTES]
        finally:
            if not waiting.done():  # the thread must leave the iterator before it may be closed
                await asyncio.wait([waiting])

    async def _next(self) -> CopyPart | None:
        return await in_thread(partial(next, self._parts, None), server="lake", timeout_s=self._timeout_s)


def _insert_sql(target: str, columns: Sequence[LakeColumn]) -> str:
    """Return an INSERT with floats as their bits, and all else as text."""
    values = [
        f"${number}::{_FLOATS[column.type]}"
        if column.type in _FLOATS
        else f"${number}::text::{column.pg_type}"
        for number, column in enumerate(columns, start=1)
    ]
    names = ", ".join(quoted(column.name) for column in columns)
    return f"insert into {target} ({names}) values ({', '.join(values)})"
