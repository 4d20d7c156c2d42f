"""Reading the items of an array, many at once: a call for each takes longer than all else about a number."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import numpy as np

from tidemill.catalog.avro import NULL, AvroType, Logical, Primitive, Union
from tidemill.transport.avro.reader.scalars import DOUBLED_UNTIL_2106, Malformed, Read

ReadItems = Callable[[bytes, int, int], tuple[list[Any], int]]
"""`read(data, at, count) -> (items, at after them)`; `count` is no more than there are bytes."""

_DOUBLE: Final = Primitive("double")
_DOUBLE_BYTES: Final = 8
_OF_ONE_BYTE: Final = [byte >> 1 ^ -(byte & 1) for byte in range(0x80)]
"""The numbers whose zigzag is one byte."""

_OPTIONAL_BYTES: Final = 1 + _DOUBLE_BYTES
_RUNS: Final = {branch: re.compile(b"(?s:%c.{8})+" % branch) for branch in (0, 2)}

_LONG_BYTES: Final = 8
_GOES_ON, _LAST_OF_8, _LAST_BYTE = 0x8080808080808080, 0x0080808080808080, 56
_JOINED: Final = (
    (0x007F007F007F007F, 0x7F007F007F007F00, 1),
    (0x00003FFF00003FFF, 0x3FFF00003FFF0000, 2),
    (0x000000000FFFFFFF, 0x0FFFFFFF00000000, 4),
)
"""The 7 bits of a number's bytes are joined by ones, twos, fours: what stays, what moves, by how many bits."""
_from_timestamp = datetime.fromtimestamp


def items_reader(items: AvroType, read: Read) -> ReadItems:
    """Return what reads the items of an array of one type; `read` reads one of them."""
    match items:
        case Primitive("double"):
            return _doubles
        case Primitive("long", None):
            return partial(_longs, read)
        case Primitive("long", Logical("timestamp-micros")):
            return partial(_timestamps, read)
        case Union((first, second)) if {first, second} == {NULL, _DOUBLE}:
            return partial(_optional_doubles, *((0, 2) if first == NULL else (2, 0)))
        case _:
            return partial(_one_by_one, read)


def _one_by_one(read: Read, data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    append = items.append
    for _ in range(count):
        item, at = read(data, at)
        append(item)
    return items, at


def _doubles(data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    return [*struct.unpack_from(f"<{count}d", data, at)], at + count * _DOUBLE_BYTES


def _longs(read: Read, data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    """Small numbers have a byte each, which is known by the largest of the bytes."""
    small = data[at : at + count]
    if max(small, default=0) < len(_OF_ONE_BYTE):
        return [_OF_ONE_BYTE[byte] for byte in small], at + count
    return _one_by_one(read, data, at, count)


def _timestamps(read: Read, data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    """Times that take 8 bytes each, as those from 1979 to 2106 do, are read at once: see `scalars`."""
    end = at + count * _LONG_BYTES
    if end <= len(data):
        raw = np.frombuffer(data, "<u8", count, at)
        if ((raw & _GOES_ON) == _LAST_OF_8).all() and (raw >> _LAST_BYTE).all():
            for kept, moved, places in _JOINED:
                raw = (raw & kept) | ((raw & moved) >> places)
            if (raw < DOUBLED_UNTIL_2106).all() and not (raw & 1).any():
                return [_from_timestamp(seconds, UTC) for seconds in (raw / 2_000_000).tolist()], end
    return _one_by_one(read, data, at, count)


def _optional_doubles(null: int, present: int, data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    """`null`, `present`: the bytes of the indexes of the branches. Runs of numbers are read at once."""
    items: list[Any] = []
    run = _RUNS[present]
    while left := count - len(items):
        if numbers := run.match(data, at, at + left * _OPTIONAL_BYTES):
            items += struct.unpack("<" + (numbers.end() - at) // _OPTIONAL_BYTES * "xd", numbers[0])
            at = numbers.end()
        elif data[at] == null:
            items.append(None)
            at += 1
        elif data[at] == present:
            raise Malformed("the data end within a number")
        else:
            raise Malformed("a union index that is neither of its two branches")
    return items, at
