"""The SQL that reads, checks and measures the rows of a copy, made from its columns.

A *source* is a FROM item without an alias: a quoted table, or a SELECT in parentheses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from tidemill.domain.archive.digest import DIGEST_VERSION
from tidemill.domain.archive.slices import LakeColumn, LakeType

PINNED: Final[Mapping[str, str]] = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    "array_nulls": "on",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "row_security": "off",
    "transaction_timeout": "0",
    "timescaledb.enable_transparent_decompression": "on",
}
"""Settings that values and their text depend on, whatever those of database, login and environment are.

`row_security` off: the server refuses a login that may not read all rows, and does not leave some of them out.
A server that does not know a setting cannot be misled by it.
"""

_CAST: Final = {
    LakeType.BOOLEAN: "bool",
    LakeType.INT16: "int2",
    LakeType.INT32: "int4",
    LakeType.INT64: "int8",
    LakeType.FLOAT32: "float4",
    LakeType.FLOAT64: "float8",
    LakeType.TEXT: "text",
    LakeType.BYTES: "bytea",
    LakeType.UUID: "uuid",
    LakeType.DATE: "date",
    LakeType.TIME: "time",
    LakeType.TIMESTAMP: "timestamp",
    LakeType.INSTANT: "timestamptz",
}

# Only types that PostgreSQL hashes by their bytes may be in the hashed row: int4, bytea, text, uuid. Its
# int8 hash folds both halves into 32 bits first, and its float hash takes -0 for 0; `send` gives their bytes instead.
_HASHED: Final = {
    LakeType.BOOLEAN: "{}::int4",
    LakeType.INT16: "{}::int4",
    LakeType.INT32: "{}",
    LakeType.INT64: "int8send({})",
    LakeType.FLOAT32: "float4send({})",
    LakeType.FLOAT64: "float8send({})",
    LakeType.TEXT: '{} collate "C"',
    LakeType.BYTES: "{}",
    LakeType.UUID: "{}",
    LakeType.DATE: "date_send({})",
    LakeType.TIME: "time_send({})",
    LakeType.TIMESTAMP: "timestamp_send({})",
    LakeType.INSTANT: "timestamptz_send({})",
}

_SAMPLE: Final = 200
"""Rows from which the width of all is guessed."""

_DIGEST: Final = """
select row_count, '{version}:' || lpad(to_hex(
        (case when low >= 9223372036854775808 then low - 18446744073709551616 else low end)::int8), 16, '0')
    || ':' || lpad(to_hex(xored), 16, '0') as digest, min_time, max_time
from (
    select count(*) as row_count, coalesce(bit_xor(hash), 0) as xored,
        mod(mod(coalesce(sum(hash), 0), 18446744073709551616) + 18446744073709551616, 18446744073709551616) as low,
        {least} as min_time, {greatest} as max_time
    from (
        select {time} as at, hash_record_extended(row(int8send(hash_record_extended(row({hashed}), 0))), 0) as hash
            {pauses}
        from {source} as source
        offset 0  -- a fence: without it each aggregate would hash every row again
    ) as hashes
) as sums
"""


class Pauses(NamedTuple):
    """A scan with pauses: of `pause_s` after every `every_rows` rows."""

    every_rows: int
    pause_s: float

    def sql(self) -> str:
        """Return the expression that pauses; it is volatile, so that no plan leaves it out."""
        due = f"(row_number() over ()) % {self.every_rows} = 0"
        return f"case when {due} then pg_sleep({self.pause_s:.6f}) end as paused"


class Check(NamedTuple):
    """A count of preflight for a column: rows for which `condition` holds."""

    column: str
    condition: str
    reason: str


def pin_settings_sql() -> str:
    """Return the statement that fixes what values and their text depend on, until the transaction ends."""
    pinned = ", ".join(f"('{name}', '{value}')" for name, value in PINNED.items())
    return (
        f"select set_config(name, value, true) from (values {pinned}) as pinned(name, value) "
        "where current_setting(name, true) is not null"
    )


def select_list(columns: Sequence[LakeColumn]) -> str:
    """Return the expressions that give a copy's columns, casts included, each under its name."""
    return ", ".join(f"{value_sql(column)} as {quoted(column.name)}" for column in columns)


