"""Batches with names that are no UTF-8 are read like others, and others as the client reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiokafka.consumer.fetcher as client
import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from tidemill.transport.kafka.client.client import patch_client
from tidemill.transport.kafka.patches import header_names

NAMES = st.binary(max_size=8).map(lambda name: name.decode(errors="surrogateescape"))
BYTES = st.none() | st.binary(max_size=8)
RECORDS = st.lists(
    st.tuples(BYTES, BYTES, st.lists(st.tuples(NAMES, BYTES), max_size=3)), min_size=1, max_size=4
)
CODECS = (0, 1, 2, 3, 4)


class Name(str):
    """A name that the client's builder sends as the bytes that it came from."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode(encoding, "surrogateescape")


def batch(records: Sequence[Any], codec: int = 0) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset, (key, value, headers) in enumerate(records):
        named = [(Name(name), held) for name, held in headers]
        assert builder.append(offset, 1_000 + offset, key, value, named) is not None
    return bytes(builder.build())


def read(batches: Any) -> list[Any]:
    found = []
    while batches.has_next():
        one = batches.next_batch()
        assert one.validate_crc()
        found += [(one.timestamp, one.offset, one.key, one.value, one.headers) for one in one]
    return found


def expected(records: Sequence[Any]) -> list[Any]:
    return [
        (1_000 + offset, offset, key, value, headers) for offset, (key, value, headers) in enumerate(records)
    ]


@given(RECORDS, RECORDS, st.sampled_from(CODECS))
def test_records_come_as_they_were_sent(first: Sequence[Any], second: Sequence[Any], codec: int) -> None:
    fetched = batch(first, codec) + batch(second)
    assert read(header_names.AnyNames(fetched)) == expected(first) + expected(second)


def test_what_the_client_can_read_it_reads() -> None:
    fetched = batch([(b"k", b"v", [("name", None)])] * 3) * 2
    assert read(header_names.AnyNames(fetched)) == read(MemoryRecords(fetched))
    assert header_names.AnyNames(fetched).size_in_bytes() == len(fetched)


def test_the_client_alone_cannot_read_such_names_and_ours_is_what_it_uses() -> None:
    fetched = batch([(None, b"v", [("\udcff", b"")])])
    with pytest.raises(UnicodeDecodeError):
        read(MemoryRecords(fetched))
    patch_client()
    assert client.MemoryRecords is header_names.AnyNames


def test_a_fetch_that_ends_within_a_batch_ends_before_it() -> None:
    whole = batch([(b"k", b"v", [])])
    assert len(read(header_names.AnyNames(whole + whole[:-1]))) == 1
    assert not header_names.AnyNames(b"").has_next()


def test_damage_behind_such_a_name_is_an_error_as_it_is_to_the_client() -> None:
    fetched = bytearray(batch([(b"k", b"v", [("\udcff", b"x"), ("b", b"y")])]))
    fetched[-4] = 0x7E  # the second name ends behind the record
    with pytest.raises(CorruptRecordException):
        list(header_names.AnyNames(bytes(fetched)).next_batch())
