"""Batches of Kafka made by hand: of more headers or records than an honest client would send."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.record._crecords.cutil import crc32c_cython

from tidemill.runtime.clock import SystemClock
from tidemill.transport.kafka.outbox import compression
from tidemill.transport.kafka.outbox.record_batch import PackedBatch
from tidemill.transport.wire.varint import encode_varint

_HEAD = struct.Struct(">hiqqqhii")
_BEFORE = struct.Struct(">qiibI")
_UNCOUNTED = 12
ZSTD = 4

Headers = Sequence[tuple[bytes, bytes | None]]


def _field(held: bytes | None) -> bytes:
    return encode_varint(-1) if held is None else encode_varint(len(held)) + held


def record(number: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> bytes:
    """A record of a batch, by its number in it."""
    named = b"".join(_field(name) + _field(held) for name, held in headers)
    return framed(number, _field(key) + _field(value) + encode_varint(len(headers)) + named)


def framed(number: int, rest: bytes) -> bytes:
    """A record whose key, value and headers are encoded already."""
    body = b"\0\0" + encode_varint(number) + rest
    return encode_varint(len(body)) + body


def crowd(*, records: int, headers: int) -> list[bytes]:
    """Records with so many empty headers each."""
    rest = _field(b"k") + _field(None) + encode_varint(headers) + b"\0\1" * headers
    return [framed(number, rest) for number in range(records)]


def empty_records(count: int) -> list[bytes]:
    """Records without anything."""
    rest = _field(None) + _field(None) + b"\0"
    return [framed(number, rest) for number in range(count)]


def records_batch(records: Sequence[bytes], codec: int = 0, *, count: int | None = None) -> bytes:
    """A batch as a fetch brings it. `codec`: 0 or 4, none or zstd."""
    body, many = b"".join(records), len(records) if count is None else count
    packed = bytes(cramjam.zstd.compress(body)) if codec else body
    head = _HEAD.pack(codec, many - 1, 1_000, 1_000, -1, -1, -1, many) + packed
    before = _BEFORE.pack(0, _BEFORE.size + len(head) - _UNCOUNTED, -1, 2, crc32c_cython(head))
    return before + head


async def send_crowd(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[bytes]
) -> None:
    """Send records as one batch, compressed by zstd."""
    packed = compression.ZSTD.compress(b"".join(records))
    at_ms = int(SystemClock().now().timestamp() * 1000)
    batch = PackedBatch(packed, len(records), at_ms=at_ms, transactional=False, compression=compression.ZSTD)
    await (await producer.send_batch(batch, topic, partition=partition))
