"""Batches for a consumer: with headers of any name, and with limits.

Kafka takes a header's name as bytes, and other clients send and read any. aiokafka raises at such a name while it
unpacks the batch: one record of an external writer would make all later ones unreadable, and halt its lane. So the
client's records are replaced by ones that unpack the rest of such a batch here: a byte in a name that is not UTF-8
becomes a code point of Python's `surrogateescape`, which restores it unchanged.

The unpacked size of a batch is limited in bytes (`decompression_limit`), in records and in headers (`record_limits`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import aiokafka.consumer.fetcher as client
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords

from tidemill.transport.kafka.patches.decompression_limit import UnpacksTooLarge, unpack
from tidemill.transport.kafka.patches.record_limits import (
    MAX_RECORDS,
    OVERSIZED_BYTES,
    Crowd,
    with_headers,
    without_crowds,
)
from tidemill.transport.wire.record_format import decode_record
from tidemill.transport.wire.varint import decode_varint

_BEFORE: Final = struct.Struct(">qi")
"""Base offset, and the length of what follows."""

_HEAD_BYTES: Final = _DefaultRecordBatchPy.HEADER_STRUCT.size
_COUNT: Final = struct.Struct(">i")
_COUNT_AT: Final = _HEAD_BYTES - _COUNT.size
_CODEC_AT: Final = _DefaultRecordBatchPy.ATTRIBUTES_OFFSET + 1
_FORMAT_AT: Final = 16
_FORMAT: Final = 2


def read_any_name() -> None:
    """Patch the client's consumers to read batches so, for this process. Safe to repeat."""
    client.MemoryRecords = AnyNames


class AnyNames:
    """The fetched batches of a partition."""

    def __init__(self, fetched: bytes) -> None:
        self._batches = MemoryRecords(fetched)
        self._fetched = memoryview(fetched)
        self._place = 0
        self._batch: _Batch | None = None

    def has_next(self) -> bool:
        """Return whether there is another batch."""
        return bool(self._batches.has_next())

    def size_in_bytes(self) -> int:
        """Return the size of all batches."""
        return int(self._batches.size_in_bytes())

    def held_bytes(self) -> int:
        """Return its size in memory: all batches as fetched, the last one unpacked, and a record of it."""
        return len(self._fetched) + (0 if self._batch is None else 2 * self._batch.unpacked_bytes)

    def next_batch(self) -> Any:
        """Return the next batch."""
        start = self._place
        _, length = _BEFORE.unpack_from(self._fetched, start)
        self._place = start + _BEFORE.size + length
        self._batch = _Batch(self._batches.next_batch(), self._fetched[start : self._place])
        return self._batch


class _Batch:
    """A batch that the client unpacks; from an unreadable header name on, `_Named` does."""

    def __init__(self, batch: Any, encoded: memoryview) -> None:
        self._batch = batch
        self._encoded = encoded
        self.unpacked_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        codec, size = self._batch.compression_type, len(self._encoded)
        if self._encoded[_FORMAT_AT] != _FORMAT or (not codec and size <= OVERSIZED_BYTES):
            return self._named(self._batch, self._encoded)
        self._check_count()
        if codec:
            plain = unpack(codec, bytes(self._encoded[_HEAD_BYTES:]), behind=self._plain_head())
            self.unpacked_bytes = len(plain)
        else:
            plain = bytes(self._encoded)
        harmless, crowds = without_crowds(plain, _HEAD_BYTES, self._count())
        as_it_came = harmless is plain and not codec
        unpacked = self._named(self._batch if as_it_came else DefaultRecordBatch(harmless), harmless)
        return self._with_first_headers(unpacked, crowds, plain) if crowds else unpacked

    def _count(self) -> int:
        (count,) = _COUNT.unpack_from(self._encoded, _COUNT_AT)
        return int(count)

    def _check_count(self) -> None:
        if self._count() > MAX_RECORDS:
            raise UnpacksTooLarge(f"the batch has {self._count()} records, at most {MAX_RECORDS} are read")

    def _plain_head(self) -> bytes:
        """Return the header of a batch, for records that are not compressed."""
        head = bytearray(self._encoded[:_HEAD_BYTES])
        head[_CODEC_AT] &= ~_DefaultRecordBatchPy.CODEC_MASK & 0xFF
        return bytes(head)

    def _named(self, batch: Any, encoded: bytes | memoryview) -> Iterator[Any]:
        read = 0
        try:
            for record in batch:
                read += 1
                yield record
        except UnicodeDecodeError:
            yield from islice(_Named(bytes(encoded)), read, None)

    def _with_first_headers(
        self, unpacked: Iterator[Any], crowds: Mapping[int, Crowd], plain: bytes
    ) -> Iterator[Any]:
        base = self._batch.base_offset
        for record in unpacked:
            crowd = crowds.get(record.offset - base)
            yield record if crowd is None else with_headers(record, crowd.read(plain))


class _Named(_DefaultRecordBatchPy):  # type: ignore[misc]  # final, in the eyes of a type checker
    """A batch whose headers may have any name."""

    _pos: int

    def _read_msg(self, decode_varint: Any = decode_varint) -> _DefaultRecordPy:
        length, place = decode_varint(self._buffer, self._pos)
        self._pos = end = place + length
        age, place = decode_varint(self._buffer, place + 1)  # after the attributes, of which there are none
        number, place = decode_varint(self._buffer, place)
        key, value, headers = decode_record(bytes(self._buffer[place:end]))
        at_ms = (
            self.max_timestamp if self.timestamp_type == self.LOG_APPEND_TIME else self.first_timestamp + age
        )
        return _DefaultRecordPy(self.base_offset + number, at_ms, self.timestamp_type, key, value, headers)
