"""Reading frames wherever their headers stand, and keeping nothing that belongs to another record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.kafka import MemoryRecord
from tidemill.transport.kafka.projections.event_source import Frames

FIRST = [
    ("ce_specversion", b"1.0"),
    ("ce_time", b"2026-11-21T07:30:00.000250Z"),
    ("ce_type", b"goods.Stored"),
    ("tm_sequence", b"1"),
]


def record(headers: Any, value: bytes | None = b"v") -> MemoryRecord:
    return MemoryRecord("t", 3, 17, b"k", value, tuple(headers))


def test_times_are_instants_whatever_their_offset() -> None:
    frames = Frames()
    assert frames.read(record(FIRST)).at == datetime(2026, 11, 21, 7, 30, 0, 250, tzinfo=UTC)
    east = [*FIRST[:1], ("ce_time", b"2026-11-21T09:30:00+02:00"), *FIRST[2:]]
    assert frames.read(record(east)).at == datetime(2026, 11, 21, 9, 30, tzinfo=timezone(timedelta(hours=2)))


@given(orders=st.lists(st.permutations(range(4)), min_size=1, max_size=6), data=st.data())
def test_headers_may_stand_anywhere_and_change_places(orders: list[list[int]], data: st.DataObject) -> None:
    frames = Frames()
    for number, order in enumerate(orders, start=1):
        named = [*FIRST[:3], ("tm_sequence", b"%d" % number)]
        headers = [named[place] for place in order]
        extra = data.draw(
            st.lists(st.tuples(st.sampled_from(["x", "ce_timeX", ""]), st.just(b"z")), max_size=3)
        )
        frame = frames.read(record([*extra, *headers]))
        assert (frame.partition, frame.offset, frame.sequence, frame.value) == (3, 17, number, b"v")
        assert frame.event_type == "goods.Stored"


@pytest.mark.parametrize("missing", ["ce_time", "ce_type", "tm_sequence"])
def test_a_record_without_a_header_is_no_event_whatever_was_read_before(missing: str) -> None:
    frames = Frames()
    frames.read(record(FIRST))
    with pytest.raises(ValueError, match=missing):
        frames.read(record([header for header in FIRST if header[0] != missing]))
    assert frames.read(record(FIRST)).sequence == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tm_sequence", b""),
        ("tm_sequence", None),
        ("tm_sequence", b"-1"),
        ("tm_sequence", b"1.5"),
        ("ce_time", b"yesterday"),
        ("ce_time", b"\xff"),
        ("ce_time", b"2026-11-21T07:30:00"),
        ("ce_type", b""),
        ("ce_type", b"\xff\xfe"),
    ],
)
def test_a_header_that_makes_no_sense_is_told(name: str, value: bytes | None) -> None:
    headers = [(key, value if key == name else held) for key, held in FIRST]
    with pytest.raises(ValueError, match=r"."):
        Frames().read(record(headers))
