"""Key, value and headers in the format of a Kafka record, so that what many records share is encoded once.

In Kafka's record format 2 each is a length, -1 for none, and bytes: key, value, then, after their number, the
headers, each of them a name and a value. In a name, which is text, bytes that are not UTF-8 are code points of
`surrogateescape`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tidemill.transport.wire.varint import decode_varint, encode_varint

Header = tuple[str, bytes | None]

_NONE: Final = encode_varint(-1)


def encode_field(field: bytes | None) -> bytes:
    """Return a key, a value, or a header's name or value."""
    return _NONE if field is None else encode_varint(len(field)) + field


def encode_header(name: str, value: bytes | None) -> bytes:
    """Return a header."""
    return encode_field(name.encode(errors="surrogateescape")) + encode_field(value)


def encode_record(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> bytes:
    """Return all of a record except its place in a batch."""
    fields = [encode_field(key), encode_field(value), encode_varint(len(headers))]
    return b"".join(fields + [encode_header(*header) for header in headers])


def decode_record(encoded: bytes) -> tuple[bytes | None, bytes | None, list[Header]]:
    """Return key, value and headers. Raises `IndexError` for anything else than `encode_record` returns."""
    key, place = decode_field(encoded, 0)
    value, place = decode_field(encoded, place)
    return key, value, list(_decode_headers(encoded, place))


def _decode_headers(encoded: bytes, place: int) -> Iterator[Header]:
    count, place = decode_varint(encoded, place)
    for _ in range(count):
        name, place = decode_field(encoded, place)
        value, place = decode_field(encoded, place)
        yield (name or b"").decode(errors="surrogateescape"), value


def decode_field(encoded: bytes, place: int) -> tuple[bytes | None, int]:
    """Return the field at `place`, and the place after it."""
    length, place = decode_varint(encoded, place)
    return (None, place) if length < 0 else (encoded[place : place + length], place + length)
