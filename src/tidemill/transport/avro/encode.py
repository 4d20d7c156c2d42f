"""The parts that are encoded by hand: numbers and texts of outcomes, and the defaults of a schema."""

from __future__ import annotations

import struct
from typing import Any

from tidemill.catalog.avro import Array, AvroType, Enumeration, Map, Primitive, Record, Union
from tidemill.domain.errors import ContractError
from tidemill.transport.wire.varint import encode_varint

pack_double = struct.Struct("<d").pack
_pack_float = struct.Struct("<f").pack


def encode_string(text: str) -> bytes:
    """Return a string: its length in bytes, then its UTF-8."""
    encoded = text.encode()
    return encode_varint(len(encoded)) + encoded


def encode_default(schema: AvroType, value: Any) -> bytes:
    """Return a default of a schema's JSON, as bytes.

    Raises:
        ContractError: it is not a value of the type.
    """
    try:
        return _encode_default(schema, value)
    except (AttributeError, KeyError, TypeError, ValueError, struct.error) as fault:
        raise ContractError(f"default {value!r} is not a value of its type: {fault}") from fault


def _encode_default(schema: AvroType, value: Any) -> bytes:
    match schema:
        case Primitive(kind):
            return _encode_primitive(kind, value)
        case Enumeration(_, symbols):
            return encode_varint(symbols.index(value))
        case Union(branches):
            return b"\x00" + _encode_default(branches[0], value)  # a default is of the first branch
        case Record(_, fields):
            return b"".join(_encode_default(field.type, value[field.name]) for field in fields)
        case Array(items):
            return _block(len(value), b"".join(_encode_default(items, item) for item in value))
        case Map(values):
            entries = (encode_string(key) + _encode_default(values, item) for key, item in value.items())
            return _block(len(value), b"".join(entries))
        case _:
            return str(value).encode("latin-1")


def _encode_primitive(kind: str, value: Any) -> bytes:
    match kind, value:
        case "null", None:
            return b""
        case "boolean", bool():
            return b"\x01" if value else b"\x00"
        case (("int" | "long"), int()) if not isinstance(value, bool):
            return encode_varint(value)
        case "double", (int() | float()):
            return pack_double(value)
        case "float", (int() | float()):
            return _pack_float(value)
        case "string", str():
            return encode_string(value)
        case "bytes", str():  # each character stands for the byte of its number
            encoded = value.encode("latin-1")
            return encode_varint(len(encoded)) + encoded
        case _:
            raise ValueError(f"it must be {kind}")


def _block(count: int, items: bytes) -> bytes:
    return encode_varint(count) + items + b"\x00" if count else b"\x00"
