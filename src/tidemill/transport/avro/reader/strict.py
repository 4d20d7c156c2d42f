"""Reading Avro strictly: only what a correct writer would have written is accepted.

fastavro accepts what no reader should (measured with 1.13.1): bytes after the body, an enum or union index of -1,
varints of 11 bytes, a boolean of 7. Checking its result would cost a second pass; this reader costs less than the
first one. It is a function per type, combined once per schema, and one for the message itself:

    read(data, at) -> (value, at after it)

A length beyond the end is not checked where it is read: slices are short there and cost nothing, the next
byte read raises `IndexError`, and the end of the body is compared at last.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import Any, Final

from tidemill.catalog.avro import (
    NULL,
    Array,
    AvroType,
    Enumeration,
    Fixed,
    Map,
    Primitive,
    Record,
    Union,
)
from tidemill.domain.errors import ContractError
from tidemill.transport.avro.reader.items import ReadItems, items_reader
from tidemill.transport.avro.reader.scalars import (
    Malformed,
    Read,
    decimal_reader,
    primitive_reader,
    read_fixed,
    read_length,
    read_long,
    read_string,
)
from tidemill.transport.avro.reader.unrolled import ReadMessage, unrolled, wrong_branch

FAULTS: Final = (ValueError, IndexError, OverflowError, struct.error)
"""What a reader raises on bytes that do not match their schema."""

MAX_ITEMS: Final = 65_536
"""Items of one array or map. An item of one byte can become 200 bytes of Python."""


class TooManyItems(Malformed):
    """An array or map has more than `MAX_ITEMS`."""


def explain(fault: Exception) -> str:
    """Return the message of a fault among `FAULTS`, for the sender of the bytes."""
    if isinstance(fault, IndexError | struct.error):
        return "the body ends before its last field"
    if isinstance(fault, UnicodeDecodeError):
        return f"a string is not UTF-8: {fault.reason}"
    if isinstance(fault, OverflowError):
        return "a time is out of range"
    return str(fault)


def message_reader(record: Record, *, base: int) -> ReadMessage:
    """Return the reader of a whole body, which raises `FAULTS`; its schema must be free of `lint.dangers`.

    `base`: how many fields come before those that make two payloads equal.
    """
    return unrolled(record.fields, base=base, reader_of=_field_reader)


def _field_reader(schema: AvroType) -> Read:
    """Return the function that reads a whole field: an array as a `CutArray` if equal items may have other bytes."""
    match schema:
        case Array(items):
            return partial(read_blocks, items_reader(items, reader_of(items)))
        case _:
            return reader_of(schema)


def reader_of(schema: AvroType) -> Read:
    """Return the function that reads one type."""
    match schema:
        case Primitive(kind, logical):
            return primitive_reader(kind, logical)
        case Fixed(_, size, logical):
            plain = partial(read_fixed, size)
            return plain if logical is None else decimal_reader(plain, logical)
        case Enumeration(_, symbols):
            return partial(read_symbol, symbols)
        case Array(items):
            return partial(read_array, reader_of(items))
        case Map(values):
            return partial(read_map, reader_of(values))
        case Union(branches):
            return _union_reader(branches)
        case Record():
            return partial(read_record, _parts(schema))
        case _:
            raise ContractError(f"{schema.name} is recursive: its data can end the process")


def _parts(record: Record) -> tuple[tuple[str, Read], ...]:
    return tuple((field.name, reader_of(field.type)) for field in record.fields)


# --- composite types -----------------------------------------------------------------------------------------------


def read_record(parts: tuple[tuple[str, Read], ...], data: bytes, at: int) -> tuple[dict[str, Any], int]:
    """Read a record inside a message; `fields`: the reader of each field, by name."""
    fields: dict[str, Any] = {}
    for name, read in parts:
        fields[name], at = read(data, at)
    return fields, at


def read_symbol(symbols: tuple[str, ...], data: bytes, at: int) -> tuple[str, int]:
    """Read a symbol of an enum."""
    index, at = read_length(data, at)
    if index >= len(symbols):
        raise Malformed(f"symbol {index} of {len(symbols)}")
    return symbols[index], at


def _union_reader(branches: tuple[AvroType, ...]) -> Read:
    readers = tuple(reader_of(branch) for branch in branches)
    if len(branches) == 2 and NULL in branches:
        null = branches.index(NULL)
        return _optional_reader(2 * null, readers[1 - null])
    return partial(read_union, readers)


def _optional_reader(null: int, read: Read) -> Read:
    """`null` is the byte of the null branch's index: 0 or 2."""
    present = 2 - null

    def read_optional(data: bytes, at: int) -> tuple[Any, int]:
        index = data[at]
        if index == null:
            return None, at + 1
        if index == present:
            return read(data, at + 1)
        raise wrong_branch()

    return read_optional


def read_union(readers: tuple[Read, ...], data: bytes, at: int) -> tuple[Any, int]:
    """Read a value of one of several types."""
    index, at = read_length(data, at)
    if index >= len(readers):
        raise Malformed(f"branch {index} of {len(readers)}")
    return readers[index](data, at)


class CutArray(list[Any]):
    """An array that came in other blocks than a writer here makes of the same items: in one, without its size."""


def read_array(read: Read, data: bytes, at: int) -> tuple[list[Any], int]:
    """Read an array, whose items `read` reads."""
    items: list[Any] = []
    while True:
        count, at, end = _block(data, at, len(items))
        if count == 0:
            return items, at
        for _ in range(count):
            item, at = read(data, at)
            items.append(item)
        _check_block(at, end)


def read_blocks(read: ReadItems, data: bytes, at: int) -> tuple[list[Any], int]:
    """Read an array, whose items `read` reads, as a `CutArray` if its bytes may differ from those of an equal one."""
    count, at, end = _block(data, at, 0)
    if count == 0:
        return [], at
    items, at = read(data, at, count)
    if end is None and data[at] == 0:
        return items, at + 1  # nearly always
    items = CutArray(items)
    while True:
        _check_block(at, end)
        count, at, end = _block(data, at, len(items))
        if count == 0:
            return items, at
        more, at = read(data, at, count)
        items += more


def read_map(read: Read, data: bytes, at: int) -> tuple[dict[str, Any], int]:
    """Read a map, whose values `read` reads."""
    entries: dict[str, Any] = {}
    total = 0
    while True:
        count, at, end = _block(data, at, total)
        if count == 0:
            return entries, at
        total += count
        for _ in range(count):
            key, at = read_string(data, at)
            entries[key], at = read(data, at)
        _check_block(at, end)


def _block(data: bytes, at: int, total: int) -> tuple[int, int, int | None]:
    """Read a block's head: how many items, where they begin, and where they end, if the writer gives the size."""
    count, at = read_long(data, at)
    end = None
    if count < 0:
        count = -count
        size, at = read_length(data, at)
        end = at + size
    if count > len(data) - at:  # no item is without bytes
        raise Malformed(f"{count} items in {len(data) - at} bytes")
    if total + count > MAX_ITEMS:
        raise TooManyItems(f"an array or map of more than {MAX_ITEMS} items")
    return count, at, end


def _check_block(at: int, end: int | None) -> None:
    if end is not None and at != end:
        raise Malformed("a block that differs from its stated size")
