"""Who goes together: what may share a request, what is asked again, and when an event is over."""

from dataclasses import replace

import pytest

from tests.support.archive.slices import (
    COLUMNS,
    DAY,
    LIMITS,
    NOW,
    OTHER_ROWS,
    brought_to,
    measured_slice,
    moved,
    slice_id,
)
from tidemill.domain.archive.messages import ArchivalStatus
from tidemill.domain.archive.slices import ArchiveState, LakeColumn, LakeType
from tidemill.retention import operator_transitions, transitions
from tidemill.retention.grouping import batches, due_again, settled

S = ArchiveState


def test_at_most_64_of_one_shape_share_an_event() -> None:
    ready = [measured_slice(slice_id(day)) for day in reversed(range(130))]
    wider = replace(
        measured_slice(slice_id(500)),
        columns=(*COLUMNS, LakeColumn("price", "real", LakeType.FLOAT32, nullable=True)),
    )
    unready = [brought_to(S.SEALED, slice_id(200)), brought_to(S.REQUESTED, slice_id(201))]
    found = batches([*unready, wider, *ready])
    assert [len(batch) for batch in found] == [64, 64, 2, 1]
    assert found[0][0].id == slice_id(0)
    assert [
        len(batch) for batch in batches([measured_slice(), measured_slice(slice_id(table="audit.ticks"))])
    ] == [1, 1]


def test_what_overlaps_shares_no_event() -> None:
    """A place with all rows of an event is split by their times."""
    longer = replace(measured_slice(), id=replace(slice_id(generation=2), end=slice_id(2).end))
    days = [measured_slice(slice_id(day)) for day in range(4)]
    assert batches([longer, *days]) == (tuple(days), (longer,))


def test_requests_that_are_overdue_go_out_again_by_event_and_attempt() -> None:
    first, second = (brought_to(S.REQUESTED, slice_id(day)) for day in range(2))
    ahead = moved(
        transitions.request_again(brought_to(S.REQUESTED, slice_id(2)), NOW + DAY / 4, limits=LIMITS)
    )
    other = brought_to(S.REQUESTED, slice_id(3), event_id="e2")
    spent = replace(brought_to(S.COPYING, slice_id(4)), attempt=8)
    slices = [first, second, ahead, other, spent, brought_to(S.CONFIRMED, slice_id(5))]
    assert due_again(slices, NOW, LIMITS) == ()
    assert due_again(slices, NOW + DAY, LIMITS) == ((first, second), (ahead,), (other,))


def outcome(*states: ArchiveState) -> ArchivalStatus | None:
    """Return what became of an event whose slices came to these states."""
    slices = [replace(brought_to(state, slice_id(day)), event_id="e1") for day, state in enumerate(states)]
    left = {each.id for each in slices if each.state in {S.DROPPED, S.RESTORED}}
    return settled("e1", [*slices, brought_to(S.REQUESTED, slice_id(9), event_id="other")], left)


def test_an_event_is_over_when_all_its_slices_are() -> None:
    assert outcome(S.DROPPED, S.VERIFIED) is None
    assert outcome(S.DROPPED, S.QUARANTINED) is None
    assert outcome(S.DROPPED, S.RESTORED) is ArchivalStatus.COMPLETED
    assert outcome(S.DROPPED, S.ABORTED) is ArchivalStatus.FAILED
    assert outcome() is None
    resealed = moved(transitions.reseal(brought_to(S.VERIFIED), NOW, found=OTHER_ROWS))
    assert settled("e1", [resealed], ()) is ArchivalStatus.FAILED


@pytest.mark.parametrize("end", [S.QUARANTINED, S.SEALED, S.ABORTED])
def test_an_event_whose_slices_left_is_completed_whatever_becomes_of_them(end: ArchiveState) -> None:
    quarantined = moved(
        operator_transitions.quarantine_changed(brought_to(S.RESTORED), NOW, found=OTHER_ROWS)
    )
    later = {
        S.QUARANTINED: quarantined,
        S.SEALED: moved(operator_transitions.retry(quarantined, NOW, who="ada", why="as it is")),
        S.ABORTED: moved(operator_transitions.release(quarantined, NOW, who="ada", why="it stays")),
    }[end]
    assert settled("e1", [later], {later.id}) is ArchivalStatus.COMPLETED
