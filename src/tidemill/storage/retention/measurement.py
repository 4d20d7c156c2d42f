"""Measures rows in the database: the columns of a copy, whether it can hold the values, and its proof.

Each function runs in the caller's transaction, which it needs: settings are pinned for its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg

from tidemill.domain.archive.digest import ROWS_VECTORS, VALUE_VECTORS, RowsVector, ValueVector
from tidemill.domain.archive.slices import LakeColumn, Measured, Refusal
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import ContractError
from tidemill.storage.database.pool import Connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.retention import digest_sql
from tidemill.storage.retention.digest_sql import Pauses, quoted
from tidemill.storage.retention.fidelity import Attribute, Shape, shape_of

SCAN_TIMEOUT_S: Final = 3600.0
PACED_TIMEOUT_S: Final = 24 * 3600.0
"""For a rate-limited scan: it takes hours."""

_PAUSES_PER_S: Final = 16
_GRACE_S: Final = 5.0  # the server's own deadline comes first, with a better message

_SQL = load_statements(Path(__file__).with_name("archive_columns.sql"))


async def columns_of(connection: Connection, table: str) -> Shape:
    """Return the columns of `table`, in its order. `table`: `schema.table` names unquoted, as in the catalogue.

    Raises:
        ContractError: there is no such table.
    """
    return shape_of(await _attributes(connection, table))


async def column_types(connection: Connection, table: str) -> dict[str, str]:
    """Return the type of each column of `schema.table`, in its order, whether a copy can hold it or not.

    Raises:
        ContractError: there is no such table.
    """
    return {each.name: each.pg_type for each in await _attributes(connection, table)}


async def _attributes(connection: Connection, table: str) -> list[Attribute]:
    relation = await relation_of(connection, table)
    path = await connection.fetchval("select current_setting('search_path')")
    # Names of types outside of pg_catalog then carry their schema, whatever the session's path.
    await connection.execute("set local search_path to pg_catalog")
    rows = await connection.fetch(_SQL["columns"], relation)
    await connection.execute("select set_config('search_path', $1, true)", path)
    return [Attribute(*row) for row in rows]


async def preflight(
    connection: Connection, columns: Sequence[LakeColumn], source: str, *, bytes_per_s: int | None = None
) -> list[Refusal]:
    """Return the columns with values that no copy can hold, and how many; empty if there are none.

    `bytes_per_s`: the fastest that rows are read; None: as fast as the server can.
    """
    pauses, timeout_s = await _pauses(connection, source, bytes_per_s)
    statement = digest_sql.preflight_sql(columns, source, pauses)
    if statement is None:
        return []
    counts = await _scan(connection, statement, timeout_s)
    checks = digest_sql.preflight_checks(columns)
    return [
        Refusal(check.column, f"{count} rows hold {check.reason}")
        for check, count in zip(checks, counts, strict=True)
        if count
    ]


async def measure(
    connection: Connection,
    columns: Sequence[LakeColumn],
    time_column: str,
    source: str,
    *,
    bytes_per_s: int | None = None,
) -> Measured:
    """Measure the rows of a source in one scan, read no faster than `bytes_per_s`."""
    pauses, timeout_s = await _pauses(connection, source, bytes_per_s)
    statement = digest_sql.digest_sql(columns, time_column, source, pauses)
    return Measured(*await _scan(connection, statement, timeout_s))


async def _pauses(
    connection: Connection, source: str, bytes_per_s: int | None
) -> tuple[Pauses | None, float]:
    """Return the pauses that limit a scan's rate, and its time-out; the width of rows is estimated."""
    if bytes_per_s is None:
        return None, SCAN_TIMEOUT_S
    width = (await _scan(connection, digest_sql.width_sql(source), SCAN_TIMEOUT_S))[0]
    rows_per_s = bytes_per_s / float(width or 1)
    every_rows = max(1, int(rows_per_s / _PAUSES_PER_S))
    return Pauses(every_rows, every_rows / rows_per_s), PACED_TIMEOUT_S


