"""Collections with every type of column, rows with the values that are hard, and random requests for them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Time,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from tests.support.json_reference import decimal_text
from tidemill.domain.collection import Collection, CollectionKind
from tidemill.queries.collections import Collections, VisibleCollection
from tidemill.queries.value_types import FieldType
from tidemill.storage.database.table_sql import column_type

Row = dict[str, Any]

samples_table = Table(
    "samples",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("small", SmallInteger),
    Column("whole", Integer),
    Column("big", BigInteger),
    Column("amount", Numeric),
    Column("ratio", Double),
    Column("rate", REAL),
    Column("name", Text),
    Column("flag", Boolean),
    Column("at", DateTime(timezone=True)),
    Column("moment", DateTime),
    Column("day", Date),
    Column("clock", Time),
    Column("span", Interval),
    Column("ref", Uuid),
    Column("raw", LargeBinary),
    Column("data", JSONB),
    Column("tags", ARRAY(Text)),
    Column("numbers", ARRAY(BigInteger)),
    Column("times", ARRAY(DateTime(timezone=True))),
    Column("Odd \"name'; --", Text),
    Column("version", BigInteger, nullable=False),
)

readings_table = Table(
    "readings",
    MetaData(),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("source", Text, nullable=False),
    Column("value", Double),
    Column("command_id", Uuid, nullable=False),
)

bars_table = Table(
    "bars",
    MetaData(),
    Column("symbol", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("close", Double),
)

samples = Collection(
    name="samples", kind=CollectionKind.STATE, aggregate="samples", table=samples_table, key=("id",)
)
readings = Collection(
    name="readings", kind=CollectionKind.FACTS, aggregate="readings", table=readings_table, time_column="time"
)
bars = Collection(
    name="bars",
    kind=CollectionKind.READ_MODEL,
    aggregate="readings",
    table=bars_table,
    key=("symbol", "day"),
    projection="bars",
)

DDL = """
create table public.samples (
  id text collate "C" primary key, small smallint, whole integer, big bigint, amount numeric, ratio double precision,
  rate real, name text collate "C", flag boolean, at timestamptz, moment timestamp, day date, clock time, span interval,
  ref uuid, raw bytea, data jsonb, tags text[], numbers bigint[], times timestamptz[], "Odd ""name'; --" text,
  version bigint not null);
create table public.bars (symbol text collate "C", day date, close double precision, primary key (symbol, day));
create table public.readings (
  time timestamptz not null, source text collate "C" not null, value double precision, command_id uuid not null);
