"""Payloads that bring a careless reader down, or slip past it: a table, and the test-only command that carries them.

`HOSTILE` is what is sent; `outcome` and `code` are what must become of it. A case with `foreign` is the body of another
schema, one that no topic may carry. `values` frames them all; where a registry is used, `foreign_prefix` is the id that
the foreign schema got there.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from fastavro import parse_schema, schemaless_writer
from pydantic import BaseModel, Field

from tidemill.api import CommandBase, EventBase, Label
from tidemill.catalog.avro import parse
from tidemill.catalog.drafts import draft_schema
from tidemill.catalog.fingerprints import fingerprint
from tidemill.catalog.schemas import MessageSchema, Schema
from tidemill.transport.avro.wire import prefix_of_fingerprint

CONTEXT = "probes"
NAMESPACE = f"tidemill.{CONTEXT}"


class Choice(StrEnum):
    LEFT = "LEFT"
    RIGHT = "RIGHT"


class Flag(BaseModel):
    on: bool


class SendProbe(CommandBase):
    """A command of every type that a schema may use."""

    text: Label
    blob: bytes
    number: int
    ratio: float
    choice: Choice
    note: Label | None = None
    tags: list[str]
    sizes: dict[str, int]
    amount: Annotated[Decimal, Field(max_digits=4, decimal_places=2)]
    at: datetime
    flags: list[Flag]
    switch: bool


class ProbeSent(EventBase):
    """The probe was sent."""

    text: str


def messages() -> dict[str, MessageSchema]:
    """Full name -> message, as `load_messages` would give them."""
    found = {}
    for model, role in ((SendProbe, "command"), (ProbeSent, "event")):
        schema = Schema.of(json.dumps(draft_schema(model, NAMESPACE)))
        found[schema.name] = MessageSchema(CONTEXT, role, schema, ())  # type: ignore[arg-type]  # a literal in a tuple
    return found


GOOD: dict[str, Any] = {
    "command_id": "0190a8f0-0000-7000-8000-000000000001",
    "service_name": "probe",
    "timestamp": datetime(2024, 5, 1, tzinfo=UTC),
    "correlation_id": None,
    "text": "fine",
    "blob": b"\x00\xff",
    "number": 7,
    "ratio": 0.5,
    "choice": "RIGHT",
    "note": "a note",
    "tags": ["a", "b"],
    "sizes": {"a": 1},
    "amount": Decimal("12.34"),
    "at": datetime(2024, 5, 1, 12, tzinfo=UTC),
    "flags": [{"on": True}],
    "switch": False,
}


def good_body(**changes: Any) -> bytes:
    """The body of a probe that is in order."""
    return b"".join(_encoded({**GOOD, **changes}).values())


def body_with(field: str, raw: bytes) -> bytes:
    """The body of a probe in which one field's bytes are replaced."""
    return b"".join({**_encoded(GOOD), field: raw}.values())


def _encoded(fields: dict[str, Any]) -> dict[str, bytes]:
    document = draft_schema(SendProbe, NAMESPACE)
    encoded = {}
    for entry in document["fields"]:
        buffer = io.BytesIO()
        alone = parse_schema({**document, "fields": [entry]})
        schemaless_writer(buffer, alone, {entry["name"]: fields[entry["name"]]})
        encoded[entry["name"]] = buffer.getvalue()
    return encoded


def varint(value: int) -> bytes:
    """An Avro long, of any size: two's complement of 64 bits only where it fits."""
    raw = value << 1 ^ value >> 63
    encoded = b""
    while raw > 0x7F:
        encoded += bytes([raw & 0x7F | 0x80])
        raw >>= 7
    return encoded + bytes([raw])


@dataclass(frozen=True)
class Hostile:
    """A payload and what must become of it. `body` stands behind the framing."""

    name: str
    outcome: str
    code: str
    body: bytes
    foreign: str | None = None


def _parked(name: str, field: str, raw: bytes, code: str = "MALFORMED") -> Hostile:
    return Hostile(name, "parked", code, body_with(field, raw))


def _rejected(name: str, field: str, raw: bytes) -> Hostile:
    return Hostile(name, "rejected", "INVALID", body_with(field, raw))


def _foreign(name: str, schema: dict[str, Any], body: bytes, code: str = "UNKNOWN_SCHEMA") -> Hostile:
    return Hostile(name, "parked", code, body, foreign=json.dumps(schema))


_RECURSIVE = {
    "type": "record",
    "name": "Link",
    "namespace": NAMESPACE,
    "fields": [{"name": "next", "type": ["null", "Link"]}],
}


def _holder(kind: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "Holder",
        "namespace": NAMESPACE,
        "fields": [{"name": "x", "type": kind}],
    }


_NOTHING = {"type": "record", "name": "Nothing", "fields": []}
_YEAR_10000_US = 253402300800 * 1_000_000

