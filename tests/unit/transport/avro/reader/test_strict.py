"""The strict reader against fastavro: the same values from good bytes, and nothing from bad ones."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.support.faults.hostile import HOSTILE, NAMESPACE, SendProbe
from tidemill.catalog.avro import Record, parse
from tidemill.catalog.drafts import draft_schema
from tidemill.domain.errors import ContractError
from tidemill.transport.avro.reader.ends import end_of
from tidemill.transport.avro.reader.forms import has_one_encoding
from tidemill.transport.avro.reader.strict import FAULTS, explain, message_reader, reader_of
from tidemill.transport.avro.reader.unrolled import ReadMessage

Typed = tuple[Any, st.SearchStrategy[Any]]
"""An Avro type as JSON, and values of it."""

NUMBERS = count()
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}

LEAVES: tuple[Typed, ...] = (
    ("boolean", st.booleans()),
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("double", st.floats(allow_nan=False)),
    ("float", st.floats(allow_nan=False, width=32)),
    ("string", st.text()),
    ("bytes", st.binary()),
    (MICROS, st.datetimes(timezones=st.just(UTC))),
    ({"type": "int", "logicalType": "date"}, st.dates()),
    (DECIMAL, st.decimals(-(10**15), 10**15, places=4)),
)


def holders(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return st.one_of(
        inner.map(lambda typed: (["null", typed[0]], st.none() | typed[1])),
        inner.map(lambda typed: ([typed[0], "null"], st.none() | typed[1])),
        inner.map(lambda typed: ({"type": "array", "items": typed[0]}, st.lists(typed[1], max_size=4))),
        inner.map(
            lambda typed: (
                {"type": "map", "values": typed[0]},
                st.dictionaries(st.text(max_size=3), typed[1], max_size=4),
            )
        ),
        st.lists(inner, min_size=1, max_size=4).map(record),
    )


def record(parts: list[Typed]) -> Typed:
    fields = [{"name": f"f{index}", "type": kind} for index, (kind, _) in enumerate(parts)]
    schema = {"type": "record", "name": f"R{next(NUMBERS)}", "fields": fields}
    return schema, st.fixed_dictionaries({f"f{index}": values for index, (_, values) in enumerate(parts)})


def enumeration(symbols: list[str]) -> Typed:
    return {"type": "enum", "name": f"E{next(NUMBERS)}", "symbols": symbols}, st.sampled_from(symbols)


def fixed(size: int) -> Typed:
    schema = {"type": "fixed", "name": f"F{next(NUMBERS)}", "size": size}
    return schema, st.binary(min_size=size, max_size=size)


TYPES = st.recursive(
    st.one_of(
        st.sampled_from(LEAVES),
        st.lists(st.sampled_from(["A", "B", "C"]), min_size=1, unique=True).map(enumeration),
        st.integers(1, 20).map(fixed),
    ),
    holders,
    max_leaves=6,
).filter(lambda typed: "null" not in json.dumps(typed[0]) or not nested_unions(typed[0]))
MESSAGES = st.lists(TYPES, min_size=1, max_size=6).map(record)


def nested_unions(schema: Any) -> bool:
    """A union directly inside a union is no Avro."""
    if isinstance(schema, list):
        return any(isinstance(branch, list) or nested_unions(branch) for branch in schema)
    if isinstance(schema, dict):
        parts = [schema.get("items"), schema.get("values"), *(f["type"] for f in schema.get("fields", []))]
        return any(nested_unions(part) for part in parts)
    return False


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """A schema, a value, and its bytes as fastavro writes them."""
    schema, values = draw(MESSAGES)
    value = draw(values)
    buffer = io.BytesIO()
    schemaless_writer(buffer, parse_schema(schema), value)
    return schema, value, buffer.getvalue()


def reader(schema: Any) -> ReadMessage:
    tree = parse(schema)
    assert isinstance(tree, Record)
    return message_reader(tree, base=0)


@given(written())
def test_reads_what_fastavro_writes_as_fastavro_reads_it(
    sample: tuple[dict[str, Any], dict[str, Any], bytes],
) -> None:
    schema, _, body = sample
    theirs = schemaless_reader(io.BytesIO(body), parse_schema(schema), None)
    assert reader(schema)(body, 0)[0] == theirs
    assert reader(schema)(b"any prefix" + body, 10)[0] == theirs


@settings(max_examples=300)
@given(written(), st.data())
def test_reads_of_altered_bytes_only_what_is_canonical(
    sample: tuple[dict[str, Any], dict[str, Any], bytes], data: st.DataObject
) -> None:
    schema, _, body = sample
    at = data.draw(st.integers(0, len(body)))
    patch = data.draw(st.binary(max_size=3))
    altered = body[:at] + patch + body[at + data.draw(st.integers(0, 3)) :]
    value = None
    try:
        value = reader(schema)(altered, 0)[0]
    except FAULTS as fault:
        event(explain(fault)[:20])  # what was refused shows in hypothesis' statistics
    if value is not None and has_one_encoding(parse(schema)):
        buffer = io.BytesIO()
        schemaless_writer(buffer, parse_schema(schema), value)
        assert buffer.getvalue() == altered


@given(written())
def test_the_end_of_a_value_is_found_without_its_reader(
    sample: tuple[dict[str, Any], dict[str, Any], bytes],
) -> None:
    schema, _, body = sample
    tree = parse(schema)
    assert isinstance(tree, Record)
    at = 0
    for field in tree.fields:
        end = reader_of(field.type)(body, at)[1]
        assert end_of(field.type)(body, at) == end
        at = end
    assert at == len(body)


@given(written())
def test_every_cut_is_refused(sample: tuple[dict[str, Any], dict[str, Any], bytes]) -> None:
    schema, _, body = sample
    strict = reader(schema)
    for length in range(len(body)):
        with pytest.raises(FAULTS):
            strict(body[:length], 0)
    with pytest.raises(FAULTS):
        strict(body + b"\x00", 0)


LONG_EDGES = [0, -1, 1, 63, -64, 64, -65, 2**31, -(2**31), 2**55 - 1, 2**55, 2**62, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("value", LONG_EDGES)
def test_longs_at_their_edges(value: int) -> None:
    buffer = io.BytesIO()
    schemaless_writer(buffer, parse_schema("long"), value)
    assert reader_of(parse("long"))(buffer.getvalue(), 0) == (value, len(buffer.getvalue()))


@pytest.mark.parametrize(
    "at",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1978, 12, 2, tzinfo=UTC),
        datetime(1978, 12, 3, tzinfo=UTC),
        datetime(2024, 2, 29, 12, 30, 15, 123_456, tzinfo=UTC),
        datetime(2106, 2, 7, 6, 28, 15, 999_999, tzinfo=UTC),
        datetime(2106, 2, 7, 6, 28, 16, 1, tzinfo=UTC),
        datetime(3111, 9, 1, 0, 0, 0, 999_999, tzinfo=UTC),
        datetime(3112, 9, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
)
def test_times_at_the_edges_of_their_sizes(at: datetime) -> None:
    buffer = io.BytesIO()
    schemaless_writer(buffer, parse_schema(MICROS), at)
    for behind in (b"", b"\x00", b"\xff" * 8):
        assert reader_of(parse(MICROS))(buffer.getvalue() + behind, 0) == (at, len(buffer.getvalue()))
    assert reader_of(parse(MICROS))(buffer.getvalue(), 0)[0].utcoffset() == timedelta(0)


@settings(max_examples=2_000)
@given(st.datetimes(min_value=datetime(1960, 1, 1), max_value=datetime(2300, 1, 1)))  # noqa: DTZ001  made aware below
def test_every_microsecond_counts(at: datetime) -> None:
    micros = (at - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001  as above
    buffer = io.BytesIO()
    schemaless_writer(buffer, parse_schema("long"), micros)
    assert reader_of(parse(MICROS))(buffer.getvalue(), 0)[0] == at.replace(tzinfo=UTC)


def test_blocks_with_and_without_sizes_and_cut_anywhere_are_legal() -> None:
    items = reader_of(parse({"type": "array", "items": "long"}))
    assert items(b"\x02\x02\x02\x04\x00", 0) == ([1, 2], 5)
    assert items(b"\x01\x02\x02\x03\x04\x04\x06\x00", 0) == ([1, 2, 3], 8)
    entries = reader_of(parse({"type": "map", "values": "long"}))
    assert entries(b"\x01\x06\x02a\x02\x02\x02b\x04\x00", 0) == ({"a": 1, "b": 2}, 10)


def test_decimals_padded_or_fixed() -> None:
    padded = reader_of(parse(DECIMAL))
    assert padded(b"\x06\x00\x30\x39", 0) == (Decimal("1.2345"), 4)
    assert padded(b"\x00", 0) == (Decimal(0), 1)
    fixed_decimal = {
        "type": "fixed",
        "name": "D",
        "size": 3,
        "logicalType": "decimal",
        "precision": 5,
        "scale": 2,
    }
    assert reader_of(parse(fixed_decimal))(b"\xff\xff\x9c", 0) == (Decimal("-1.00"), 3)


def test_unions_of_many_and_an_unknown_logical_type() -> None:
    union = reader_of(parse(["null", "long", "string"]))
    assert union(b"\x04\x02a", 0) == ("a", 3)
    with pytest.raises(FAULTS, match="branch 3 of 3"):
        union(b"\x06", 0)
    assert reader_of(parse({"type": "int", "logicalType": "weekday"}))(b"\x06", 0) == (3, 1)
    assert reader_of(parse({"type": "int", "logicalType": "date"}))(b"\x02", 0) == (date(1970, 1, 2), 1)


def test_a_recursive_schema_has_no_reader() -> None:
    schema = {"type": "record", "name": "L", "fields": [{"name": "n", "type": ["null", "L"]}]}
    with pytest.raises(ContractError, match="recursive"):
        reader(schema)


LET_THROUGH = {
    "long of 11 bytes",
    "long of 65 bits",
    "long that is padded",
    "enum of -1",
    "union branch -1",
    "union branch that is padded",
    "array block of another size",
    "array block of a negative size",
    "timestamp that is padded",
    "decimal of 100,000 bytes",
    "decimal of 5 digits",
    "boolean of 2",
    "bytes behind the body",
    "one byte behind the body",
}


def test_what_fastavro_lets_through_is_why_we_read_ourselves() -> None:
    parsed = parse_schema(draft_schema(SendProbe, NAMESPACE))
    passed = set()
    for case in HOSTILE:
        if case.foreign is None and case.code == "MALFORMED":
            try:
                schemaless_reader(io.BytesIO(case.body), parsed, None)
            except (EOFError, IndexError, OverflowError, UnicodeDecodeError):
                continue
            passed.add(case.name)
    assert passed == LET_THROUGH
