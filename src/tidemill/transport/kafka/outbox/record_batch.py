"""Record batches of Kafka's record format 2, assembled from what the relay has encoded already.

The client's own builder encodes every header of every record twice: once for its length. Here
a record is one piece of bytes already, and a batch is one `join`. It is not compressed; its records have the same time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from aiokafka.record.util import calc_crc32c

from tidemill.outbox.ports import EncodedRecord
from tidemill.transport.wire.varint import VARINT

_BEFORE: Final = struct.Struct(">qiibI")
"""Base offset and, after the length of what follows, leader's epoch, both set by the broker; format; checksum."""
_HEAD: Final = struct.Struct(">hiqqqhii")
"""Attributes; last offset; first and last time; producer, its epoch, its first sequence number; number of records."""

_OVERHEAD: Final = _BEFORE.size + _HEAD.size
_UNCOUNTED: Final = struct.calcsize(">qi")
_ROOM: Final = bytes(_OVERHEAD)
_FORMAT: Final = 2
_TRANSACTIONAL: Final = 0x10

_START: Final = b"\x00\x00"
"""Attributes and time of a record: none, and that of the batch."""
_MAX_AROUND: Final = 5 + len(_START) + 5  # its length, these, its offset


class PackedBatch:
    """Records ready to be sent: the interface of `AIOKafkaProducer.send_batch`, and nothing can be added."""

    def __init__(self, buffer: bytearray, count: int, *, at_ms: int, transactional: bool) -> None:
        """`buffer`: `count` records in order, after room for what is written before them."""
        self._at_ms = at_ms
        self._buffer = buffer
        self._count = count
        self._attributes = _TRANSACTIONAL if transactional else 0
        self._producer = (-1, -1, -1)

    def record_count(self) -> int:
        """Return how many records it has."""
        return self._count

    def size(self) -> int:
        """Return its bytes."""
        return len(self._buffer)

    def close(self) -> None:
        """Do nothing: it is closed."""

    def closed(self) -> bool:
        """Tell the sender not to wait for more."""
        return True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        """Return all of it; a repeat sends the same bytes."""
        buffer, last, at_ms = self._buffer, self._count - 1, self._at_ms
        _HEAD.pack_into(
            buffer, _BEFORE.size, self._attributes, last, at_ms, at_ms, *self._producer, self._count
        )
        checksum = calc_crc32c(memoryview(buffer)[_BEFORE.size :])
        _BEFORE.pack_into(buffer, 0, 0, len(buffer) - _UNCOUNTED, -1, _FORMAT, checksum)
        return buffer


def pack(
    records: Sequence[EncodedRecord], max_bytes: int, *, at_ms: int, transactional: bool
) -> Iterator[PackedBatch]:
    """Pack records into batches of at most `max_bytes`. A record that is too large for one gets a batch of its own.

    `at_ms`: their time, since the epoch.
    """
    pieces, count, left = [_ROOM], 0, max_bytes - _OVERHEAD
    for record in records:
        body = record.encoded
        left -= _MAX_AROUND + len(body)
        if left < 0 and count:
            yield PackedBatch(bytearray().join(pieces), count, at_ms=at_ms, transactional=transactional)
            pieces, count, left = [_ROOM], 0, max_bytes - _OVERHEAD - _MAX_AROUND - len(body)
        offset = VARINT[count]
        pieces += VARINT[len(_START) + len(offset) + len(body)], _START, offset, body
        count += 1
    if count:
        yield PackedBatch(bytearray().join(pieces), count, at_ms=at_ms, transactional=transactional)
