"""Slabs of packs become the batches that their records would make, within the bytes that a batch may have."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import cramjam
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from tidemill.outbox.ports import Slab
from tidemill.transport.kafka.outbox.compression import (
    COMPRESSIONS,
    NONE,
    ZSTD,
    BatchCompression,
    unpacked_size,
)
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.kafka.outbox.record_batch import MAX_AROUND, OVERHEAD, BatchFormat, bodies, numbered

RECORDS = st.builds(
    OutboundRecord,
    st.none() | st.binary(max_size=8),
    st.none() | st.binary(max_size=300) | st.integers(0, 4_000).map(bytes),
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=9)), max_size=3),
)
SLABS = st.lists(st.lists(RECORDS, min_size=1, max_size=8), min_size=1, max_size=5)


def noise(size: int, seed: int = 1) -> bytes:
    """Return bytes that no codec makes smaller."""
    return random.Random(seed).randbytes(size)


def slab(records: Sequence[OutboundRecord]) -> Slab:
    return Slab(ZSTD.compress(numbered([record.encoded for record in records])), len(records))


def made_of(max_bytes: int, compression: BatchCompression = NONE) -> BatchFormat:
    return BatchFormat(max_bytes=max_bytes, at_ms=7, transactional=True, compression=compression)


def stored(batch: bytes) -> list[bytes]:
    """Return the records of a batch, encoded again from what the client reads; it checks the sum."""
    found = MemoryRecords(batch).next_batch()
    assert found is not None
    assert found.validate_crc()
    records: list[Any] = list(found)
    assert [record.offset for record in records] == list(range(len(records))), "numbered from 0"
    return [OutboundRecord(each.key, each.value, each.headers).encoded for each in records]


@given(records=st.lists(RECORDS, min_size=1, max_size=12))
def test_a_slab_that_is_sent_uncompressed_is_the_batch_of_its_records(records: list[OutboundRecord]) -> None:
    (of_slab,) = made_of(4 << 20).of([slab(records)])
    (of_records,) = made_of(4 << 20).of(records)
    assert bytes(of_slab._build()) == bytes(of_records._build())


@given(records=st.lists(RECORDS, min_size=1, max_size=12))
def test_a_slab_that_is_sent_compressed_is_sent_as_it_is(records: list[OutboundRecord]) -> None:
    one = slab(records)
    (batch,) = made_of(4 << 20, ZSTD).of([one])
    assert bytes(batch._build())[OVERHEAD:] == one.records
    assert batch.record_count() == len(records)


@given(
    slabs=SLABS,
    max_bytes=st.sampled_from([OVERHEAD + 1, 200, 1_000, 5_000, 20_000]),
    name=st.sampled_from(sorted(COMPRESSIONS)),
)
def test_batches_hold_every_record_in_order_and_keep_within_their_bytes(
    slabs: list[list[OutboundRecord]], max_bytes: int, name: str
) -> None:
    batches = list(made_of(max_bytes, COMPRESSIONS[name]).of([slab(records) for records in slabs]))
    built = [bytes(batch._build()) for batch in batches]
    assert [body for batch in built for body in stored(batch)] == [
        record.encoded for records in slabs for record in records
    ]
    for batch, whole in zip(batches, built, strict=True):
        assert batch.size() == len(whole)
        assert batch.size() <= max_bytes or batch.record_count() == 1, "only one that is alone may be larger"


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("less", range(0, 40, 3))
def test_what_compression_makes_larger_is_still_within_the_bytes(name: str, less: int) -> None:
    """The records have exactly the bytes of a batch, or a few less: compressed they would not fit."""
    records = [OutboundRecord(None, noise(500, seed), []) for seed in range(40)]
    whole = numbered([record.encoded for record in records])
    made = made_of(OVERHEAD + len(whole) + less, COMPRESSIONS[name])
    batches = list(made.of([Slab(ZSTD.compress(whole), len(records))]))
    assert all(batch.size() <= made.max_bytes for batch in batches)
    found = [body for batch in batches for body in stored(bytes(batch._build()))]
    assert found == [record.encoded for record in records]


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_records_that_do_not_compress_keep_within_their_bytes(name: str) -> None:
    for size in range(400, 460, 7):
        records = [OutboundRecord(None, noise(size, size), [])] * 3
        exact = OVERHEAD + sum(len(record.encoded) + MAX_AROUND for record in records)
        batches = list(made_of(exact, COMPRESSIONS[name]).of(records))
        assert all(batch.size() <= exact for batch in batches)
        assert sum(batch.record_count() for batch in batches) == 3


def test_a_slab_for_a_larger_limit_is_divided() -> None:
    records = [OutboundRecord(b"k", noise(1_000, seed), [("n", b"%d" % seed)]) for seed in range(100)]
    batches = list(made_of(10_000, ZSTD).of([slab(records)]))
    assert len(batches) >= 10
    assert all(batch.size() <= 10_000 for batch in batches)
    assert [body for batch in batches for body in stored(bytes(batch._build()))] == [
        record.encoded for record in records
    ]


def test_small_slabs_are_joined_and_large_ones_keep_their_place() -> None:
    small, large = [OutboundRecord(b"s", b"small", [])], [OutboundRecord(b"l", noise(40_000), [])]
    order = [small, small, large, small, large, small, small, small]
    batches = list(made_of(1 << 20, ZSTD).of([slab(records) for records in order]))
    assert [batch.record_count() for batch in batches] == [2, 1, 1, 1, 3]
    assert [body for batch in batches for body in stored(bytes(batch._build()))] == [
        record.encoded for records in order for record in records
    ]


@given(records=st.lists(RECORDS, max_size=80))
def test_bodies_are_the_records_that_were_numbered(records: list[OutboundRecord]) -> None:
    assert list(bodies(numbered([record.encoded for record in records]))) == [
        record.encoded for record in records
    ]


@given(size=st.integers(0, 70_000), level=st.sampled_from([1, 3]))
def test_a_frame_says_how_large_it_is_unpacked(size: int, level: int) -> None:
    frame = bytes(cramjam.zstd.compress(bytes(size), level=level))
    assert unpacked_size(frame) == size


def test_one_position_whose_events_pack_well_is_sent_in_batches_that_readers_unpack() -> None:
    """40 MB of nothing take some KB, and readers unpack at most 32 MiB."""
    records = [OutboundRecord(b"k", bytes(1_000_000), []) for _ in range(40)]
    made = made_of(2_000_000, ZSTD)
    batches = list(made.of([slab(records)]))
    assert [batch.record_count() for batch in batches] == [1] * 40
    assert all(batch.size() < 5_000 for batch in batches)