HOSTILE: tuple[Hostile, ...] = (
    _parked("string of 2^31 bytes", "text", varint(2**31) + b"abc"),
    _parked("string of 2^62 bytes", "text", varint(2**62) + b"abc"),
    _parked("string of -1 bytes", "text", varint(-1)),
    _parked("string that is no UTF-8", "text", varint(2) + b"\xff\xfe"),
    _parked("string with a surrogate", "text", varint(3) + b"\xed\xa0\x80"),
    _parked("string with an overlong form", "text", varint(2) + b"\xc0\x80"),
    _rejected("string with NUL", "text", varint(3) + b"a\x00b"),
    _rejected("empty label", "text", varint(0)),
    _parked("bytes of 2^40", "blob", varint(2**40) + b"abc"),
    _parked("bytes of -5", "blob", varint(-5) + b"abcdefgh"),
    _parked("long of 11 bytes", "number", b"\xff" * 10 + b"\x01"),
    _parked("long without end", "number", b"\xff" * 4000),
    _parked("long of 65 bits", "number", b"\xff" * 9 + b"\x03"),
    _parked("long that is padded", "number", b"\x8e\x00"),
    _rejected("double that is no number", "ratio", struct.pack("<d", float("nan"))),
    _rejected("double without bound", "ratio", struct.pack("<d", float("inf"))),
    _parked("enum of 2^40", "choice", varint(2**40)),
    _parked("enum of 2", "choice", varint(2)),
    _parked("enum of -1", "choice", varint(-1)),
    _parked("union branch 9", "note", varint(9)),
    _parked("union branch -1", "note", varint(-1) + varint(3) + b"abc"),
    _parked("union branch that is padded", "note", b"\x82\x00" + varint(3) + b"abc"),
    _parked("array of 1e6 without items", "tags", varint(1_000_000)),
    _parked("array of -2^63", "tags", varint(-(2**63)) + varint(4)),
    _parked("array block of another size", "tags", varint(-1) + varint(40) + varint(1) + b"a" + varint(0)),
    _parked("array block of a negative size", "tags", varint(-1) + varint(-2) + varint(1) + b"a" + varint(0)),
    _parked("map of 1e6 without entries", "sizes", varint(1_000_000)),
    _parked(
        "array of 70,000 records of one byte", "flags", varint(70_000) + b"\x01" * 70_000 + b"\x00", "TOO_BIG"
    ),
    _parked("decimal of 100,000 bytes", "amount", varint(100_000) + b"\x7f" * 100_000),
    _parked("decimal of 5 digits", "amount", varint(3) + (10_000).to_bytes(3, "big")),
    _parked("timestamp of the year 10000", "at", varint(_YEAR_10000_US)),
    _parked("timestamp that is padded", "at", b"\x80\x80\x80\x80\x80\x80\x81\x00"),
    _parked("timestamp of 2^62", "at", varint(2**62)),
    _parked("timestamp before the year 1", "at", varint(-(2**62))),
    _parked("boolean of 2", "switch", b"\x02"),
    Hostile("bytes behind the body", "parked", "MALFORMED", good_body() + b"GARBAGE"),
    Hostile("one byte behind the body", "parked", "MALFORMED", good_body() + b"\x00"),
    Hostile("a body cut by one byte", "parked", "MALFORMED", good_body()[:-1]),
    Hostile("a body cut in half", "parked", "MALFORMED", good_body()[: len(good_body()) // 2]),
    Hostile("no body", "parked", "MALFORMED", b""),
    Hostile(
        "300 KiB of text", "parked", "TOO_BIG", body_with("text", varint(300 * 1024) + b"a" * 300 * 1024)
    ),
    _foreign("recursive, 50,000 deep", _RECURSIVE, b"\x02" * 50_000 + b"\x00"),
    _foreign("recursive, 200,000 deep", _RECURSIVE, b"\x02" * 200_000 + b"\x00"),
    # an intake looks into 256 KiB at most; it comes that far only compressed, and from a producer told to allow it
    _foreign("recursive, 1,000,000 deep", _RECURSIVE, b"\x02" * 1_000_000 + b"\x00", "TOO_BIG"),
    _foreign("array of 5e7 nulls", _holder({"type": "array", "items": "null"}), varint(50_000_000) + b"\x00"),
    _foreign(
        "array of 2e8 nulls", _holder({"type": "array", "items": "null"}), varint(200_000_000) + b"\x00"
    ),
    _foreign(
        "array of 2e7 empty records",
        _holder({"type": "array", "items": _NOTHING}),
        varint(20_000_000) + b"\x00",
    ),
    _foreign("a schema of another topic", _holder("long"), varint(1)),
)


def foreign_fingerprint(schema: str) -> bytes:
    """What stands in front of a foreign body where no registry is used."""
    return prefix_of_fingerprint(fingerprint(parse(json.loads(schema))))


def values(
    prefix: bytes, foreign_prefix: Callable[[str], bytes] = foreign_fingerprint
) -> list[tuple[Hostile, bytes]]:
    """Every case with its framed value; `prefix` stands in front of a probe's body."""
    return [
        (case, (prefix if case.foreign is None else foreign_prefix(case.foreign)) + case.body)
        for case in HOSTILE
    ]
