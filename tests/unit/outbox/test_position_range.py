"""A chunk has no holes, whatever was deleted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine.outbox import Scribe, lane_of
from tidemill.domain.errors import LaneHalted
from tidemill.domain.identity import event_id
from tidemill.outbox.ports import NOTHING_PUBLISHED, OutboxItem, Published
from tidemill.outbox.position_range import chunk_of

LANE = lane_of()
Rows = list[OutboxItem]


def rows() -> Rows:
    return Scribe(LANE).applied(events=3).rejected().applied(events=0).parked().applied(2).batch().items()


def test_it_knows_what_will_be_published() -> None:
    items = rows()
    chunk = chunk_of(1, items, NOTHING_PUBLISHED)
    assert chunk.positions == 6
    assert chunk.after == Published(6, 5, event_id(items[-1].command_id or "", 1))


def test_without_events_the_last_one_stays() -> None:
    scribe = Scribe(LANE, position=10, sequence=4)
    chunk = chunk_of(1, scribe.rejected(2).batch().items(), Published(10, 4, "x:1"))
    assert chunk.after == Published(12, 4, "x:1")


def test_outcomes_carry_the_last_event_of_their_position() -> None:
    chunk = chunk_of(1, rows(), NOTHING_PUBLISHED)
    assert [(head.position, head.sequence) for head in chunk.heads(0)] == [
        (1, 3), (2, 3), (3, 3), (4, 3), (5, 4), (6, 5)
    ]  # fmt: skip
    assert [head.position for head in chunk.heads(4)] == [5, 6]


@pytest.mark.parametrize("missing", range(8))
def test_every_missing_row_is_noticed(missing: int) -> None:
    items = rows()
    following = Scribe(LANE, position=6, sequence=5).applied().batch().items()
    del items[missing]
    with pytest.raises(LaneHalted) as caught:
        chunk_of(1, items + following, NOTHING_PUBLISHED)
    assert caught.value.code == "OUTBOX_GAP"
    assert "expected position" in caught.value.detail


@pytest.mark.parametrize("first", ["applied", "rejected"])
def test_rows_of_another_history_are_noticed(first: str) -> None:
    scribe = Scribe(LANE).applied(3)
    before = chunk_of(1, scribe.batch().items(), NOTHING_PUBLISHED)
    forked = Scribe(LANE).applied(3)
    forked.batch()
    ours, theirs = (getattr(each, first)().batch().items() for each in (scribe, forked))
    assert chunk_of(1, ours, before.after, before.chained).positions == 1
    with pytest.raises(LaneHalted) as caught:
        chunk_of(1, theirs, before.after, before.chained)
    assert caught.value.code == "HISTORY_FORKED"
    assert "position 4 does not continue position 3" in caught.value.detail


@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_any_cut_of_a_sound_outbox_is_sound(chance: random.Random, positions: int) -> None:
    scribe = Scribe(LANE)
    for _ in range(positions):
        add = chance.choice(["applied", "rejected", "parked", "several"])
        scribe = scribe.applied(events=3) if add == "several" else getattr(scribe, add)()
    items, at = scribe.batch().items(), NOTHING_PUBLISHED
    while at.position < positions:
        end = at.position + chance.randint(1, positions)
        at = chunk_of(1, [each for each in items if at.position < each.position <= end], at).after
    assert (at.position, at.sequence) == (scribe.position, scribe.sequence)
