"""A batch has no more records, and a record no more headers, than can be borne; nothing else is changed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.clients.crowds import crowd, empty_records, record, records_batch
from tidemill.domain.headers import MAX_HEADER_BYTES, MAX_HEADERS, cut_headers
from tidemill.transport.kafka.patches.decompression_limit import UnpacksTooLarge
from tidemill.transport.kafka.patches.header_names import AnyNames
from tidemill.transport.kafka.patches.record_limits import MAX_RECORDS

CODECS = (0, 4)
MEBIBYTE = 1 << 20


def read(batch: bytes) -> list[Any]:
    return list(AnyNames(batch).next_batch())


def named(count: int) -> list[tuple[bytes, bytes | None]]:
    return [(b"h%d" % number, b"%d" % number) for number in range(count)]


@pytest.mark.parametrize("codec", CODECS)
def test_a_record_with_too_many_headers_has_its_first_ones_and_says_how_many(codec: int) -> None:
    bodies = [record(0, b"k", b"before", named(3)), record(1, b"k", b"v", named(MAX_HEADERS + 1))]
    before, many, behind = read(records_batch([*bodies, record(2, None, None, named(1))], codec))
    assert (before.offset, before.value, len(before.headers)) == (0, b"before", 3)
    assert (many.offset, many.key, many.value) == (1, b"k", b"v")
    assert many.headers[:-1] == [(f"h{number}", b"%d" % number) for number in range(MAX_HEADERS)]
    assert str(cut_headers(many.headers)).startswith(f"{MAX_HEADERS + 1} headers of ")
    assert (behind.offset, behind.key, behind.value, behind.headers) == (2, None, None, [("h0", b"0")])


@pytest.mark.parametrize("codec", CODECS)
def test_headers_are_bounded_in_bytes_too(codec: int) -> None:
    large = [(b"a", bytes(MAX_HEADER_BYTES // 2)), (b"b", bytes(MAX_HEADER_BYTES // 2)), (b"c", b"")]
    (found,) = read(records_batch([record(0, b"k", b"v", large)], codec))
    assert [name for name, _ in found.headers] == ["a", "tm_headers_cut"]
    assert str(cut_headers(found.headers)).startswith("3 headers of 65")


@pytest.mark.parametrize("codec", CODECS)
def test_as_many_headers_as_are_read_are_left_alone(codec: int) -> None:
    (found,) = read(records_batch([record(0, b"k", b"v", named(MAX_HEADERS))], codec))
    assert len(found.headers) == MAX_HEADERS
    assert cut_headers(found.headers) is None


def test_a_client_cannot_say_that_its_headers_were_cut() -> None:
    (found,) = read(records_batch([record(0, b"k", b"v", [(b"tm_headers_cut", b"9 headers")])]))
    assert cut_headers(found.headers) is None


@pytest.mark.parametrize("codec", CODECS)
def test_names_that_are_no_text_stand_beside_too_many_headers(codec: int) -> None:
    odd = [(b"\xff", b"odd"), *named(MAX_HEADERS)]
    bodies = [record(0, b"k", b"v", odd), record(1, b"k", b"v", [(b"\xff", b"x")])]
    many, few = read(records_batch(bodies, codec))
    assert many.headers[0] == ("\udcff", b"odd")
    assert len(many.headers) == MAX_HEADERS + 1
    assert few.headers == [("\udcff", b"x")]


def test_a_million_headers_never_exist() -> None:
    batch = records_batch(crowd(records=16, headers=1_000_000), codec=4)
    assert len(batch) < 4_000
    tracemalloc.start()
    try:
        found = read(batch)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [each.offset for each in found] == list(range(16))
    assert sum(len(each.headers) for each in found) == 16 * (MAX_HEADERS + 1)
    assert peak < 100 * MEBIBYTE, "of which the batch unpacked is 31 MB"


@pytest.mark.parametrize("codec", CODECS)
def test_more_records_than_are_read_are_refused_before_one_is_made(codec: int) -> None:
    batch = records_batch(empty_records(MAX_RECORDS + 1), codec)
    with pytest.raises(UnpacksTooLarge, match=f"the batch has {MAX_RECORDS + 1} records"):
        read(batch)
    assert len(read(records_batch(empty_records(1_000), codec))) == 1_000


HEADERS = st.lists(st.tuples(st.binary(max_size=5), st.none() | st.binary(max_size=5)), max_size=4)
LARGE = st.just(named(MAX_HEADERS + 5)) | st.just([(b"h", bytes(MAX_HEADER_BYTES))]) | HEADERS


@given(
    sent=st.lists(st.tuples(st.none() | st.binary(max_size=3_000), LARGE), min_size=1, max_size=5),
    codec=st.sampled_from(CODECS),
)
def test_the_others_come_as_they_were_sent(sent: Sequence[tuple[bytes | None, Any]], codec: int) -> None:
    bodies = [record(number, b"k", value, headers) for number, (value, headers) in enumerate(sent)]
    found = read(records_batch(bodies, codec))
    assert [(each.offset, each.value) for each in found] == [
        (number, value) for number, (value, _) in enumerate(sent)
    ]
    for each, (_, headers) in zip(found, sent, strict=True):
        if cut_headers(each.headers) is None:
            assert each.headers == [(name.decode(errors="surrogateescape"), held) for name, held in headers]


@given(place=st.integers(0, 3_000), byte=st.integers(0, 255))
def test_damage_is_an_error_and_never_more_than_was_sent(place: int, byte: int) -> None:
    whole = b"".join(crowd(records=2, headers=MAX_HEADERS + 200))
    damaged = bytearray(whole)
    damaged[place % len(whole)] = byte
    try:
        found = read(records_batch([bytes(damaged)], codec=0, count=2))
    except Exception:  # noqa: BLE001  any error holds the partition back
        return
    assert sum(len(each.headers) for each in found) <= 2 * (MAX_HEADERS + 200)
