"""Reading Avro strictly: nothing that a well-behaved writer would not have written gets through.

fastavro lets pass what no reader should (measured with 1.13.1): bytes behind the body, an enum or union index of -1,
varints of 11 bytes, a boolean of 7. To check its work would cost a second pass; a reader of our own costs less than the
first one. It is a function per type, put together once per schema:

    read(data, at) -> (value, at behind it)

A length that points behind the end is not checked where it is read: slices are short there and cost nothing, the next
byte read raises `IndexError`, and the end of the body is compared at last.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

from tidemill.catalog.avro import (
    NULL,
    Array,
    AvroType,
    Enumeration,
    Fixed,
    Logical,
    Map,
    Primitive,
    Record,
    Union,
)
from tidemill.domain.errors import ContractError

Read = Callable[[bytes, int], tuple[Any, int]]

FAULTS: Final = (ValueError, IndexError, OverflowError, struct.error)
"""What a reader raises on bytes that are not what their schema says."""

MAX_ITEMS: Final = 65_536
"""Items of one array or map. An item of one byte can become 200 bytes of Python."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1)
_LONG_BITS: Final = 64
_INT_LIMIT: Final = 1 << 31

_double_at = struct.Struct("<d").unpack_from
_float_at = struct.Struct("<f").unpack_from


class Malformed(ValueError):
    """The bytes are not what their schema says."""


class TooManyItems(Malformed):
    """An array or map has more than `MAX_ITEMS`."""


def explain(fault: Exception) -> str:
    """Return what a fault among `FAULTS` means for the person who wrote the bytes."""
    if isinstance(fault, IndexError | struct.error):
        return "the body ends before its last field"
    if isinstance(fault, UnicodeDecodeError):
        return f"a string is no UTF-8: {fault.reason}"
    if isinstance(fault, OverflowError):
        return "a time is out of range"
    return str(fault)


class MessageReader:
    """Reads the body of one record schema, which must be free of `lint.dangers`."""

    def __init__(self, record: Record, *, base: int) -> None:
        """`base`: how many fields stand before those that make two payloads equal."""
        parts = _parts(record)
        self._base, self._own = parts[:base], parts[base:]

    def read(self, data: bytes, at: int) -> tuple[dict[str, Any], int]:
        """Return field -> value of the body from `at` to the end of `data`, and where the own fields begin.

        Raises:
            FAULTS: the bytes are not what the schema says.
        """
        fields: dict[str, Any] = {}
        for name, read in self._base:
            fields[name], at = read(data, at)
        own = at
        for name, read in self._own:
            fields[name], at = read(data, at)
        if at != len(data):
            short = at > len(data)
            raise Malformed(
                "the body ends before its last field" if short else f"{len(data) - at} bytes too many"
            )
        return fields, own


def reader_of(schema: AvroType) -> Read:
    """Return the function that reads one type."""
    match schema:
        case Primitive(kind, logical):
            return _primitive_reader(kind, logical)
        case Fixed(_, size, logical):
            plain = partial(_fixed, size)
            return plain if logical is None else _decimal_reader(plain, logical)
        case Enumeration(_, symbols):
            return partial(_enumeration, symbols)
        case Array(items):
            return partial(_array, reader_of(items))
        case Map(values):
            return partial(_map, reader_of(values))
        case Union(branches):
            return _union_reader(branches)
        case Record():
            return partial(_record, _parts(schema))
        case _:
            raise ContractError(f"{schema.name} is recursive: its data can end the process")


def _parts(record: Record) -> tuple[tuple[str, Read], ...]:
    return tuple((field.name, reader_of(field.type)) for field in record.fields)


# --- numbers ---------------------------------------------------------------------------------------------------------


