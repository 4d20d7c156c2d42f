"""Record batches of Kafka's record format 2, assembled from what the relay has encoded already.

The client's own builder encodes every header of every record twice: once for its length. Here
a record is one piece of bytes already, and a batch is one `join`. Its records have the same time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

from aiokafka.record.util import calc_crc32c

from tidemill.outbox.ports import EncodedRecord, Slab
from tidemill.transport.kafka.outbox.compression import NONE, ZSTD, BatchCompression, unpacked_size
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.wire.varint import VARINT, decode_varint

_BEFORE: Final = struct.Struct(">qiibI")
"""Base offset and, after the length of what follows, leader's epoch, both set by the broker; format; checksum."""
_HEAD: Final = struct.Struct(">hiqqqhii")
"""Attributes; last offset; first and last time; producer, its epoch, its first sequence number; number of records."""

OVERHEAD: Final = _BEFORE.size + _HEAD.size
"""Bytes of a batch before its records."""
_UNCOUNTED: Final = struct.calcsize(">qi")
_ROOM: Final = bytes(OVERHEAD)
_FORMAT: Final = 2
_TRANSACTIONAL: Final = 0x10

_START: Final = b"\x00\x00"
"""Attributes and time of a record: none, and that of the batch."""
MAX_AROUND: Final = 5 + len(_START) + 5
"""Bytes around a record at most: its length, these, its offset."""
_SMALL: Final = 16 << 10


class PackedBatch:
    """Records ready to be sent: the interface of `AIOKafkaProducer.send_batch`, and nothing can be added."""

    def __init__(
        self, records: bytes, count: int, *, at_ms: int, transactional: bool, compression: BatchCompression
    ) -> None:
        """`records`: `count` of them as `numbered` returns them, compressed as `compression` says."""
        self._at_ms = at_ms
        self._buffer = bytearray().join((_ROOM, records))
        self._count = count
        self._attributes = compression.number | (_TRANSACTIONAL if transactional else 0)
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


def numbered(records: Sequence[bytes]) -> bytes:
    """Return records as they stand in a batch: numbered from 0, one behind the other."""
    pieces: list[bytes] = []
    for count, body in enumerate(records):
        offset = VARINT[count]
        pieces += VARINT[len(_START) + len(offset) + len(body)], _START, offset, body
    return b"".join(pieces)


def bodies(records: bytes) -> Iterator[bytes]:
    """Yield each record without its place in the batch: the inverse of `numbered`."""
    at = 0
    while at < len(records):
        size, at = decode_varint(records, at)
        _, begin = decode_varint(records, at + len(_START))
        yield records[begin : at + size]
        at += size


def parts(records: Sequence[EncodedRecord], max_bytes: int) -> Iterator[Sequence[EncodedRecord]]:
    """Divide records so that each part makes a batch of at most `max_bytes`, uncompressed.

    A record that is too large for one gets a batch of its own.
    """
    first, left = 0, max_bytes - OVERHEAD
    for at, record in enumerate(records):
        left -= MAX_AROUND + len(record.encoded)
        if left < 0 and at > first:
            yield records[first:at]
            first, left = at, max_bytes - OVERHEAD - MAX_AROUND - len(record.encoded)
    if first < len(records):
        yield records[first:]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFormat:
    """How batches are made. `max_bytes`: the most that one may have. `at_ms`: their time, since the epoch."""

    max_bytes: int
    at_ms: int
    transactional: bool
    compression: BatchCompression = NONE

    def of(self, records: Sequence[EncodedRecord | Slab]) -> Iterator[PackedBatch]:
        """Yield batches of records or of slabs, in order: all are of one kind."""
        if records and isinstance(records[0], Slab):
            return self.of_slabs(cast("Sequence[Slab]", records))
        return self.of_records(cast("Sequence[EncodedRecord]", records))

    def of_records(self, records: Sequence[EncodedRecord]) -> Iterator[PackedBatch]:
        """Yield batches of records."""
        for part in parts(records, self.max_bytes):
            yield self._compressed(numbered([record.encoded for record in part]), len(part))

    def of_slabs(self, slabs: Sequence[Slab]) -> Iterator[PackedBatch]:
        """Yield batches of slabs: as they are, if that is how they are sent and they are not small.

        The client has one batch of a partition in flight, so a backlog of small ones would be slow.
        """
        small: list[Slab] = []
        for slab in slabs:
            if len(slab.records) < _SMALL and len(slabs) > 1:
                small.append(slab)
                continue
            yield from self._joined(small)
            small = []
            yield from self._of_slab(slab)
        yield from self._joined(small)

    def _of_slab(self, slab: Slab) -> Iterator[PackedBatch]:
        if self.compression is ZSTD and self._fits_as_it_is(slab):
            yield self._batch(slab.records, slab.number, ZSTD)
            return
        records = ZSTD.decompress(slab.records)
        if self._fits(len(records)):
            yield self._compressed(records, slab.number)
        else:  # one position with large events, or it was written for a larger limit: readers unpack a batch as a whole
            yield from self.of_records([OutboundRecord.of(body) for body in bodies(records)])

    def _fits_as_it_is(self, slab: Slab) -> bool:
        """Tell whether a slab makes one batch as it is compressed, and also unpacked."""
        size = unpacked_size(slab.records)
        return size is not None and self._fits(size) and self._fits(len(slab.records))

    def _fits(self, size: int) -> bool:
        return size <= self.max_bytes - OVERHEAD

    def _joined(self, small: Sequence[Slab]) -> Iterator[PackedBatch]:
        if len(small) == 1:
            yield from self._of_slab(small[0])
        else:
            records = [body for slab in small for body in bodies(ZSTD.decompress(slab.records))]
            yield from self.of_records([OutboundRecord.of(body) for body in records])

    def _compressed(self, records: bytes, count: int) -> PackedBatch:
        """Return a batch of records, uncompressed if only compression, which can add a little, makes it too large."""
        smaller = self.compression.compress(records)
        if len(smaller) > max(len(records), self.max_bytes - OVERHEAD):
            return self._batch(records, count, NONE)
        return self._batch(smaller, count, self.compression)

    def _batch(self, records: bytes, count: int, compression: BatchCompression) -> PackedBatch:
        return PackedBatch(
            records,
            count,
            at_ms=self.at_ms,
            transactional=self.transactional,
            compression=compression,
        )
