"""Compressed batches unpack as the client's own decoders would, up to a limit that a bomb does not pass."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from typing import Any

import cramjam
import pytest
from aiokafka import codec
from aiokafka.record._crecords.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from tidemill.transport.kafka.client.client import patch_client
from tidemill.transport.kafka.patches import decompression_limit
from tidemill.transport.kafka.patches.decompression_limit import MAX_UNPACKED_BYTES, UnpacksTooLarge

OURS = {
    "gzip": decompression_limit._gzip,
    "snappy": decompression_limit._snappy,
    "lz4": decompression_limit._lz4,
    "zstd": decompression_limit._zstd,
}
NUMBERS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.mark.parametrize("name", OURS)
@given(data=st.binary(min_size=1, max_size=100_000) | st.just(b"\0" * 200_000))
def test_what_the_client_packs_is_unpacked_alike(name: str, data: bytes) -> None:
    packed = getattr(codec, f"{name}_encode")(data)
    assert OURS[name](packed) == data


def test_other_shapes_of_the_same_codecs_are_understood() -> None:
    assert OURS["gzip"](gzip.compress(b"one") + gzip.compress(b"two")) == b"onetwo"
    assert OURS["snappy"](bytes(cramjam.snappy.compress_raw(b"raw" * 99))) == b"raw" * 99
    assert OURS["zstd"](bytes(cramjam.zstd.compress(b"a")) + bytes(cramjam.zstd.compress(b"b"))) == b"ab"


@pytest.mark.parametrize("name", OURS)
@given(cut=st.integers(0, 200), junk=st.binary(max_size=50))
def test_damage_is_an_error_and_never_a_wrong_answer(name: str, cut: int, junk: bytes) -> None:
    packed = getattr(codec, f"{name}_encode")(b"0123456789" * 100)
    for damaged in (packed[: min(cut, len(packed) - 1)], junk):
        try:
            unpacked = OURS[name](damaged)
        except Exception:  # noqa: BLE001  any error holds the partition back
            continue
        assert len(unpacked) < 1_000


def bomb(name: str, mebibytes: int) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=NUMBERS[name],
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for number in range(mebibytes):
        builder.append(number, 0, None, bytes(1 << 20), [])
    return bytes(builder.build())


@pytest.fixture
def traced() -> Iterator[None]:
    patch_client()
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", OURS)
def test_the_clients_parser_stops_at_the_limit(name: str, traced: None) -> None:
    packed = bomb(name, 100)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    batch: Any = DefaultRecordBatch(packed)
    with pytest.raises(UnpacksTooLarge):
        next(iter(batch))
    assert tracemalloc.get_traced_memory()[1] - before < 3 * MAX_UNPACKED_BYTES


@pytest.mark.parametrize("name", OURS)
def test_what_stays_below_the_limit_is_read(name: str) -> None:
    batch: Any = DefaultRecordBatch(bomb(name, 30))
    assert sum(len(record.value) for record in batch) == 30 << 20
