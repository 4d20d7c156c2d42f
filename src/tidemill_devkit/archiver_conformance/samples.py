"""A value or more of every type that a copy holds, and the table of them, for testing an archiver."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tidemill.storage.retention.digest_sql import quoted

TIME_COLUMN: Final = "at"

PREPARATION: Final = (
    "create type public.sample_mood as enum ('ok', 'so so', 'très bien')",
    "create domain public.sample_count as int4 check (value > 0)",
)


class Sample(NamedTuple):
    """A type of PostgreSQL and literals of it, edge cases included."""

    pg_type: str
    literals: tuple[str, ...]

    @property
    def column(self) -> str:
        """Return the name of its column."""
        plain = self.pg_type.removeprefix("public.").replace("[]", "_array").replace('"char"', "byte")
        return re.sub(r"\W+", "_", f"a_{plain}").strip("_")


EXACT: Final = (
    Sample("boolean", ("true", "false")),
    Sample("smallint", ("-32768", "32767", "0")),
    Sample("integer", ("-2147483648", "2147483647", "0")),
    Sample("bigint", ("-9223372036854775808", "9223372036854775807", "4294967296")),
    Sample("real", ("-0", "NaN", "Infinity", "1e-45", "16777217", "0.1")),
    Sample("double precision", ("-0", "NaN", "-Infinity", "5e-324", "1e22", "0.1")),
    Sample("numeric(18,4)", ("-0.0001", "99999999999999.9999", "5", "0")),
    Sample("numeric(38,20)", ("1e-20", "-999999999999999999.99999999999999999999")),
    Sample("text", ("", 'a,b\n"c"\\', "NULL", "Grüße, 世界 🌍", " ", "x" * 5_000)),
    Sample("varchar(10)", ("", "0123456789", " a ")),
    Sample("bytea", ("", "\\x00", "\\x00ff5c2e0a")),
    Sample("uuid", ("00000000-0000-0000-0000-000000000000", "6f9619ff-8b86-d011-b42d-00c04fc964ff")),
    Sample("date", ("0001-01-01", "9999-12-31", "1999-12-31", "2024-02-29")),
    Sample("time", ("00:00", "23:59:59.999999", "12:34:56.000001")),
    Sample("timestamp", ("0001-01-01 00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999")),
    Sample("timestamptz", ("0001-01-01 00:00+00", "9999-12-31 23:59:59.999999+00", "2026-03-29 03:30+02")),
    Sample("public.sample_count", ("1", "2147483647")),
)
"""Types whose values a copy holds unchanged, a domain over one of them at the end."""

BY_TEXT: Final = (
    Sample("numeric", ("1.10", "NaN", "-Infinity", "1e100", "-0.000000000001")),
    Sample("interval", ("1 mon 2 days 03:04:05", "-1 mon +2 days -03:04:05.000001", "0")),
    Sample("timetz", ("12:34:56.789+05:30", "24:00:00-15:59")),
    Sample("json", ('{"a": 1,   "a":2}', "null")),
    Sample("jsonb", ('{"b": [1,2], "a": null}', "1e400")),
    Sample("jsonpath", ("$.a[*] ? (@ > 1)",)),
    Sample("xml", ("<a>1</a>", "no <b/> element")),
    Sample("char(5)", ("ab", "", "é")),
    Sample('"char"', ("a", "")),
    Sample("name", ("a name", "")),
    Sample("oid", ("0", "4294967295")),
    Sample("inet", ("10.0.0.1/8", "::1")),
    Sample("cidr", ("10.0.0.0/8", "2001:db8::/32")),
    Sample("macaddr", ("08:00:2b:01:02:03",)),
    Sample("macaddr8", ("08:00:2b:01:02:03:04:05",)),
    Sample("bit(5)", ("10101", "00000")),
    Sample("varbit", ("", "101")),
    Sample("pg_lsn", ("16/B374D848",)),
    Sample("tsvector", ("'a':1A 'cat':5", "")),
    Sample("tsquery", ("'a' & !'b'",)),
    Sample("point", ("(0.1,-1e-300)",)),
    Sample("line", ("{1,-1,0.5}",)),
    Sample("lseg", ("[(0,0),(0.1,1)]",)),
    Sample("box", ("(1,1),(0.1,0)",)),
    Sample("path", ("[(0,0),(0.1,1)]", "((0,0),(1,1))")),
    Sample("polygon", ("((0,0),(0.1,1),(1,1))",)),
    Sample("circle", ("<(0.1,0),2>",)),
    Sample("public.sample_mood", ("ok", "très bien")),
    Sample("integer[]", ("{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={1,2}")),
    Sample("text[]", ('{"",NULL,"NULL","a b","{"}',)),
    Sample("tstzrange", ("[2026-01-01 00:00+05,2026-01-02 00:00+00)", "empty")),
    Sample("datemultirange", ("{[2026-01-01,2026-01-03),[2026-02-01,)}", "{}")),
)
"""Types that a copy holds by their text: an enum, arrays, a range and a multirange at the end."""

SAMPLES: Final = (*EXACT, *BY_TEXT)

ROWS: Final = max(len(sample.literals) for sample in SAMPLES) + 1
"""How many rows show every literal once; the last one has NULL in every column but the time."""


def create_sql(table: str) -> str:
    """Return the SQL of a table with a column for every type."""
    columns = ", ".join(f"{quoted(sample.column)} {sample.pg_type}" for sample in SAMPLES)
    return f"create table {table} ({quoted(TIME_COLUMN)} timestamptz not null, {columns})"


def rows_sql(start: str) -> str:
    """Return a SELECT of the rows, `ROWS` of them, ten minutes apart from `start`, which is SQL."""
    rows = (f"select {start} + interval '10 min' * {number}, {_values(number)}" for number in range(ROWS))
    return " union all ".join(rows)


def column_list() -> str:
    """Return the columns in the order of `rows_sql`."""
    return ", ".join([quoted(TIME_COLUMN), *(quoted(sample.column) for sample in SAMPLES)])


def _values(number: int) -> str:
    return ", ".join(_literal(sample, number) for sample in SAMPLES)


def _literal(sample: Sample, number: int) -> str:
    if number >= len(sample.literals):
        return f"null::{sample.pg_type}"
    return f"'{sample.literals[number].replace(chr(39), chr(39) * 2)}'::{sample.pg_type}"