def read_sql(columns: Sequence[LakeColumn], source: str) -> str:
    """Return the SELECT that gives exactly the copy's columns and rows."""
    return f"select {select_list(columns)} from {source} as source"


def preflight_checks(columns: Sequence[LakeColumn]) -> list[Check]:
    """Return the counts, in the order of `preflight_sql`'s result."""
    return [check for column in columns if not column.by_text for check in _checks(column)]


def preflight_sql(columns: Sequence[LakeColumn], source: str, pauses: Pauses | None = None) -> str | None:
    """Return a SELECT of one row that counts the values that cannot be held; None if every value can."""
    checks = preflight_checks(columns)
    counts = ", ".join(f"count(*) filter (where {check.condition})" for check in checks)
    if pauses is not None:
        source = f"(select *, {pauses.sql()} from {source} as unpaced offset 0)"
    return f"select {counts} from {source} as source" if checks else None


def width_sql(source: str) -> str:
    """Return a SELECT of the mean width of some rows in bytes, NULL if there is none."""
    return f"select avg(pg_column_size(few.*)) from (select * from {source} as source limit {_SAMPLE}) as few"


def digest_sql(
    columns: Sequence[LakeColumn], time_column: str, source: str, pauses: Pauses | None = None
) -> str:
    """Return a SELECT of one row `row_count, digest, min_time, max_time`, as `Measured`, in one scan."""
    time = next(column for column in columns if column.name == time_column)
    return _DIGEST.format(
        version=DIGEST_VERSION,
        least=_instant("min(at)", time.type),
        greatest=_instant("max(at)", time.type),
        time=value_sql(time),
        hashed=", ".join(hashed_sql(column) for column in columns),
        pauses="" if pauses is None else f", {pauses.sql()}",
        source=source,
    )


def value_sql(column: LakeColumn) -> str:
    """Return the expression that gives a copy's column: the type below all domains, or its text."""
    if column.type is LakeType.DECIMAL:
        return f"{quoted(column.name)}::numeric({column.precision},{column.scale})"
    return f"{quoted(column.name)}::{_CAST[column.type]}"


def hashed_sql(column: LakeColumn) -> str:
    """Return the expression whose bytes are hashed for a column."""
    if column.type is LakeType.DECIMAL:
        return f'trunc({value_sql(column)} * {10**column.scale}::numeric)::text collate "C"'
    return _HASHED[column.type].format(value_sql(column))


def quoted(identifier: str) -> str:
    """Return an identifier as SQL takes it."""
    return '"' + identifier.replace('"', '""') + '"'


def _checks(column: LakeColumn) -> Iterator[Check]:
    value = value_sql(column)
    if column.type in (LakeType.DATE, LakeType.TIMESTAMP, LakeType.INSTANT):
        kind, zone = _CAST[column.type], "+00" if column.type is LakeType.INSTANT else ""
        midnight = "" if column.type is LakeType.DATE else f" 00:00:00{zone}"
        first, beyond = f"{kind} '0001-01-01{midnight}'", f"{kind} '10000-01-01{midnight}'"
        yield Check(column.name, f"not isfinite({value})", "infinity")
        outside = f"isfinite({value}) and ({value} < {first} or {value} >= {beyond})"
        yield Check(column.name, outside, "a year outside of 0001 to 9999")
    elif column.type is LakeType.TIME:
        yield Check(column.name, f"{value} = time '24:00'", "24:00 as a time of day")
    elif column.type is LakeType.DECIMAL:
        never = "'NaN'::numeric, 'Infinity'::numeric, '-Infinity'::numeric"
        yield Check(column.name, f"{value} in ({never})", "NaN or infinity in a decimal")


def _instant(value: str, kind: LakeType) -> str:
    """Return a time column's value as timestamptz, in UTC without a zone, within the range of a Python datetime.

    A copy never holds what is cut off here, and a row that an external writer added still shows in the digest.
    """
    instant = value if kind is LakeType.INSTANT else f"({value}::timestamp at time zone 'UTC')"
    first, last = "timestamptz '0001-01-01 00:00:00+00'", "timestamptz '9999-12-31 23:59:59.999999+00'"
    return f"case when {value} is not null then least(greatest({instant}, {first}), {last}) end"