def _long(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte >> 1 ^ -(byte & 1), at + 1
    return _long_of_many_bytes(data, at)


def _long_of_many_bytes(data: bytes, at: int) -> tuple[int, int]:
    raw = shift = 0
    while True:
        byte = data[at]
        at += 1
        raw |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > _LONG_BITS:
            raise Malformed("a number of more than 10 bytes")
    if byte == 0 or raw >> _LONG_BITS:
        raise Malformed("a number that is padded or does not fit 64 bits")
    return raw >> 1 ^ -(raw & 1), at


def _int(data: bytes, at: int) -> tuple[int, int]:
    value, at = _long(data, at)
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise Malformed(f"int {value} does not fit 32 bits")
    return value, at


def _length(data: bytes, at: int) -> tuple[int, int]:
    length, at = _long(data, at)
    if length < 0:
        raise Malformed(f"a length of {length}")
    return length, at


def _double(data: bytes, at: int) -> tuple[float, int]:
    return _double_at(data, at)[0], at + 8


def _float(data: bytes, at: int) -> tuple[float, int]:
    return _float_at(data, at)[0], at + 4


def _boolean(data: bytes, at: int) -> tuple[bool, int]:
    byte = data[at]
    if byte > 1:
        raise Malformed(f"a boolean of {byte}")
    return byte == 1, at + 1


# --- texts and bytes -------------------------------------------------------------------------------------------------


def _string(data: bytes, at: int) -> tuple[str, int]:
    length = data[at]
    if length & 0x81:  # longer than 63 bytes, or negative
        length, at = _length(data, at)
    else:
        length >>= 1
        at += 1
    end = at + length
    return data[at:end].decode(), end


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _length(data, at)
    return data[at : at + length], at + length


def _fixed(size: int, data: bytes, at: int) -> tuple[bytes, int]:
    return data[at : at + size], at + size


def _null(_data: bytes, at: int) -> tuple[None, int]:
    return None, at


# --- times and decimals ----------------------------------------------------------------------------------------------


def _timestamp(data: bytes, at: int) -> tuple[datetime, int]:
    raw = int.from_bytes(data[at : at + 8], "little")
    if raw & 0x8080808080808080 != 0x0080808080808080:  # all times from 1979 to 3111 take 8 bytes
        micros, at = _long(data, at)
        return _EPOCH + timedelta(0, 0, micros), at
    raw = (raw & 0x007F007F007F007F) | (
        raw & 0x7F007F007F007F00
    ) >> 1  # the 7 bits of each byte move together
    raw = (raw & 0x00003FFF00003FFF) | (raw & 0x3FFF00003FFF0000) >> 2
    raw = (raw & 0x000000000FFFFFFF) | (raw & 0x0FFFFFFF00000000) >> 4
    return _EPOCH + timedelta(0, 0, raw >> 1 ^ -(raw & 1)), at + 8


def _date(data: bytes, at: int) -> tuple[date, int]:
    days, at = _int(data, at)
    return _EPOCH_DAY + timedelta(days), at


def _decimal_reader(read: Read, logical: Logical) -> Read:
    limit = 10**logical.precision

    def read_decimal(data: bytes, at: int) -> tuple[Decimal, int]:
        raw, at = read(data, at)
        unscaled = int.from_bytes(raw, "big", signed=True)
        if not -limit < unscaled < limit:
            raise Malformed(f"a decimal of more than {logical.precision} digits")
        return Decimal(f"{unscaled}E-{logical.scale}"), at

    return read_decimal


def _primitive_reader(kind: str, logical: Logical | None) -> Read:
    """Avro has a reader take the plain type where it does not know the logical one."""
    if logical == Logical("timestamp-micros") and kind == "long":
        return _timestamp
    if logical == Logical("date") and kind == "int":
        return _date
    if logical is not None and logical.name == "decimal" and kind == "bytes":
        return _decimal_reader(_bytes, logical)
    return _PLAIN[kind]


# --- what holds others -----------------------------------------------------------------------------------------------


def _record(parts: tuple[tuple[str, Read], ...], data: bytes, at: int) -> tuple[dict[str, Any], int]:
    fields: dict[str, Any] = {}
    for name, read in parts:
        fields[name], at = read(data, at)
    return fields, at


def _enumeration(symbols: tuple[str, ...], data: bytes, at: int) -> tuple[str, int]:
    index, at = _length(data, at)
    if index >= len(symbols):
        raise Malformed(f"symbol {index} of {len(symbols)}")
    return symbols[index], at


def _union_reader(branches: tuple[AvroType, ...]) -> Read:
    if branches == (NULL, Primitive("double")):
        return _optional_double
    readers = tuple(reader_of(branch) for branch in branches)
    if len(branches) == 2 and NULL in branches:
        null = branches.index(NULL)
        return _optional_reader(2 * null, readers[1 - null])
    return partial(_union, readers)


def _optional_reader(null: int, read: Read) -> Read:
    """`null` is the byte of the null branch's index: 0 or 2."""
    present = 2 - null

    def read_optional(data: bytes, at: int) -> tuple[Any, int]:
        index = data[at]
        if index == null:
            return None, at + 1
        if index == present:
            return read(data, at + 1)
        raise Malformed("a union index that is neither of its two branches")

    return read_optional


def _optional_double(data: bytes, at: int) -> tuple[float | None, int]:
    """One call instead of two: facts are mostly optional numbers."""
    index = data[at]
    if index == 2:
        return _double_at(data, at + 1)[0], at + 9
    if index == 0:
        return None, at + 1
    raise Malformed("a union index that is neither of its two branches")


def _union(readers: tuple[Read, ...], data: bytes, at: int) -> tuple[Any, int]:
    index, at = _length(data, at)
    if index >= len(readers):
        raise Malformed(f"branch {index} of {len(readers)}")
    return readers[index](data, at)


def _array(read: Read, data: bytes, at: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while True:
        count, at, end = _block(data, at, len(items))
        if count == 0:
            return items, at
        for _ in range(count):
            item, at = read(data, at)
            items.append(item)
        _check_block(at, end)


def _map(read: Read, data: bytes, at: int) -> tuple[dict[str, Any], int]:
    entries: dict[str, Any] = {}
    total = 0
    while True:
        count, at, end = _block(data, at, total)
        if count == 0:
            return entries, at
        total += count
        for _ in range(count):
            key, at = _string(data, at)
            entries[key], at = read(data, at)
        _check_block(at, end)


def _block(data: bytes, at: int, total: int) -> tuple[int, int, int | None]:
    """Read a block's head: how many items, where they begin, and where the writer says that they end, if it does."""
    count, at = _long(data, at)
    end = None
    if count < 0:
        count = -count
        size, at = _length(data, at)
        end = at + size
    if count > len(data) - at:  # no item is without bytes
        raise Malformed(f"{count} items in {len(data) - at} bytes")
    if total + count > MAX_ITEMS:
        raise TooManyItems(f"an array or map of more than {MAX_ITEMS} items")
    return count, at, end


def _check_block(at: int, end: int | None) -> None:
    if end is not None and at != end:
        raise Malformed("a block of another size than it says")


_PLAIN: Final[dict[str, Read]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _float,
    "double": _double,
    "bytes": _bytes,
    "string": _string,
}
