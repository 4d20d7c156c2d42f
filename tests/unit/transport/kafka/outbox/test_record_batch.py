"""Our batches are byte for byte what the client's own builder makes of the same records."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from tests.support.engine.kafka_batches import pack
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.kafka.outbox.record_batch import PackedBatch

AT_MS = 1_790_000_000_123
STATE = {"producer_id": 4711, "producer_epoch": 7, "base_sequence": 300}


def numbered(count: int, value_bytes: int = 20) -> list[OutboundRecord]:
    return [
        OutboundRecord(b"k%d" % at, b"v" * value_bytes, [("n", b"%d" % at), ("none", None), ("ü", b"")])
        for at in range(count)
    ]


def sent(batch: Any) -> bytes:
    batch._set_producer_state(**STATE)
    return bytes(batch._build())


@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize("count", [1, 63, 64, 9000])
def test_a_batch_is_what_the_client_would_send(count: int, transactional: bool) -> None:
    records = [*numbered(count), OutboundRecord(None, b"", []), OutboundRecord(b"", None, [])]
    (batch,) = pack(records, 1 << 20, at_ms=AT_MS, transactional=transactional)
    theirs = BatchBuilder(1 << 20, 0, is_transactional=int(transactional))
    for record in records:
        headers = record.headers
        assert theirs.append(timestamp=AT_MS, key=record.key, value=record.value, headers=headers)
    assert batch.record_count() == theirs.record_count() == count + 2
    assert batch.size() == theirs.size()
    assert sent(batch) == sent(theirs)


def test_a_batch_keeps_within_its_bytes_and_its_order() -> None:
    records = numbered(1_000, 500)
    batches = list(pack(records, 50_000, at_ms=AT_MS, transactional=True))
    assert len(batches) > 10
    assert all(len(sent(batch)) == batch.size() <= 50_000 for batch in batches)
    assert min(batch.size() for batch in batches[:-1]) > 49_000, "a batch has room for another record"
    assert [value for batch in batches for value in read(batch)] == [record.key for record in records]


def test_a_record_larger_than_a_batch_stands_alone() -> None:
    records = [*numbered(2), OutboundRecord(b"large", b"x" * 5_000, []), *numbered(2)]
    batches = list(pack(records, 1_000, at_ms=AT_MS, transactional=True))
    assert [batch.record_count() for batch in batches] == [2, 1, 2]
    assert read(batches[1]) == [b"large"]


def test_nothing_makes_no_batch() -> None:
    assert list(pack([], 1_000, at_ms=AT_MS, transactional=True)) == []


def test_a_repeat_sends_the_same_bytes() -> None:
    (batch,) = pack(numbered(3), 1_000, at_ms=AT_MS, transactional=True)
    batch.close()
    assert batch.closed()
    assert sent(batch) == sent(batch)


def read(batch: PackedBatch) -> list[bytes | None]:
    """Return the keys that the client finds in a batch; it checks the sum first."""
    found = MemoryRecords(sent(batch)).next_batch()
    assert found is not None
    assert found.validate_crc()
    records = list(found)
    assert [record.offset for record in records] == list(range(len(records)))
    return [record.key for record in records]
