"""Records with headers whose names are no UTF-8.

Kafka takes a header's name as bytes, and other clients send and read any. Ours raises at such a name while it unpacks
the batch: one record of a stranger's would put all that stands behind it out of reach, and halt its lane. So the
client's records are replaced by ones that unpack the rest of such a batch here: what is no UTF-8 in a name becomes code
points of Python's `surrogateescape`, from which it can be had as it came.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import aiokafka.consumer.fetcher as client
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords

from tidemill.domain.varint import decode_varint
from tidemill.outbox.encoding import decode_record

_BEFORE: Final = struct.Struct(">qi")
"""Base offset, and the length of what follows."""


def read_any_name() -> None:
    """Have the client's consumers read such records, for this process. Safe to repeat."""
    client.MemoryRecords = AnyNames


class AnyNames:
    """What a fetch brought of a partition, batch by batch."""

    def __init__(self, fetched: bytes) -> None:
        self._batches = MemoryRecords(fetched)
        self._fetched = memoryview(fetched)
        self._place = 0

    def has_next(self) -> bool:
        """Return whether there is another batch."""
        return bool(self._batches.has_next())

    def size_in_bytes(self) -> int:
        """Return the size of all batches."""
        return int(self._batches.size_in_bytes())

    def next_batch(self) -> Any:
        """Return the next batch."""
        start = self._place
        _, length = _BEFORE.unpack_from(self._fetched, start)
        self._place = start + _BEFORE.size + length
        return _Batch(self._batches.next_batch(), self._fetched[start : self._place])


class _Batch:
    """A batch as the client unpacks it; from a record that it cannot name on, as `_Named` does."""

    def __init__(self, batch: Any, encoded: memoryview) -> None:
        self._batch = batch
        self._encoded = encoded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                read += 1
                yield record
        except UnicodeDecodeError:
            yield from islice(_Named(bytes(self._encoded)), read, None)


class _Named(_DefaultRecordBatchPy):  # type: ignore[misc]  # final, in the eyes of a type checker
    """A batch whose headers may have any name."""

    _pos: int

    def _read_msg(self, decode_varint: Any = decode_varint) -> _DefaultRecordPy:
        length, place = decode_varint(self._buffer, self._pos)
        self._pos = end = place + length
        age, place = decode_varint(self._buffer, place + 1)  # behind the attributes, of which there are none
        number, place = decode_varint(self._buffer, place)
        key, value, headers = decode_record(bytes(self._buffer[place:end]))
        at_ms = (
            self.max_timestamp if self.timestamp_type == self.LOG_APPEND_TIME else self.first_timestamp + age
        )
        return _DefaultRecordPy(self.base_offset + number, at_ms, self.timestamp_type, key, value, headers)
