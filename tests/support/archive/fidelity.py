"""PostgreSQL's types with values at their edges: what a copy must give back as it was."""

from dataclasses import dataclass

PREPARATION = (
    "create type mood as enum ('ok', 'so so', 'très bien')",
    "create domain posint as int4 check (value > 0)",
    "create domain larger as posint check (value < 1000000)",
    "create domain label as text",
    "create domain price as numeric(10, 2)",
    "create type pair as (a int4, b text)",
    "create type cash_range as range (subtype = money)",
    "create domain cash as money",
    'create schema "Odd ""place"""',
    'create type "Odd ""place""".text as enum (\'no text\')',
)


@dataclass(frozen=True)
class Sample:
    """A type and literals of it; `lake` is the type of the copy, `text` for what is held by its text."""

    name: str
    pg_type: str
    lake: str
    literals: tuple[str, ...]


def _texts() -> tuple[str, ...]:
    every_length = tuple(("é" * length)[: length // 2] + "x" * (length - length // 2) for length in range(41))
    odd = (
        "\\",
        "\\N",
        "\\.",
        "a\n\\.\nb",
        '"',
        '""',
        ",",
        "a,b",
        "\r\n",
        "\t",
        "NULL",
        " ",
        "'",
        "日本語 🌍",
        "\x01\x7f",
    )
    return every_length + odd + ("z" * 100_000, "ü" * 3000)


SAMPLES = (
    Sample("boolean", "boolean", "boolean", ("true", "false")),
    Sample("int2", "int2", "int16", ("-32768", "32767", "0", "-1")),
    Sample("int4", "int4", "int32", ("-2147483648", "2147483647", "0", "-1")),
    Sample(
        "int8", "int8", "int64", ("-9223372036854775808", "9223372036854775807", "0", "-1", "1", "4294967296")
    ),
    Sample(
        "float4",
        "float4",
        "float32",
        (
            "0",
            "-0",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e-45",
            "-3.4028235e38",
            "0.1",
            "16777217",
            "1.17549435e-38",
        ),
    ),
    Sample(
        "float8",
        "float8",
        "float64",
        (
            "0",
            "-0",
            "NaN",
            "Infinity",
            "-Infinity",
            "5e-324",
            "-1.7976931348623157e308",
            "0.1",
            "1e22",
            "123456.789",
        ),
    ),
    Sample(
        "numeric18",
        "numeric(18, 4)",
        "decimal",
        ("0", "-0.0001", "99999999999999.9999", "-99999999999999.9999", "5"),
    ),
    Sample(
        "numeric38",
        "numeric(38, 20)",
        "decimal",
        ("0", "1e-20", "-999999999999999999.99999999999999999999", "1"),
    ),
    Sample(
        "numeric_whole", "numeric(38)", "decimal", ("0", "9" * 38, "-" + "9" * 38, "18446744073709551616")
    ),
    Sample("numeric_fraction", "numeric(5, 5)", "decimal", ("0", "0.00001", "-0.99999")),
    Sample(
        "numeric",
        "numeric",
        "text",
        ("0", "1.10", "NaN", "Infinity", "-Infinity", "1e100", "-0.000000000001"),
    ),
    Sample("numeric_long", "numeric(60, 10)", "text", ("9" * 50 + ".0000000001", "NaN")),
    Sample("numeric_rounded", "numeric(5, -2)", "text", ("1234500", "0")),
    Sample("numeric_tiny", "numeric(3, 5)", "text", ("0.00123", "NaN")),
    Sample("text", "text", "text", _texts()),
    Sample("varchar", "varchar(10)", "text", ("", "0123456789", " a ")),
    Sample("bytea", "bytea", "bytes", ("", "\\x00", "\\x00ff5c2e0a", "\\x" + "ab" * 5000)),
    Sample(
        "uuid",
        "uuid",
        "uuid",
        ("00000000-0000-0000-0000-000000000000", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
    ),
    Sample(
        "date",
        "date",
        "date",
        ("0001-01-01", "9999-12-31", "2000-01-01", "1999-12-31", "1970-01-01", "2024-02-29"),
    ),
    Sample("time", "time", "time", ("00:00", "23:59:59.999999", "12:34:56.000001")),
    Sample(
        "timestamp",
        "timestamp",
        "timestamp",
        ("0001-01-01 00:00", "9999-12-31 23:59:59.999999", "2000-01-01 00:00", "1969-12-31 23:59:59.999999"),
    ),
    Sample(
        "timestamptz",
        "timestamptz",
        "instant",
        (
            "0001-01-01 00:00+00",
            "9999-12-31 23:59:59.999999+00",
            "2026-03-29 01:30:00.000001+00",
            "2026-03-29 03:30:00+02",
            "1999-12-31 23:59:59.999999+00",
        ),
    ),
    Sample(
        "interval",
        "interval",
        "text",
        (
            "1 mon 2 days 03:04:05",
            "-1 mon +2 days -03:04:05.000001",
            "0",
            "178000000 years",
            "1 month",
            "30 days",
        ),
    ),
    Sample("timetz", "timetz", "text", ("12:34:56.789+05:30", "24:00:00-15:59")),
    Sample("json", "json", "text", ('{"a": 1,   "a":2}', "null", '"é\\n"')),
    Sample("jsonb", "jsonb", "text", ('{"b": [1,2], "a": null}', "1e400", '"\\u20ac"')),
    Sample("xml", "xml", "text", ("<a>1</a>", "no <b/> element", '<?xml version="1.0"?><a/>')),
    Sample("int4_array", "int4[]", "text", ("{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={1,2}")),
    Sample("text_array", "text[]", "text", ("{}", '{"",NULL,"NULL","a b","{","\\"","\\\\",é}')),
    Sample("float8_array", "float8[]", "text", ("{0.1,-0,NaN,Infinity,1e-300}",)),
    Sample("instant_array", "timestamptz[]", "text", ("{2026-03-29 03:30:00.000001+02,infinity}",)),
    Sample("bytea_array", "bytea[]", "text", ('{"\\\\x00ff","\\\\x"}',)),
    Sample("enum", "mood", "text", ("ok", "so so", "très bien")),
    Sample("enum_array", "mood[]", "text", ("{ok,so so}",)),
    Sample("int4range", "int4range", "text", ("[1,5)", "empty", "(,)", "[3,)")),
    Sample("tstzrange", "tstzrange", "text", ("[2026-01-01 00:00+05,2026-01-02 00:00+00)", "(,infinity)")),
    Sample("datemultirange", "datemultirange", "text", ("{[2026-01-01,2026-01-03),[2026-02-01,)}", "{}")),
    Sample("range_array", "numrange[]", "text", ('{"[1.10,2.0)",empty}',)),
    Sample("inet", "inet", "text", ("10.0.0.1/8", "::1", "192.168.0.1")),
    Sample("cidr", "cidr", "text", ("10.0.0.0/8", "2001:db8::/32")),
    Sample("macaddr", "macaddr", "text", ("08:00:2b:01:02:03",)),
    Sample("macaddr8", "macaddr8", "text", ("08:00:2b:01:02:03:04:05",)),
    Sample("bits", "bit(5)", "text", ("10101", "00000")),
    Sample("varbit", "varbit", "text", ("", "101")),
    Sample("character", "char(5)", "text", ("ab", "", "abcde", "é")),
    Sample("char", '"char"', "text", ("a", "")),
    Sample("name", "name", "text", ("a name", "")),
    Sample("oid", "oid", "text", ("0", "4294967295")),
    Sample("pg_lsn", "pg_lsn", "text", ("16/B374D848",)),
    Sample("jsonpath", "jsonpath", "text", ("$.a[*] ? (@ > 1)",)),
    Sample("tsvector", "tsvector", "text", ("'a':1A 'cat':5", "")),
    Sample("tsquery", "tsquery", "text", ("'a' & !'b'",)),
    Sample("point", "point", "text", ("(0.1,-1e-300)",)),
    Sample("polygon", "polygon", "text", ("((0,0),(0.1,1),(1,1))",)),
    Sample("domain_int", "posint", "int32", ("1", "2147483647")),
    Sample("domain_twice", "larger", "int32", ("1", "999999")),
    Sample("domain_text", "label", "text", ("", "x")),
    Sample("domain_decimal", "price", "decimal", ("0.01", "-99999999.99")),
    Sample("domain_array", "posint[]", "text", ("{1,2}",)),
    Sample("other_text", '"Odd ""place""".text', "text", ("no text",)),
    Sample('odd "name", % {}', "int4", "int32", ("1",)),
)

REFUSED = {
    "cash": "money",
    "cash_array": "money[]",
    "cash_domain": "cash",
    "cash_range": "cash_range",
    "composite": "pair",
    "composite_array": "pair[]",
    "reference": "regclass",
    "path": "pg_snapshot",
}


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote(literal: str) -> str:
    return "'" + literal.replace("'", "''") + "'"


def create_sql(table: str) -> str:
    columns = ", ".join(f"{ident(sample.name)} {sample.pg_type}" for sample in SAMPLES)
    return f"create table {table} (at timestamptz not null, {columns})"


def insert_sql(table: str) -> list[str]:
    """One row per number: each column's literal of that number, NULL behind the last."""
    most = max(len(sample.literals) for sample in SAMPLES)
    return [
        f"insert into {table} select timestamptz '2026-01-01 00:00+00' + interval '1 hour' * {number}, "
        + ", ".join(
            f"{quote(sample.literals[number])}::{sample.pg_type}" if number < len(sample.literals) else "null"
            for sample in SAMPLES
        )
        for number in range(most + 1)
    ]
