"""Which schemas read each other: our answers, and those of the avro package."""

from __future__ import annotations

import json
import re
from typing import Any

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from hypothesis import given
from hypothesis import strategies as st

from tidemill.catalog.avro import Record, parse
from tidemill.catalog.compatibility import moved_fields, obstacles, rewritten_fields


def record(*fields: dict[str, Any], name: str = "R") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


def field(kind: Any, name: str = "x", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def enumeration(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


MICROS = {"type": "long", "logicalType": "timestamp-micros"}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


@pytest.mark.parametrize(
    ("reader", "writer", "why"),
    [
        ("long", "int", None),
        ("double", "long", None),
        ("int", "long", "long cannot be read as int"),
        ("bytes", "string", None),
        ("string", "bytes", None),
        ("string", "int", "int cannot be read as string"),
        (MICROS, MICROS, None),
        (MICROS, MILLIS, "long .timestamp-millis. cannot be read as long .timestamp-micros."),
        (MICROS, "long", "cannot be read"),
        ("long", MICROS, "cannot be read"),
        (["null", "string"], "string", None),
        ("string", ["null", "string"], "null cannot be read as string"),
        (["null", "double"], ["null", "long"], None),
        (["null", "double"], ["null", "long", "string"], "no branch of the reader takes string"),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}, None),
        ({"type": "array", "items": "int"}, {"type": "array", "items": "long"}, r"\[\]: long"),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "long"}, r"\{\}: long"),
        ({"type": "map", "values": "int"}, {"type": "array", "items": "int"}, "array cannot be read as map"),
        (enumeration("A", "B"), enumeration("A"), None),
        (enumeration("A"), enumeration("A", "B"), "does not know B"),
        (enumeration("A", default="A"), enumeration("A", "B"), None),
        (enumeration("A"), {**enumeration("A"), "name": "F"}, "enum F is not E"),
        (
            {"type": "fixed", "name": "F", "size": 4},
            {"type": "fixed", "name": "F", "size": 5},
            "cannot be read",
        ),
        (record(field("int")), record(), "x: has no default"),
        (record(field("int", default=0)), record(), None),
        (record(), record(field("int")), None),
        (record(), record(name="S"), "record S is not R"),
        (
            record(field(record(field("int", "y"), name="I"))),
            record(field(record(name="I"))),
            "x.y: has no default",
        ),
    ],
)
def test_what_reads_what(reader: Any, writer: Any, why: str | None) -> None:
    found = obstacles(reader=parse(reader), writer=parse(writer))
    if why is None:
        assert found == []
    else:
        [fault] = found
        assert re.search(why, fault)


KINDS = st.sampled_from(
    [
        "int",
        "long",
        "float",
        "double",
        "string",
        "bytes",
        "boolean",
        ["null", "int"],
        ["null", "string"],
        ["null", "int", "string"],
        {"type": "array", "items": "int"},
        {"type": "array", "items": "long"},
        {"type": "map", "values": "double"},
        enumeration("A", "B"),
        enumeration("A"),
        enumeration("A", "C", default="A"),
        {"type": "fixed", "name": "F", "size": 4},
        {"type": "fixed", "name": "F", "size": 5},
    ]
)


@given(KINDS, KINDS)
def test_the_avro_package_gives_the_same_answers(reader: Any, writer: Any) -> None:
    ours = not obstacles(reader=parse(record(field(reader))), writer=parse(record(field(writer))))
    checker: Any = ReaderWriterCompatibilityChecker
    theirs = checker().get_compatibility(
        avro.schema.parse(json.dumps(record(field(reader)))),
        avro.schema.parse(json.dumps(record(field(writer)))),
    )
    assert ours == (theirs.compatibility is SchemaCompatibilityType.compatible)


@pytest.mark.parametrize(
    ("current", "moved"),
    [
        (["a", "b"], False),
        (["a", "b", "c"], False),
        (["b", "a"], True),
        (["a"], True),
        (["c", "a", "b"], True),
    ],
)
def test_fields_are_only_added_at_the_end(current: list[str], moved: bool) -> None:
    released = parse(record(field("int", "a"), field("int", "b")))
    now = parse(record(*(field("int", name) for name in current)))
    assert isinstance(released, Record)
    assert isinstance(now, Record)
    assert bool(moved_fields(released=released, current=now)) == moved


def place(*names: str) -> dict[str, Any]:
    return {"type": "record", "name": "Place", "fields": [field("int", name) for name in names]}


@pytest.mark.parametrize(
    ("before", "after", "alike"),
    [
        ("int", "long", True),
        ("string", "bytes", True),
        ("int", "double", False),
        ("float", "double", False),
        (["null", "string"], ["null", "string"], True),
        ("string", ["null", "string"], False),
        (["null", "string"], ["string", "null"], False),
        (enumeration("A"), enumeration("A", "B"), True),
        (enumeration("A", "B"), enumeration("B", "A"), False),
        ({"type": "array", "items": "int"}, {"type": "array", "items": "long"}, True),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "float"}, False),
        (place("a"), place("a"), True),
        (place("a"), place("a", "b"), False),
        (["null", place("a")], ["null", place("a", "b")], False),
    ],
)
def test_what_both_versions_have_is_written_alike(before: Any, after: Any, alike: bool) -> None:
    released, current = parse(record(field(before))), parse(record(field(after)))
    assert isinstance(released, Record)
    assert isinstance(current, Record)
    assert (rewritten_fields(released=released, current=current, base=0) == []) == alike
    assert rewritten_fields(released=released, current=current, base=1) == []
