"""Which records are next: repeats are dropped, a gap halts, what a topic lost is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.events import START
from tests.support.engine.projections import Counted, Stored
from tidemill.domain.errors import ContractError
from tidemill.domain.projection import Recorded
from tidemill.projections import halts
from tidemill.projections.batch_fold import listed
from tidemill.projections.cursor import Cursor, Decoded, LaneBatch, field_by_field
from tidemill.projections.event_columns import EventColumns
from tidemill.projections.ports import Checkpoint, EventRecord, FoldHalt


def lane(*sequences: int, offset: int = 0, unreadable: Sequence[int] = ()) -> LaneBatch:
    """Records with these sequences from an offset on."""
    records = [
        EventRecord(0, offset + at, sequence, START, "Stored", b"") for at, sequence in enumerate(sequences)
    ]
    events: list[Decoded] = [
        ContractError(f"cannot read {record.sequence}")
        if record.sequence in unreadable
        else Recorded(Stored(good="tea"), START, 0, record.sequence)
        for record in records
    ]
    return LaneBatch.of(records, events, whole=not unreadable)


def taken(cursor: Cursor, batch: LaneBatch) -> list[int]:
    """Take and move; the sequences taken."""
    part = cursor.take(batch)
    if part is None:
        return []
    cursor.move(part)
    return [event.sequence for event in listed(part.events)]


def halt_of(cursor: Cursor) -> FoldHalt | None:
    return cursor.halt


def at(sequence: int, next_offset: int = 0) -> Cursor:
    return Cursor(Checkpoint(sequence, next_offset))


def test_a_dense_run_is_taken_whole() -> None:
    cursor = at(0)
    assert taken(cursor, lane(1, 2, 3)) == [1, 2, 3]
    assert cursor.checkpoint == Checkpoint(3, 3)
    assert halt_of(cursor) is None


def test_old_records_are_dropped() -> None:
    cursor = at(2)
    assert taken(cursor, lane(1, 2, 3, 4)) == [3, 4]
    assert taken(cursor, lane(1, 2, 3, 4)) == []
    assert cursor.checkpoint == Checkpoint(4, 4)


def test_a_repeat_is_dropped_and_a_gap_halts_until_it_is_filled() -> None:
    cursor = at(0)
    assert taken(cursor, lane(1, 2, 1, 4)) == [1, 2]
    assert halt_of(cursor) == FoldHalt(halts.GAP, 3, 4, "expected 3, got 4")
    assert cursor.checkpoint == Checkpoint(2, 2)  # where to read again, before what was skipped
    assert taken(cursor, lane(3, 4, offset=4)) == [3, 4]
    assert halt_of(cursor) is None
    assert cursor.checkpoint == Checkpoint(4, 6)


@pytest.mark.parametrize("later", [(5, 6), (6, 5), (2, 9)])
def test_a_gap_stays_the_gap_it_was(later: tuple[int, ...]) -> None:
    cursor = at(2)
    assert taken(cursor, lane(4)) == []
    assert taken(cursor, lane(*later, offset=1)) == []
    assert halt_of(cursor) == FoldHalt(halts.GAP, 3, 4, "expected 3, got 4")


def test_a_gap_that_closes_within_a_batch_is_none() -> None:
    cursor = at(2)
    assert taken(cursor, lane(4, 3, 4)) == [3, 4]
    assert halt_of(cursor) is None


def test_a_second_gap_is_another_halt() -> None:
    cursor = at(2)
    taken(cursor, lane(4))
    assert taken(cursor, lane(3, 6, offset=1)) == [3]
    assert halt_of(cursor) == FoldHalt(halts.GAP, 4, 6, "expected 4, got 6")


def test_events_before_an_unreadable_one_are_taken() -> None:
    cursor = at(0)
    assert taken(cursor, lane(1, 2, 3, 4, unreadable=[3])) == [1, 2]
    assert halt_of(cursor) == FoldHalt(halts.UNREADABLE, 3, 3, "cannot read 3")
    assert cursor.closed
    assert taken(cursor, lane(3, 4)) == []


def test_an_unreadable_record_that_is_not_next_does_not_matter() -> None:
    cursor = at(2)
    assert taken(cursor, lane(9, 3, 4, unreadable=[9])) == [3, 4]
    assert halt_of(cursor) is None


def test_the_last_record_folded_is_asked_for_again() -> None:
    cursor = at(2, 8)
    assert cursor.start_offset == 7
    assert cursor.take(lane(1, offset=6)) is None  # not there yet
    assert taken(cursor, lane(2, 3, offset=7)) == [3]
    assert cursor.start_offset == 9


def test_the_proof_alone_is_taken_note_of() -> None:
    cursor = at(2, 8)
    assert taken(cursor, lane(2, offset=7)) == []
    assert cursor.proven
    assert cursor.checkpoint == Checkpoint(2, 8)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(lane(7, 8, offset=7), id="another event stands there"),
        pytest.param(lane(3, offset=8), id="nothing stands there"),
    ],
)
def test_a_topic_that_is_another_halts(found: LaneBatch) -> None:
    cursor = at(2, 8)
    assert taken(cursor, found) == []
    assert cursor.halt is not None
    assert cursor.halt.code == halts.TOPIC_CHANGED
    assert "event 2 was folded from offset 7" in cursor.halt.detail
    assert taken(cursor, lane(2, 3, offset=7)) == []


def test_a_proof_can_be_waived_once() -> None:
    cursor = at(2, 8)
    assert cursor.waive_proof()
    assert cursor.start_offset == 8
    assert not cursor.waive_proof()
    assert taken(cursor, lane(3, offset=8)) == [3]


def test_without_a_hint_of_the_offset_there_is_nothing_to_prove() -> None:
    cursor = at(2, 0)
    assert cursor.start_offset == 0
    assert taken(cursor, lane(1, 2, 3)) == [3]


@pytest.mark.parametrize("batch", [lane(1, 2, 3, 4), lane(1, 2, 2, 3, 4), lane(1, 2, 3, 9)])
def test_no_more_is_taken_than_wanted(batch: LaneBatch) -> None:
    cursor = Cursor(Checkpoint(0, 0), until=3)
    assert taken(cursor, batch) == [1, 2, 3]
    assert cursor.done
    assert cursor.closed
    assert halt_of(cursor) is None


def test_what_is_held_takes_nothing() -> None:
    cursor = at(2)
    cursor.hold(halts.OFFSET_LOST, "gone")
    assert taken(cursor, lane(3)) == []
    assert halt_of(cursor) == FoldHalt(halts.OFFSET_LOST, 3, 3, "gone")


@pytest.mark.parametrize(("batch", "before"), [(lane(1, 2, 3), 2), (lane(4, 5), 0), (lane(1, 2, 1, 9), 3)])
def test_repeats_are_counted(batch: LaneBatch, before: int) -> None:
    assert batch.before(3) == before


def test_joined_batches_are_dense_if_they_follow() -> None:
    batch = lane(1, 2)
    batch.extend(lane(3, 4, offset=2))
    assert batch.dense
    batch.extend(lane(4, offset=4))
    assert not batch.dense


@given(st.lists(st.integers(1, 6), max_size=30), st.lists(st.integers(1, 5), max_size=10))
def test_whatever_arrives_however_cut_a_dense_run_is_taken(sequences: list[int], cuts: list[int]) -> None:
    expected: list[int] = []
    for sequence in sequences:
        if sequence == len(expected) + 1:
            expected.append(sequence)
    cursor = at(0)
    found: list[int] = []
    start = 0
    for size in [*cuts, len(sequences)]:
        part = sequences[start : start + size]
        if part:
            found += taken(cursor, lane(*part, offset=start))
        start += size
    assert found == expected
    assert cursor.checkpoint.sequence == len(expected)
    is_behind = bool(sequences) and any(sequence > len(expected) for sequence in sequences)
    assert is_behind or cursor.halt is None


# --- events field by field --------------------------------------------------------------------------------------------


def columns_of(*sequences: int) -> LaneBatch:
    batch = lane(*sequences, offset=sequences[0] - 1)
    return replace(batch, events=field_by_field(batch.events))


def test_a_run_field_by_field_is_taken_as_one() -> None:
    cursor = at(2)
    part = cursor.take(columns_of(1, 2, 3, 4))
    assert part is not None
    assert isinstance(part.events, EventColumns)
    assert [event.sequence for event in part.events.recorded()] == [3, 4]
    whole = columns_of(1, 2)
    assert whole.readable(range(2)) == (whole.events, None)
    assert [event.sequence for event in listed(whole.readable([1])[0])] == [2]


def test_lanes_stay_field_by_field_as_long_as_all_events_are_alike() -> None:
    batch = lane(1)
    batch.extend(columns_of(2, 3))
    batch.extend(lane(4, offset=3))
    assert isinstance(batch.events, EventColumns)
    assert (batch.dense, batch.events.sequences) == (True, [1, 2, 3, 4])
    batch.extend(lane(5, 6, offset=4, unreadable=[6]))
    batch.extend(columns_of(7, 8))
    events: object = batch.events
    assert isinstance(events, list)
    assert [getattr(event, "sequence", None) for event in events] == [1, 2, 3, 4, 5, None, 7, 8]
    assert taken(at(0), batch) == [1, 2, 3, 4, 5]


def test_events_of_another_class_end_a_run_field_by_field() -> None:
    batch = columns_of(1, 2)
    batch.extend(LaneBatch([2], [3], [Recorded(Counted(good="tea"), START, 0, 3)], whole=True))
    assert isinstance(batch.events, list)
    assert taken(at(0), batch) == [1, 2, 3]
