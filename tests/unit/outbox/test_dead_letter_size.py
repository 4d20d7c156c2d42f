"""A dead letter sheds what its topic would refuse, and says where it is kept; it never halts its lane."""

from __future__ import annotations

import pytest

from tests.fakes.kafka import MemoryRecord
from tests.support.engine.outbox import Scribe, lane_of
from tests.support.engine.relays import LANE, World
from tidemill.outbox.dead_letter_size import size_of, truncated_to
from tidemill.outbox.ports import ParkedRecord
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord

LETTERS = LANE.topics.dead_letters
OURS: list[tuple[str, bytes | None]] = [("tm_position", b"9"), ("tm_sequence", b"5")]
NOTE = [
    ("tm_value", b"omitted"), ("tm_value_bytes", b"1000"), ("tm_kept", b"tidemill dead-letters show goods/6 9")
]  # fmt: skip


def letter(header_bytes: int = 1) -> tuple[OutboundRecord, ParkedRecord]:
    headers = (("own", b"h" * header_bytes), ("own", None))
    record = ParkedRecord(9, "t", 0, 8, b"key", b"x" * 1000, headers, "TOO_BIG", "large")
    return OutboundRecord(record.key, record.value, [*headers, *OURS]), record


def test_what_fits_is_left_alone() -> None:
    made, record = letter()
    assert truncated_to(made, record, "goods/6", size_of(made), OutboundRecord) is made


def test_the_value_is_shed_first() -> None:
    made, record = letter()
    shed = truncated_to(made, record, "goods/6", size_of(made) - 1, OutboundRecord)
    assert shed == OutboundRecord(b"key", None, [*record.headers, *NOTE, *OURS])


def test_then_the_records_own_key_and_headers() -> None:
    made, record = letter(header_bytes=900)
    shed = truncated_to(made, record, "goods/6", 500, OutboundRecord)
    assert shed == OutboundRecord(None, None, [("tm_headers", b"omitted"), *NOTE, *OURS])
    assert truncated_to(made, record, "goods/6", 0, OutboundRecord) == shed


def of_kind(found: MemoryRecord) -> str:
    names = dict(found.headers)
    return "bare" if "tm_headers" in names else "no value" if "tm_value" in names else "whole"


@pytest.mark.parametrize("known", [True, False], ids=["the limit is known", "the limit is learned"])
async def test_letters_that_are_too_large_halt_no_lane(known: bool) -> None:
    world = World(max_letter_bytes=3000 if known else 1 << 20)
    world.topics.broker.limits[LETTERS] = 3000
    scribe, many = Scribe(LANE).applied(3), [("own", b"h" * 4000)]
    scribe.parked(b"x" * 5000).applied(7).parked(b"x").parked(b"x" * 100, headers=many).applied(2)
    world.outbox.store(scribe.batch())
    await world.take(LANE)
    await world.published(scribe.position)
    world.check(scribe)
    assert world.outbox.halts == {}
    found = world.topics.log(LETTERS)
    assert [of_kind(each) for each in found] == ["no value", "whole", "bare"]
    assert (found[0].key, found[0].value) == (b"AAPL", None)
    assert dict(found[0].headers)["tm_value_bytes"] == b"5000"
    assert (world.topics.starts[LANE.id] == 1) is known
    await world.relays.stop()


async def test_a_topic_that_takes_not_even_the_barest_letter_halts_its_lane() -> None:
    world, other = World(), lane_of(2, 1)
    world.topics.broker.limits[LETTERS] = 100
    theirs = Scribe(other).applied(3)
    world.outbox.store(Scribe(LANE).applied().parked(b"x" * 5000).batch(), theirs.batch())
    await world.take(LANE, other)
    detail = await world.halted("EVENT_REFUSED")
    assert detail.startswith("position 2, largest record about ")
    assert f"for {LETTERS}" in detail
    await world.published(3, other)
    await world.relays.stop()
