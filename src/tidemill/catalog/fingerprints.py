"""Comparable forms of Avro schemas: canonical form, fingerprint, meaning, layout.

Avro's own canonical form drops what it does not need to split bytes: logical types and defaults. Two schemas can
therefore share a fingerprint and differ in what the bytes mean; `meaning` distinguishes those.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tidemill.catalog.avro import (
    Array,
    AvroType,
    Enumeration,
    Field,
    Fixed,
    Logical,
    Map,
    Primitive,
    Record,
    Recursion,
    Union,
)

_EMPTY_CRC: Final = 0xC15D213AA4D7A795


def canonical_form(schema: AvroType) -> str:
    """Return Avro's Parsing Canonical Form: it decides about bytes; logical types, defaults and docs are left out."""
    return json.dumps(_plain(schema, set(), full=False), separators=(",", ":"), ensure_ascii=False)


def meaning(schema: AvroType) -> str:
    """Return everything about a schema except its docs: equal texts mean equal values for equal bytes."""
    return json.dumps(_plain(schema, set(), full=True), separators=(",", ":"), ensure_ascii=False)


def layout(schema: Record) -> str:
    """Return what decides about the bytes and values of a record's fields, whatever the record's name."""
    fields = tuple(Field(field.name, field.type) for field in schema.fields)
    return meaning(Record("layout", fields))


def fingerprint(schema: AvroType) -> bytes:
    """Return the 8 bytes of the CRC-64-AVRO fingerprint, in the order of single-object encoding (little-endian)."""
    crc = _EMPTY_CRC
    for byte in canonical_form(schema).encode():
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc.to_bytes(8, "little")


def _plain(schema: AvroType, seen: set[str], *, full: bool) -> Any:
    """Return a schema as JSON in canonical order; `full` adds logical types and defaults."""
    match schema:
        case Primitive(kind, logical):
            return kind if logical is None or not full else {"type": kind, **_plain_logical(logical)}
        case Array(items):
            return {"type": "array", "items": _plain(items, seen, full=full)}
        case Map(values):
            return {"type": "map", "values": _plain(values, seen, full=full)}
        case Union(branches):
            return [_plain(branch, seen, full=full) for branch in branches]
        case Recursion(name):
            return name
        case Fixed() | Enumeration() | Record():
            if schema.name in seen:
                return schema.name
            seen.add(schema.name)
            return _plain_definition(schema, seen, full=full)


def _plain_definition(schema: Fixed | Enumeration | Record, seen: set[str], *, full: bool) -> dict[str, Any]:
    match schema:
        case Fixed(name, size, logical):
            extra = _plain_logical(logical) if full and logical is not None else {}
            return {"name": name, "type": "fixed", "size": size, **extra}
        case Enumeration(name, symbols, default):
            extra = {"default": default} if full else {}
            return {"name": name, "type": "enum", "symbols": list(symbols), **extra}
        case Record(name, fields):
            return {
                "name": name,
                "type": "record",
                "fields": [_plain_field(field, seen, full=full) for field in fields],
            }


def _plain_field(field: Field, seen: set[str], *, full: bool) -> dict[str, Any]:
    default = {"default": field.default.value} if full and field.default is not None else {}
    return {"name": field.name, "type": _plain(field.type, seen, full=full), **default}


def _plain_logical(logical: Logical) -> dict[str, Any]:
    plain: dict[str, Any] = {"logicalType": logical.name}
    if logical.precision:
        plain |= {"precision": logical.precision, "scale": logical.scale}
    return plain


def _crc_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (_EMPTY_CRC & -(crc & 1))
    return crc


_CRC_TABLE: Final = tuple(_crc_of_byte(byte) for byte in range(256))
