"""Packs as an outsider reads them: what the columns of `tm.pack` and Kafka's record format say of each record.

https://kafka.apache.org/documentation/#record has the format; the records are compressed with zstd.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import pyarrow as pa


def waiting_in_pack(pack: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a pack holds at its `place`: each event, and each outcome without one."""
    moved = pack["moved_positions"]
    events: dict[int, list[int]] = {}
    for headers in _records(pack["events"]):
        numbers = events.setdefault(int(headers["tm_position"]) + moved, [])
        numbers.append(int(headers["ce_id"].decode().rpartition(":")[2]) - 1)
    for headers in _records(pack["outcomes"]):
        position = int(headers["tm_position"]) + moved
        if pack["first_position"] <= position <= pack["position"]:
            for item in events.get(position, [0]):
                yield {"place": pack["place"], "position": position, "item": item}


def _records(compressed: bytes | None) -> Iterator[dict[str, bytes]]:
    """Yield the headers of each record."""
    if compressed is None:
        return
    file = BytesIO(pa.CompressedInputStream(pa.BufferReader(compressed), "zstd").read())
    while _more(file):
        size = _number(file)
        record = BytesIO(file.read(size))
        record.read(1)  # attributes
        _number(record), _number(record)  # time and offset, from those of the batch
        _bytes(record), _bytes(record)  # key and value
        yield {_bytes(record).decode(): _bytes(record) for _ in range(_number(record))}


def _more(file: BytesIO) -> bool:
    more = file.read(1)
    file.seek(-len(more), 1)
    return bool(more)


def _bytes(file: BytesIO) -> bytes:
    return file.read(max(0, _number(file)))  # -1: a null


def _number(file: BytesIO) -> int:
    """Return a number of variable length, in zigzag."""
    value = shift = 0
    while True:
        (byte,) = file.read(1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value >> 1 ^ -(value & 1)
        shift += 7
