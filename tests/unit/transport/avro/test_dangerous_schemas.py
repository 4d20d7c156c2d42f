"""Schemas whose numbers would cost a process its time or its memory: records that name them are parked, at once."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.registry import MemoryRegistry
from tests.support.engine.codecs import MARKET, RECORD, TICK, body, market_codec, read, refused, single_object
from tests.support.engine.streams import MARKET_DATA
from tidemill.catalog import avro
from tidemill.catalog.avro import MAX_CHARACTERS, MAX_TYPES, MAX_VALUES, Dangerous, parse_record
from tidemill.catalog.lint import dangers
from tidemill.catalog.ports import Registered
from tidemill.catalog.registration import register_schemas, subject_of
from tidemill.catalog.schemas import Schema
from tidemill.transport.avro import wire

SUBJECT = subject_of(MARKET_DATA.topics.commands, RECORD)
DIGITS = 10**4_000
"""Of as many digits as JSON may have here."""


def text_with(kind: Any, default: Any) -> str:
    document = json.loads(MARKET[RECORD].current.text)
    document["fields"].append({"name": "x", "type": kind, "default": default})
    return json.dumps(document)


def decimal(precision: int, **more: Any) -> dict[str, Any]:
    return {"type": "bytes", **more, "logicalType": "decimal", "precision": precision}


def fixed(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": "Bytes", "size": size, **more}


def symbols(number: int) -> dict[str, Any]:
    return {"type": "enum", "name": "Kind", "symbols": [f"S{each}" for each in range(number)]}


def wide(number: int) -> dict[str, Any]:
    fields = [{"name": f"f{each}", "type": "int"} for each in range(number)]
    return {"type": "record", "name": "Wide", "fields": fields}


DANGEROUS: dict[str, tuple[Any, Any]] = {
    "a decimal of a million digits": (decimal(10**6), ""),
    "a decimal of more digits than can be written": (decimal(DIGITS), ""),
    "a decimal in a fixed": (fixed(8, logicalType="decimal", precision=1_001), "\x00" * 8),
    "a fixed of a terabyte": (fixed(1 << 40), ""),
    "a fixed of a size that nobody can write": (["null", fixed(DIGITS)], None),
    "symbols": (symbols(MAX_VALUES), "S1"),
    "fields": (wide(MAX_TYPES), {}),
    "a default": ({"type": "array", "items": "int"}, [0] * MAX_VALUES),
    "a long text": ("string", "x" * MAX_CHARACTERS),
    "a long name": (fixed(1, name="N" * 600), "\x00"),
    "a long namespace": (fixed(1, namespace=".".join(["n"] * 300)), "\x00"),
    "depth": ({"type": "array", "items": json.loads("[" * 70 + '"int"' + "]" * 70)}, []),
}


class Lenient(MemoryRegistry):
    """A registry that also holds, as number 77 and under our subject, a text that no Avro library has looked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    async def find(self, schema_id: int) -> Registered | None:
        return Registered(self._text, frozenset({SUBJECT})) if schema_id == 77 else None


async def refusal_of(text: str) -> str:
    """Return why a record is parked whose schema is `text`."""
    registry = Lenient(text)
    await register_schemas(registry, MARKET_DATA.topics, MARKET)
    codec = await market_codec(registry)
    value = wire.prefix_of_id(77) + body(MARKET[RECORD].current, TICK)
    await codec.prepare([value])
    fault = refused(codec, value)
    assert fault.code == "UNKNOWN_SCHEMA"
    return fault.detail


@pytest.mark.parametrize(("kind", "default"), DANGEROUS.values(), ids=DANGEROUS)
async def test_a_record_of_a_dangerous_schema_is_parked(kind: Any, default: Any) -> None:
    detail = await refusal_of(text_with(kind, default))
    assert "dangerous" in detail
    assert len(detail) < 500, "no text holds the numbers of a stranger"


@pytest.mark.parametrize(
    "text",
    ["[" * (MAX_VALUES + 1), '"' + "x" * MAX_CHARACTERS + '"'],
    ids=["values", "characters"],
)
def test_what_is_too_large_is_not_even_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(_: str) -> Any:
        raise AssertionError("it is parsed")

    monkeypatch.setattr(avro, "json", SimpleNamespace(loads=parsed))
    with pytest.raises(Dangerous, match="dangerous to parse: a schema of more than"):
        parse_record(text)


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (decimal(1_000), ""),
        (["null", fixed(1 << 20)], None),
        (symbols(MAX_VALUES - 100), "S1"),
        (wide(MAX_TYPES - 100), dict.fromkeys((f"f{each}" for each in range(MAX_TYPES - 100)), 0)),
        ("string", "x" * (MAX_CHARACTERS - 10_000)),
    ],
    ids=["precision", "fixed", "symbols", "fields", "default"],
)
def test_what_is_large_and_not_dangerous_is_taken(kind: Any, default: Any) -> None:
    schema = Schema.of(text_with(kind, default))
    assert dangers(schema.record) == []


def test_a_schema_of_our_own_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(Dangerous, match="dangerous to read: a decimal of more than 1000 digits"):
        Schema.of(text_with(decimal(10**8), ""))


@pytest.mark.parametrize(
    "kind",
    [
        {"type": ["int", "string"]},
        {"type": {"type": ["int", "string"]}},
        {"type": {"type": {"type": "enum", "name": "E", "symbols": ["A"]}, "name": "D", "symbols": ["A"]}},
        {"type": "int", "aliases": [["x"]]},
        {"type": "bytes", "logicalType": ["decimal"]},
    ],
    ids=str,
)
async def test_what_a_library_trips_over_costs_its_own_records_only(kind: Any) -> None:
    """A registry may hold what is no Avro; fastavro then raises whatever it raises."""
    text = text_with(kind, None)
    registry = Lenient(text)
    await register_schemas(registry, MARKET_DATA.topics, MARKET)
    codec = await market_codec(registry)
    ours = single_object(MARKET[RECORD].current, TICK)
    await codec.prepare([wire.prefix_of_id(77) + b"x", ours])
    assert read(codec, ours).fields == TICK
