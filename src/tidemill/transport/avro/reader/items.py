"""Reading the items of an array, many at once: a call for each takes longer than all else about a number."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tidemill.catalog.avro import NULL, AvroType, Primitive, Union
from tidemill.transport.avro.reader.scalars import Malformed, Read, double_at

ReadItems = Callable[[bytes, int, int], tuple[list[Any], int]]
"""`read(data, at, count) -> (items, at after them)`; `count` is no more than there are bytes."""

_DOUBLE: Final = Primitive("double")
_DOUBLE_BYTES: Final = 8
_OF_ONE_BYTE: Final = [byte >> 1 ^ -(byte & 1) for byte in range(0x80)]
"""The numbers whose zigzag is one byte."""


def items_reader(items: AvroType, read: Read) -> ReadItems:
    """Return what reads the items of an array of one type; `read` reads one of them."""
    match items:
        case Primitive("double"):
            return _doubles
        case Primitive("long", None):
            return partial(_longs, read)
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


def _optional_doubles(null: int, present: int, data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    """`null`, `present`: the bytes of the indexes of the branches."""
    items: list[Any] = []
    append = items.append
    for _ in range(count):
        branch = data[at]
        at += 1
        if branch == present:
            append(double_at(data, at)[0])
            at += _DOUBLE_BYTES
        elif branch == null:
            append(None)
        else:
            raise Malformed("a union index that is neither of its two branches")
    return items, at