select create_hypertable('public.readings', by_range('time', interval '7 days'), create_default_indexes => false);
grant select on public.samples, public.bars, public.readings to tidemill_reader;
"""


def all_collections() -> Collections:
    return Collections([samples, readings, bars], column_type)


async def create_collections(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(DDL)
    await connection.close()


async def insert(url: str, collection: VisibleCollection, rows: list[Row]) -> None:
    name = collection.collection.table.name
    texts = [{key: _input(collection.columns[key].type, value) for key, value in row.items()} for row in rows]
    connection = await asyncpg.connect(url)
    await connection.execute(
        f"insert into public.{name} select * from json_populate_recordset(null::public.{name}, $1::json)",
        json.dumps(texts),
    )
    await connection.close()


def _input(kind: FieldType, value: Any) -> Any:
    """What `json_populate_recordset` reads a value from."""
    if value is None or kind.name == "jsonb":
        return value
    if kind.element is not None:
        return [_input(kind.element, item) for item in value]
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, tuple):
        months, days, microseconds = value
        return f"{months} mons {days} days {microseconds} microseconds"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value if isinstance(value, bool) else str(value)


# --- values that are hard --------------------------------------------------------------------------------------------

_AT = datetime(2026, 11, 30, 10, 0, 0, 123456, tzinfo=UTC)
_NAN, _INFINITY = float("nan"), float("inf")

HARD: dict[str, list[Any]] = {
    "small": [0, -1, 2**15 - 1, -(2**15)],
    "whole": [0, 7, 2**31 - 1, -(2**31)],
    "big": [0, 1, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)],
    "amount": [
        *map(Decimal, ("0", "1", "1.0", "1.00", "-0.000001", "1e-20", "123456789012345678901234567890.123")),
        *map(Decimal, ("1e100", "NaN", "Infinity", "-Infinity")),
    ],
    "ratio": [
        *(0.0, -0.0, 1.0, 0.1, 1 / 3, 1e15, 123456789012345.0, 1e16, 1e-4, 1e-5, 1.5e-7, 1e300, 5e-324),
        *(_NAN, _INFINITY, -_INFINITY),
    ],
    "rate": [
        0.0,
        1.0,
        0.1,
        123456.0,
        1234567.0,
        1e-5,
        3.4028234663852886e38,
        1e-45,
        _NAN,
        _INFINITY,
        -_INFINITY,
    ],
    "name": [
        "",
        "a",
        "A",
        "ab",
        "Ä",
        "é",
        "日本",
        "\U0001f600",
        "null",
        '"',
        "\\",
        "\b\f\n\r\t\x01\x1f\x7f",
        "a,b",
        "%_",
    ],
    "flag": [True, False],
    "at": [
        _AT,
        _AT + timedelta(microseconds=1),
        _AT - timedelta(microseconds=1),
        datetime(2026, 11, 30, 10, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        "infinity",
        "-infinity",
    ],
    "moment": [
        _AT.replace(tzinfo=None),
        _AT.replace(tzinfo=None, microsecond=1),
        datetime.min,  # noqa: DTZ901  without a zone, as the column is
        "infinity",
        "-infinity",
    ],
    "day": [date(2026, 11, 30), date(1, 1, 1), date(9999, 12, 31), "infinity", "-infinity"],
    "clock": [time(0), time(10, 0, 0, 500000), time(23, 59, 59, 999999)],
    "span": [(0, 0, 0), (14, 3, 3_723_500_000), (-1, 2, -1), (0, 0, 360_000_000_000)],
    "ref": [UUID(int=0), UUID(int=2**128 - 1), UUID("0ABC0000-0000-7000-8000-00000000000F")],
    "raw": [b"", b"\x00", bytes(range(100)), b"\xff\xfe"],
    "data": [
        {},
        [],
        {"a": 1},
        {"a": 1, "bb": [1, "x", None, True], "b": {"c": "ä"}},
        "text",
        7,
        True,
        ["a", 1],
        [[1]],
    ],
    "tags": [[], ["a"], ["a", "b"], ["b", None], ["", "ä", '"']],
    "numbers": [[], [1], [2**53 + 1, None], [-(2**63), 1]],
    "times": [[], [_AT], [_AT, None, "infinity"]],
    "Odd \"name'; --": ["x", "y"],
}


def random_row(source: Random, number: int) -> Row:
    """A row of `samples`: a fifth of its values are null, and few of them are unlike."""
    row: Row = {"id": f"k{number:05d}", "version": source.randrange(3)}
    for name, values in HARD.items():
        row[name] = None if source.random() < 0.2 else source.choice(values)
    return {column.name: row[column.name] for column in samples_table.columns}


def hard_rows() -> list[Row]:
    """Every hard value once."""
    longest = max(map(len, HARD.values()))
    rows = [
        {
            "id": f"hard{place:02d}",
            "version": 2**53 + place,
            **{name: values[place] if place < len(values) else None for name, values in HARD.items()},
        }
        for place in range(longest)
    ]
    return [{column.name: row[column.name] for column in samples_table.columns} for row in rows]


# --- requests --------------------------------------------------------------------------------------------------------


def wire(kind: FieldType, value: Any) -> Any:
    """A value as a JSON body has it."""
    if kind.name == "jsonb":
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return (
            value
            if abs(value) < _INFINITY
            else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
        )
    if isinstance(value, datetime) and kind.name == "timestamptz":
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return decimal_text(value)
    return value if isinstance(value, bool | int) else str(value)


def random_where(source: Random, collection: VisibleCollection, depth: int = 3) -> dict[str, Any]:
    """A filter as a JSON body has it."""
    where: dict[str, Any] = {}
    for _ in range(source.randint(1, 3)):
        kind = source.random()
        if depth > 1 and kind < 0.25:
            where["_or"] = [random_where(source, collection, depth - 1) for _ in range(source.randint(1, 2))]
        elif depth > 1 and kind < 0.5:
            where["_not"] = random_where(source, collection, depth - 1)
        else:
            name = source.choice(list(collection.columns))
            where[name] = _random_test(source, name, collection.columns[name].type)
    return where


def _random_test(source: Random, name: str, kind: FieldType) -> dict[str, Any]:
    operator = source.choice(sorted(kind.operators))
    if operator == "is":
        return {"is": source.choice(["null", "notnull"])}
    values = HARD.get(name) or ([f"k{source.randrange(40):05d}"] if name == "id" else [0, 1, 2])
    if operator == "has" and kind.name == "jsonb":
        return {"has": source.choice(["a", "b", "bb", "text", "x"])}
    if kind.element is not None:
        items = [wire(kind.element, item) for array in values for item in array if item is not None]
        chosen = source.sample(items, source.randint(0, 2))
        return {operator: source.choice(items) if operator == "has" else chosen}
    if operator in ("in", "nin"):
        return {operator: [wire(kind, value) for value in source.choices(values, k=source.randint(0, 3))]}
    if operator == "prefix":
        return {"prefix": source.choice(values)[: source.randint(0, 2)]}
    return {operator: wire(kind, source.choice(values))}


def random_sort(source: Random, collection: VisibleCollection) -> list[str]:
    names = [name for name, column in collection.columns.items() if column.type.sortable]
    chosen = source.sample(names, source.randint(0, min(4, len(names))))
    return [f"{source.choice(['', '-'])}{name}" for name in chosen]