async def columns_with_values(
    connection: Connection,
    table: str,
    sealed: Sequence[LakeColumn],
    source: str,
    *,
    timeout_s: float = SCAN_TIMEOUT_S,
) -> tuple[LakeColumn, ...]:
    """Return the columns that a copy of the source must hold now, if those of its seal were `sealed`.

    These are the same ones, unless the table was altered: a new column counts if any row has a value in it,
    or the value would leave without a copy. Of dropped or retyped columns, the present state counts.

    Raises:
        ContractError: a new column has values, and no copy can hold its type.
    """
    shape = await columns_of(connection, table)
    known = {column.name: column.pg_type for column in sealed}
    now = {column.name: column for column in shape.columns}
    newer = [name for name in (*now, *(each.column for each in shape.refused)) if name not in known]
    filled = await _with_values(connection, newer, source, timeout_s)
    for each in shape.refused:
        if each.column in filled:
            raise ContractError(
                f"{table} has a new column {each.column} with values in rows that are sealed; {each.reason}: "
                "open the range again by `tidemill retention release`"
            )
    same = all(name in now and now[name].pg_type == pg_type for name, pg_type in known.items())
    kept = tuple(sealed) if same else tuple(column for name, column in now.items() if name in known)
    return (*kept, *(now[name] for name in newer if name in filled))


async def _with_values(
    connection: Connection, names: Sequence[str], source: str, timeout_s: float
) -> set[str]:
    if not names:
        return set()
    tests = ", ".join(f"coalesce(bool_or({quoted(name)} is not null), false)" for name in names)
    found = await _scan(connection, f"select {tests} from {source} as source", timeout_s)
    return {name for name, has in zip(names, found, strict=True) if has}


async def check_vectors(connection: Connection) -> None:
    """Check that this server computes the published digests.

    Raises:
        ContractError: it computes others, so nothing must be archived from it.
    """
    encoding = await connection.fetchval(_SQL["encoding"])
    if encoding != "UTF8":
        raise ContractError(
            f"the database is encoded as {encoding}: archiving needs UTF8, since the digest is over UTF-8 bytes"
        )
    for value in VALUE_VECTORS:
        _agree(f"{value.literal!r} as {value.pg_type}", value.hash, await _hash(connection, value))
    for number, rows in enumerate(ROWS_VECTORS, start=1):
        found = await measure(connection, rows.columns, "c0", rows_sql(rows))
        _agree(f"the rows of vector {number}", rows.digest, found.digest)


def rows_sql(vector: RowsVector) -> str:
    """Return a source whose rows, with columns c0, c1, ..., are those of a vector."""
    names = ", ".join(f"c{index}" for index in range(len(vector.pg_types)))
    rows = ", ".join(f"({', '.join(map(literal_sql, row, vector.pg_types))})" for row in vector.rows)
    values = (
        f"values {rows}"
        if rows
        else f"select {', '.join(f'null::{kind}' for kind in vector.pg_types)} where false"
    )
    return f"(select * from ({values}) as vector({names}))"


def literal_sql(literal: str | None, pg_type: str) -> str:
    """Return a literal as SQL takes it, NULL for None."""
    return f"null::{pg_type}" if literal is None else f"'{literal.replace(chr(39), chr(39) * 2)}'::{pg_type}"


async def relation_of(connection: Connection, table: str) -> int:
    """Return the oid of `schema.table`.

    Raises:
        ContractError: there is no such table.
    """
    schema, _, name = table.partition(".")
    found: int | None = await connection.fetchval(
        "select to_regclass($1)::oid", f"{quoted(schema)}.{quoted(name)}"
    )
    if found is None:
        raise ContractError(
            f"there is no table {table}: {ErrorCode.DATABASE_DIFFERS.advice}, or the retention that names it is wrong"
        )
    return found


async def _scan(connection: Connection, statement: str, timeout_s: float) -> asyncpg.Record:
    if not connection.is_in_transaction():
        raise RuntimeError("measuring pins settings for a transaction's length: there is none")
    await connection.execute(digest_sql.pin_settings_sql())
    # One core: concurrent writers need the others more than the archive does.
    await connection.execute(
        "select set_config('statement_timeout', $1, true), set_config('max_parallel_workers_per_gather', '0', true)",
        str(int(timeout_s * 1000)),
    )
    row = await connection.fetchrow(statement, timeout=timeout_s + _GRACE_S)
    assert row is not None  # an aggregate without GROUP BY gives a row
    return row


async def _hash(connection: Connection, vector: ValueVector) -> str:
    source = f"(select {literal_sql(vector.literal, vector.pg_type)} as c0) as source"
    hashed = f"hash_record_extended(row({digest_sql.hashed_sql(vector.columns[0])}), 0)"
    row = await _scan(connection, f"select lpad(to_hex({hashed}), 16, '0') from {source}", SCAN_TIMEOUT_S)
    return str(row[0])


def _agree(what: str, published: str, found: str) -> None:
    if published != found:
        raise ContractError(
            f"this PostgreSQL computes other hashes than the published ones: {what} gives {found}, not {published}. "
            "Nothing can be archived from it; see docs/archival.md, The digest"
        )
