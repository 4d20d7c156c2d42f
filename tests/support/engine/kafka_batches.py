"""Kafka batches of records, as the publisher makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidemill.outbox.ports import EncodedRecord
from tidemill.transport.kafka.outbox.record_batch import BatchFormat, PackedBatch


def pack(
    records: Sequence[EncodedRecord], max_bytes: int, *, at_ms: int, transactional: bool
) -> Iterator[PackedBatch]:
    """Return batches of at most `max_bytes`, not compressed."""
    return BatchFormat(max_bytes=max_bytes, at_ms=at_ms, transactional=transactional).of(records)
