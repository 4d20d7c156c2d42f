"""Limits of a batch of Kafka: the number of its records, and of the headers of a record.

A record with a million empty headers is 2 MB, some hundred bytes of zstd, and 64 MB as objects of the client, which
makes them before they can be checked. So a batch is scanned before the client gets it: a record with more
headers than are read is passed on without any, and gets its first ones later, followed by a mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from aiokafka.record.default_records import _DefaultRecordPy

from tidemill.domain.headers import CUT_HEADERS, MAX_HEADER_BYTES, MAX_HEADERS, CutHeaders
from tidemill.transport.wire.record_format import decode_field
from tidemill.transport.wire.varint import decode_varint, encode_varint

MAX_RECORDS: Final = 100_000
"""Of a batch: ten times what stock producers put into one."""

OVERSIZED_BYTES: Final = 2 * MAX_HEADERS
"""A shorter record cannot have more headers than are read: each takes two bytes."""


class Crowd(NamedTuple):
    """The headers of a record that has too many: where they are in the batch, and how many."""

    start: int
    end: int
    headers: int

    def read(self, batch: bytes) -> list[tuple[str, bytes | None]]:
        """Return the first headers, as many as are read, followed by their total number."""
        headers: list[tuple[str, bytes | None]] = []
        place, last = self.start, min(self.end, self.start + MAX_HEADER_BYTES)
        while len(headers) < MAX_HEADERS:
            name, place = decode_field(batch, place)
            value, place = decode_field(batch, place)
            if place > last:
                break
            headers.append(((name or b"").decode(errors="surrogateescape"), value))
        told = f"{self.headers} headers of {self.end - self.start} bytes"
        return [*headers, CutHeaders(CUT_HEADERS, told.encode())]


def without_crowds(batch: bytes, start: int, count: int) -> tuple[bytes, dict[int, Crowd]]:
    """Return a batch without excess headers, and their places, by offset delta.

    `start`: where its records begin, which are not compressed; `count`: how many they are.

    What is damaged is left to the client, which raises.
    """
    pieces: list[bytes] = []
    crowds: dict[int, Crowd] = {}
    copied_to = 0
    for place, body, end in _oversized(batch, start, count):
        number, headers = _before_headers(batch, body)
        many, first = decode_varint(batch, headers)
        if many <= MAX_HEADERS and end - first <= MAX_HEADER_BYTES:
            continue
        crowds[number] = Crowd(first, end, many)
        kept = batch[body:headers]  # and 0 as the number of its headers
        pieces += batch[copied_to:place], encode_varint(len(kept) + 1), kept, b"\x00"
        copied_to = end
    return (b"".join([*pieces, batch[copied_to:]]) if crowds else batch), crowds


def _oversized(records: bytes, place: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, start after the length, end) of each record that is large enough to have too many headers.

    `place`: where the first one begins.
    """
    last = len(records)
    for _ in range(count):
        start = place
        size = records[place] >> 1
        if records[place] < 0x80:
            place += 1
        elif records[place + 1] < 0x80:  # as most are; without a call this takes a tenth of a microsecond
            size = (records[place] & 0x7F | records[place + 1] << 7) >> 1
            place += 2
        else:
            size, place = decode_varint(records, place)
        end = place + size
        if not place < end <= last:
            return
        if size > OVERSIZED_BYTES:
            yield start, place, end
        place = end


def _before_headers(records: bytes, body: int) -> tuple[int, int]:
    """Return a record's offset delta, and where its headers begin, with their number."""
    _, place = decode_varint(records, body + 1)  # after the attributes
    number, place = decode_varint(records, place)
    for _ in ("key", "value"):
        length, place = decode_varint(records, place)
        place += max(0, length)
    return number, place


def with_headers(record: Any, headers: list[tuple[str, bytes | None]]) -> _DefaultRecordPy:
    """Return the client's record, with these headers."""
    return _DefaultRecordPy(
        record.offset, record.timestamp, record.timestamp_type, record.key, record.value, headers
    )
