"""Rows of log and outbox as COPY reads them: the values that the driver would send, byte for byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import seed as with_seed
from hypothesis import strategies as st

from tests.support.seeds import run_seed
from tidemill.commands.rows import LogRow, OutboxRow
from tidemill.storage.commands.binary_copy import CopyColumn, encoder_of
from tidemill.storage.commands.copied_columns import LOG_COLUMNS, OUTBOX_COLUMNS

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
FORMS = {"int2": "!h", "int4": "!i", "int8": "!q", "float4": "!f"}
BITS = {"int2": 15, "int4": 31, "int8": 63}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.integers(-(2**bits), 2**bits - 1) for name, bits in BITS.items()},
    "float4": st.floats(min_value=0.0, width=32, allow_nan=False),  # durations: -0.0 is none
    "text": TEXTS,
    "char": st.sampled_from([b"a", b"r", b"d", b"p"]),
    "bytea": st.binary(max_size=300),
    "uuid": st.uuids().map(str),
    "timestamptz": st.datetimes(timezones=st.just(UTC)),
}
TABLES = {"log": (LogRow._fields, LOG_COLUMNS), "outbox": (OutboxRow._fields, OUTBOX_COLUMNS)}


def encoded(column: CopyColumn, value: Any) -> bytes:
    """Encode a value as PostgreSQL's documentation of each type has it."""
    match column.type, value:
        case _, None:
            return struct.pack("!i", -1)
        case ("int2" | "int4" | "int8" | "float4") as kind, number:
            content = struct.pack(FORMS[kind], number)
        case "timestamptz", at:
            content = struct.pack("!q", (at - EPOCH) // timedelta(microseconds=1))
        case "uuid", text:
            content = UUID(text).bytes
        case "text", text:
            content = text.encode()
        case _:
            content = value
    return struct.pack("!i", len(content)) + content


def reference(columns: Sequence[CopyColumn], rows: Sequence[tuple[Any, ...]]) -> bytes:
    made = [b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)]
    for row in rows:
        made.append(struct.pack("!h", len(columns)))
        made += [encoded(column, value) for column, value in zip(columns, row, strict=True)]
    return b"".join([*made, struct.pack("!h", -1)])


def rows_of(columns: Sequence[CopyColumn]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    values = [
        VALUES[column.type] if column.varies and column.type in BITS else st.none() | VALUES[column.type]
        for column in columns
    ]
    return st.lists(st.tuples(*values), max_size=5)


@pytest.mark.parametrize("table", TABLES)
@with_seed(run_seed())
@given(st.data())
def test_any_rows_have_the_bytes_of_their_values(table: str, data: st.DataObject) -> None:
    _, columns = TABLES[table]
    rows = data.draw(rows_of(columns))
    assert encoder_of(columns)(rows + rows) == reference(columns, rows + rows)


@pytest.mark.parametrize("table", TABLES)
def test_the_columns_are_the_fields_of_the_rows(table: str) -> None:
    fields, columns = TABLES[table]
    assert tuple(column.name for column in columns) == fields


def test_a_number_that_its_column_does_not_hold_is_refused() -> None:
    with pytest.raises(struct.error):
        encoder_of([CopyColumn("lane", "int2", varies=True)])([(2**15,)])
    with pytest.raises(struct.error):
        encoder_of([CopyColumn("events", "int2")])([(2**15,)])
