"""Reading Avro's types without parts, strictly: numbers, texts, bytes, times, decimals.

Each is a function `read(data, at) -> (value, at after it)`; `strict` combines them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from tidemill.catalog.avro import Logical

Read = Callable[[bytes, int], tuple[Any, int]]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1)
_from_timestamp: Final = datetime.fromtimestamp
DOUBLED_UNTIL_2106: Final = 2 * (1 << 32) * 1_000_000
"""Seconds below 2^32 are a float to within a quarter of a microsecond: they are exact, and faster."""
_LONG_BITS: Final = 64
_INT_LIMIT: Final = 1 << 31

double_at = struct.Struct("<d").unpack_from
_float_at = struct.Struct("<f").unpack_from


class Malformed(ValueError):
    """The bytes do not match their schema."""


# --- numbers ---------------------------------------------------------------------------------------------------------


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """Read an int or long: zigzag in 7 bits a byte, as short as it can be, at most 64 bits."""
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
    value, at = read_long(data, at)
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise Malformed(f"int {value} does not fit 32 bits")
    return value, at


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """Read a count or length: a long that is not negative."""
    length, at = read_long(data, at)
    if length < 0:
        raise Malformed(f"a length of {length}")
    return length, at


def _double(data: bytes, at: int) -> tuple[float, int]:
    return double_at(data, at)[0], at + 8


def _float(data: bytes, at: int) -> tuple[float, int]:
    return _float_at(data, at)[0], at + 4


def _boolean(data: bytes, at: int) -> tuple[bool, int]:
    byte = data[at]
    if byte > 1:
        raise Malformed(f"a boolean of {byte}")
    return byte == 1, at + 1


# --- texts and bytes -------------------------------------------------------------------------------------------------


def read_string(data: bytes, at: int) -> tuple[str, int]:
    """Read a string: its length, then its UTF-8."""
    length = data[at]
    if length & 0x81:  # longer than 63 bytes, or negative
        length, at = read_length(data, at)
    else:
        length >>= 1
        at += 1
    end = at + length
    return data[at:end].decode(), end


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = read_length(data, at)
    return data[at : at + length], at + length


def read_fixed(size: int, data: bytes, at: int) -> tuple[bytes, int]:
    """Read `size` bytes."""
    return data[at : at + size], at + size


def _null(_data: bytes, at: int) -> tuple[None, int]:
    return None, at


# --- times and decimals ----------------------------------------------------------------------------------------------


def _timestamp(data: bytes, at: int) -> tuple[datetime, int]:
    raw = int.from_bytes(data[at : at + 8], "little")
    # All times from 1979 to 3111 take 8 bytes: seven that say "more follows", and one that is not zero.
    if raw & 0x8080808080808080 == 0x0080808080808080 and raw >> 56:
        # The 7 bits of all bytes are shifted together: by one, by two, by four.
        raw = (raw & 0x007F007F007F007F) | ((raw & 0x7F007F007F007F00) >> 1)
        raw = (raw & 0x00003FFF00003FFF) | ((raw & 0x3FFF00003FFF0000) >> 2)
        raw = (raw & 0x000000000FFFFFFF) | ((raw & 0x0FFFFFFF00000000) >> 4)
        if raw < DOUBLED_UNTIL_2106 and not raw & 1:
            return _from_timestamp(raw / 2_000_000, UTC), at + 8
    micros, at = read_long(data, at)
    return _EPOCH + timedelta(0, 0, micros), at


def _date(data: bytes, at: int) -> tuple[date, int]:
    days, at = _int(data, at)
    return _EPOCH_DAY + timedelta(days), at


def decimal_reader(read: Read, logical: Logical) -> Read:
    """Return the reader of a decimal whose bytes `read` reads: big-endian two's complement."""
    limit = 10**logical.precision

    def read_decimal(data: bytes, at: int) -> tuple[Decimal, int]:
        raw, at = read(data, at)
        unscaled = int.from_bytes(raw, "big", signed=True)
        if not -limit < unscaled < limit:
            raise Malformed(f"a decimal of more than {logical.precision} digits")
        return Decimal(f"{unscaled}E-{logical.scale}"), at

    return read_decimal


def primitive_reader(kind: str, logical: Logical | None) -> Read:
    """By Avro's rules a reader uses the plain type if it does not know the logical one."""
    if logical == Logical("timestamp-micros") and kind == "long":
        return _timestamp
    if logical == Logical("date") and kind == "int":
        return _date
    if logical is not None and logical.name == "decimal" and kind == "bytes":
        return decimal_reader(_bytes, logical)
    return _PLAIN[kind]


_PLAIN: Final[dict[str, Read]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": read_long,
    "float": _float,
    "double": _double,
    "bytes": _bytes,
    "string": read_string,
}
