"""Items that are read many at once are those that are read one by one, and as strictly."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.catalog.avro import parse
from tidemill.transport.avro.reader.items import items_reader
from tidemill.transport.avro.reader.strict import FAULTS, CutArray, message_reader, read_array, reader_of

MICROS = {"type": "long", "logicalType": "timestamp-micros"}
LONG = st.one_of(st.integers(-64, 63), st.integers(-(2**63), 2**63 - 1))
DOUBLE = st.floats()
IN_UTC = st.just(UTC)
OF_8_BYTES = datetime.fromisoformat("1980-01-01"), datetime.fromisoformat("2107-01-01")
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "long": ("long", LONG),
    "int": ("int", st.integers(-(2**31), 2**31 - 1)),
    "double": ("double", DOUBLE),
    "null or double": (["null", "double"], st.none() | DOUBLE),
    "double or null": (["double", "null"], st.none() | DOUBLE),
    "string": ("string", st.text()),
    "time": (MICROS, st.datetimes(timezones=IN_UTC)),
    "time of 8 bytes": (MICROS, st.datetimes(*OF_8_BYTES, timezones=IN_UTC)),
}


def written(kind: Any, items: list[Any]) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema({"type": "array", "items": kind}), items)
    return buffer.getvalue()


def bits(items: list[Any]) -> list[Any]:
    return [struct.pack(">d", item) if isinstance(item, float) else item for item in items]


def result(read: Any, *arguments: Any) -> Any:
    """Return what is read, or that it is refused."""
    try:
        items, at = read(*arguments)
    except FAULTS:
        return "refused"
    return bits(items), at


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_many_at_once_are_the_same_as_one_by_one(name: str, data: st.DataObject) -> None:
    """Also of bytes that no writer has written."""
    kind, values = KINDS[name]
    items = data.draw(st.lists(values, min_size=1, max_size=20))
    body = bytearray(written(kind, items)[1:-1])
    if data.draw(st.booleans()):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    one = reader_of(parse(kind))
    head = bytes([2 * len(items)])
    at_once = result(items_reader(parse(kind), one), head + bytes(body) + b"\x00", 1, len(items))
    one_by_one = result(read_array, one, head + bytes(body) + b"\x00", 0)
    if one_by_one != "refused":
        assert at_once == (one_by_one[0], one_by_one[1] - 1)


def field_of(kind: Any) -> Any:
    text = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "f", "type": {"type": "array", "items": kind}}],
    }
    return message_reader(parse(json.loads(json.dumps(text))), base=0)  # type: ignore[arg-type]  # a record


@pytest.mark.parametrize(
    ("body", "items", "kind"),
    [
        (b"\x00", [], list),
        (b"\x04\x02\x04\x00", [1, 2], list),
        (b"\x02\x02\x02\x04\x00", [1, 2], CutArray),
        (b"\x03\x04\x02\x04\x00", [1, 2], CutArray),
        (b"\x03\x04\x02\x04\x02\x06\x00", [1, 2, 3], CutArray),
    ],
)
def test_an_array_in_other_blocks_than_a_writer_makes_is_noted(
    body: bytes, items: list[int], kind: type
) -> None:
    fields, _ = field_of("long")(body, 0)
    assert (fields["f"], type(fields["f"])) == (items, kind)


@pytest.mark.parametrize(
    "body",
    [
        b"\x03\x06\x02\x04\x00",
        b"\x04\x02\x04",
        b"\x04\x02",
        b"\x03\x04\x02\x04\x02\x06",
        b"\x82\x80\x80\x80\x02\x00",
    ],
    ids=["another size", "no end", "too short", "no end of blocks", "more than there is"],
)
def test_an_array_that_is_not_whole_is_refused(body: bytes) -> None:
    with pytest.raises(FAULTS):
        field_of("long")(body, 0)
