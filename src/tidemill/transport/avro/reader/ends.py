"""Where values end, without what they are: for bodies that were read strictly before."""

from __future__ import annotations

from collections.abc import Callable

from tidemill.catalog.avro import NULL, AvroType, Primitive, Union
from tidemill.transport.avro.reader.scalars import read_length
from tidemill.transport.avro.reader.strict import reader_of

EndOf = Callable[[bytes, int], int]
"""`end_of(body, at)`: where the value that begins at `at` ends."""

_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}


def end_of(schema: AvroType) -> EndOf:
    """Return the function that finds the end of a valid value; for the rarer types it reads the value."""
    match schema:
        case Primitive("string" | "bytes"):
            return _end_of_text
        case Primitive("int" | "long"):
            return _end_of_number
        case Primitive(kind) if kind in _SIZES:
            return _after(_SIZES[kind])
        case Union((one, other)) if NULL in (one, other):
            null, present = (0, other) if one == NULL else (2, one)
            return _end_of_optional(null, end_of(present))
        case _:
            return _end_of_read(schema)


def _end_of_text(data: bytes, at: int) -> int:
    size = data[at]
    if size < 0x80:
        return at + 1 + (size >> 1)
    if (more := data[at + 1]) < 0x80:  # up to 8191 bytes
        return at + 2 + ((size & 0x7F | more << 7) >> 1)
    length, at = read_length(data, at)
    return at + length


def _end_of_number(data: bytes, at: int) -> int:
    while data[at] > 0x7F:
        at += 1
    return at + 1


def _after(size: int) -> EndOf:
    def end(_data: bytes, at: int) -> int:
        return at + size

    return end


def _end_of_optional(null: int, end_of_present: EndOf) -> EndOf:
    def end(data: bytes, at: int) -> int:
        return at + 1 if data[at] == null else end_of_present(data, at + 1)

    return end


def _end_of_read(schema: AvroType) -> EndOf:
    read = reader_of(schema)

    def end(data: bytes, at: int) -> int:
        return read(data, at)[1]

    return end
