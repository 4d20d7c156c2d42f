"""Reading one version as another, and defaults as bytes."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tidemill.catalog.avro import parse
from tidemill.catalog.compatibility import obstacles
from tidemill.catalog.schemas import Schema
from tidemill.domain.errors import ContractError
from tidemill.transport.avro.encode import encode_default
from tidemill.transport.avro.reader import forms
from tidemill.transport.avro.reader.forms import Form, Resolution, trailing_defaults
from tidemill.transport.avro.reader.strict import FAULTS, reader_of

MICROS = {"type": "long", "logicalType": "timestamp-micros"}
PLACE = {
    "type": "record",
    "name": "Place",
    "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}],
}
WIDER_PLACE = {**PLACE, "fields": [*PLACE["fields"], {"name": "c", "type": "string", "default": "?"}]}


def enumeration(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


def schema(*kinds: Any) -> Schema:
    fields = [{"name": f"f{index}", "type": kind} for index, kind in enumerate(kinds)]
    return Schema.of(json.dumps({"type": "record", "name": "R", "fields": fields}))


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
TIMES = st.datetimes(timezones=st.just(UTC))
TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**53), 2**53)),
    ("float", st.floats(width=32, allow_nan=False)),
    ("double", st.floats(allow_nan=False)),
    ("string", st.text()),
    ("bytes", st.binary()),
    (["null", "int"], st.none() | st.integers(0, 9)),
    (["null", "int", "string"], st.none() | st.integers(0, 9) | st.text()),
    (["string", "null"], st.none() | st.text()),
    (["null", "double"], st.none() | st.floats(allow_nan=False)),
    ({"type": "array", "items": "int"}, st.lists(st.integers(0, 9))),
    ({"type": "array", "items": "double"}, st.lists(st.floats(allow_nan=False))),
    ({"type": "map", "values": "long"}, st.dictionaries(st.text(), st.integers(0, 9))),
    (enumeration("A", "B"), st.sampled_from("AB")),
    (enumeration("B", "A"), st.sampled_from("AB")),
    (enumeration("A", "C", default="A"), st.sampled_from("AC")),
    (MICROS, TIMES),
    (["null", MICROS], st.none() | TIMES),
    (DECIMAL, st.decimals(-999, 999, places=2)),
    (["null", DECIMAL], st.none() | st.decimals(-999, 999, places=2)),
    ({"type": "array", "items": ["null", MICROS]}, st.lists(st.none() | TIMES)),
    ({"type": "array", "items": MICROS}, st.lists(TIMES)),
    (PLACE, st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.text()})),
    (WIDER_PLACE, st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.text(), "c": st.text()})),
]
PAIRS = [
    (reader, writer, values)
    for reader, _ in TYPED
    for writer, values in TYPED
    if reader != writer and not obstacles(reader=parse(reader), writer=parse(writer))
]


@settings(max_examples=400)
@given(st.sampled_from(PAIRS), st.data())
def test_whatever_has_no_obstacles_is_resolved(
    pair: tuple[Any, Any, st.SearchStrategy[Any]], data: st.DataObject
) -> None:
    reader, writer, values = pair
    fields = {"f0": data.draw(values), "f1": 7}
    old, new = schema(writer, "long"), schema(reader, "long")
    form = Form(new, base=0)
    body = Form(old, base=0).write(fields)
    try:
        decoded = Resolution(old, form).read(body, 0)
    except UnicodeDecodeError:
        assume("bytes" not in json.dumps(writer))  # bytes read as text may be none
        raise
    assert decoded.fields["f1"] == 7
    assert decoded.body == form.write(decoded.fields)
    assert form.read(decoded.body, 0) == decoded
    theirs = schemaless_reader(
        io.BytesIO(body), parse_schema(json.loads(old.text)), parse_schema(json.loads(new.text))
    )
    assert decoded.body == form.write(theirs)  # type: ignore[arg-type]  # a record
    with pytest.raises(FAULTS):
        Resolution(old, form).read(body + b"\x00", 0)


@pytest.mark.parametrize(
    ("kind", "default", "value"),
    [
        ("bytes", "\u00ff", b"\xff"),
        (DECIMAL, "\u0001\u0000", Decimal("2.56")),
        ({"type": "fixed", "name": "F", "size": 1}, "\u00ff", b"\xff"),
        (MICROS, 1_000_000, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ({"type": "array", "items": "bytes"}, ["\u00ff"], [b"\xff"]),
        (["null", {**PLACE, "fields": [{"name": "b", "type": "bytes", "default": "\u00ff"}]}], None, None),
    ],
)
def test_an_older_version_is_given_the_defaults_that_it_lacks(kind: Any, default: Any, value: Any) -> None:
    document = json.loads(schema("long").text)
    document["fields"].append({"name": "x", "type": kind, "default": default})
    form = Form(Schema.of(json.dumps(document)), base=0)
    decoded = Resolution(schema("long"), form).read(Form(schema("long"), base=0).write({"f0": 7}), 0)
    assert decoded.fields == {"f0": 7, "x": value}


@pytest.mark.parametrize("refused", [SchemaResolutionError("Schema mismatch"), TypeError("must be string")])
def test_a_pair_of_schemas_that_fastavro_refuses_makes_the_record_unreadable(
    refused: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is among the faults of bytes: one record would restart the service for ever."""

    def refuse(*_: object) -> None:
        raise refused

    monkeypatch.setattr(forms, "schemaless_reader", refuse)
    body = Form(schema("int"), base=0).write({"f0": 7})
    with pytest.raises(FAULTS, match="cannot be read as R"):
        Resolution(schema("int"), Form(schema("long"), base=0)).read(body, 0)


