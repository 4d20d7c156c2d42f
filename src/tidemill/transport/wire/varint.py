"""Numbers as Avro and Kafka write them: zigzag, then 7 bits a byte, lowest first.

Several are written for every command, so the values of 7 and of 14 bits are made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_LAST: Final = tuple(bytes((raw,)) for raw in range(0x80))
_SHORT: Final = _LAST + tuple(bytes((raw & 0x7F | 0x80, raw >> 7)) for raw in range(0x80, 0x4000))
_LOW: Final = tuple(bytes((raw & 0x7F | 0x80, raw >> 7 | 0x80)) for raw in range(0x4000))


def encode_varint(value: int) -> bytes:
    """Return a number of up to 64 bits, signed."""
    if 0 <= value < 0x8000000:  # nearly always: a sign, and up to four bytes
        raw = value << 1
        return _SHORT[raw] if raw < 0x4000 else _LOW[raw & 0x3FFF] + _SHORT[raw >> 14]
    raw = value << 1 ^ value >> 63
    if raw < 0x4000:
        return _SHORT[raw]
    encoded = _LOW[raw & 0x3FFF]
    raw >>= 14
    while raw >= 0x4000:
        encoded += _LOW[raw & 0x3FFF]
        raw >>= 14
    return encoded + _SHORT[raw]


def encode_varints(values: Sequence[int]) -> list[bytes]:
    """Return numbers as `encode_varint` does; many of some size take a third of the time."""
    if values and min(values) >= 0x2000 and max(values) < 0x8000000:
        return [_LOW[value << 1 & 0x3FFF] + _SHORT[value >> 13] for value in values]
    return [encode_varint(value) for value in values]


class _Varints(dict[int, bytes]):
    """Cached encoded numbers; others are encoded on demand."""

    def __missing__(self, value: int) -> bytes:
        return encode_varint(value)


VARINT: Final = _Varints((value, encode_varint(value)) for value in range(0x2000))
"""`VARINT[length]` is `encode_varint(length)` in a third of the time, for mostly small numbers."""


def decode_varint(encoded: bytes, place: int) -> tuple[int, int]:
    """Return the number at `place`, and the place after it. Raises `IndexError` if it has no end."""
    raw = shift = 0
    while (byte := encoded[place]) > 0x7F:
        raw |= (byte & 0x7F) << shift
        shift += 7
        place += 1
    raw |= byte << shift
    return raw >> 1 ^ -(raw & 1), place + 1