def test_a_record_inside_is_given_the_defaults_that_it_lacks() -> None:
    wider = {**PLACE, "fields": [*PLACE["fields"], {"name": "c", "type": "bytes", "default": "\u00ff"}]}
    old = schema(["null", PLACE], {"type": "array", "items": "Place"})
    new = schema(["null", wider], {"type": "array", "items": "Place"})
    body = Form(old, base=0).write({"f0": {"a": 1, "b": "x"}, "f1": [{"a": 2, "b": "y"}]})
    decoded = Resolution(old, Form(new, base=0)).read(body, 0)
    assert decoded.fields == {
        "f0": {"a": 1, "b": "x", "c": b"\xff"},
        "f1": [{"a": 2, "b": "y", "c": b"\xff"}],
    }


DEFAULTS: list[tuple[Any, Any]] = [
    ("null", None),
    ("boolean", True),
    ("boolean", False),
    ("int", -3),
    ("long", 2**40),
    ("float", 1),
    ("double", 0.5),
    ("string", "ünïcode"),
    (["null", "string"], None),
    (["long", "null"], 5),
    (MICROS, 1_700_000_000_000_000),
    (enumeration("A", "B"), "B"),
    ({"type": "array", "items": "int"}, []),
    ({"type": "array", "items": "int"}, [1, 2, 300]),
    ({"type": "map", "values": "double"}, {}),
    ({"type": "map", "values": "double"}, {"a": 1.5}),
    (PLACE, {"a": 1, "b": "x"}),
]


@pytest.mark.parametrize(("kind", "value"), DEFAULTS)
def test_defaults_are_encoded_as_fastavro_does(kind: Any, value: Any) -> None:
    buffer = io.BytesIO()
    document = {"type": "record", "name": "R", "fields": [{"name": "x", "type": kind, "default": value}]}
    schemaless_writer(buffer, parse_schema(document), {})
    assert encode_default(parse(kind), value) == buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "value", "encoded", "decoded"),
    [
        ("bytes", "\u00ff\u0000", b"\x04\xff\x00", b"\xff\x00"),
        ({"type": "fixed", "name": "F", "size": 2}, "\u00ff\u0001", b"\xff\x01", b"\xff\x01"),
    ],
)
def test_defaults_of_bytes_are_written_as_characters(
    kind: Any, value: str, encoded: bytes, decoded: bytes
) -> None:
    assert encode_default(parse(kind), value) == encoded
    assert reader_of(parse(kind))(encoded, 0)[0] == decoded


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("null", 0),
        ("boolean", 1),
        ("int", "1"),
        ("long", True),
        ("double", "x"),
        ("string", 1),
        ("bytes", "\u0100"),
        (["null", "string"], "x"),
        (enumeration("A"), "B"),
        (PLACE, {"a": 1}),
        ({"type": "array", "items": "int"}, 7),
        ({"type": "map", "values": "int"}, []),
    ],
)
def test_a_default_of_another_type_is_refused(kind: Any, value: Any) -> None:
    if value == []:
        value = ["a"]
    with pytest.raises(ContractError, match="is not a value of its type"):
        encode_default(parse(kind), value)


def test_only_the_defaults_at_the_end_count() -> None:
    fields = [
        {"name": "base", "type": "string", "default": ""},
        {"name": "a", "type": "int", "default": 1},
        {"name": "b", "type": "int"},
        {"name": "c", "type": ["null", "int"], "default": None},
        {"name": "d", "type": MICROS, "default": 0},
    ]
    text = json.dumps({"type": "record", "name": "R", "fields": fields})
    found = trailing_defaults(Schema.of(text), 1)
    assert [(name, size) for name, _, size in found] == [("d", 1), ("c", 1)]
    everything = json.dumps({"type": "record", "name": "R", "fields": [fields[0], fields[1]]})
    assert [name for name, _, _ in trailing_defaults(Schema.of(everything), 1)] == ["a"]


ARRAY = {"type": "array", "items": "int"}


@pytest.mark.parametrize(
    ("kind", "sent", "canonical"),
    [
        (DECIMAL, b"\x04\x00\x00", b"\x02\x00"),
        (["null", DECIMAL], b"\x02\x04\x00\x00", b"\x02\x02\x00"),
        (["null", DECIMAL], b"\x00", b"\x00"),
        (ARRAY, b"\x02\x02\x02\x04\x00", b"\x04\x02\x04\x00"),
        (ARRAY, b"\x01\x02\x02\x00", b"\x02\x02\x00"),
        (ARRAY, b"\x00", b"\x00"),
        (["null", ARRAY], b"\x02\x00", b"\x02\x00"),
        (["null", ARRAY, DECIMAL], b"\x04\x04\x00\x00", b"\x04\x02\x00"),
        ({"type": "map", "values": "int"}, b"\x00", b"\x00"),
    ],
)
def test_equal_values_have_equal_bytes_once_read(kind: Any, sent: bytes, canonical: bytes) -> None:
    assert Form(schema(kind), base=0).read(sent, 0).body == canonical
