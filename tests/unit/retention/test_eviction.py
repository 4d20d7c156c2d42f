"""What becomes of a range that was restored, all its generations at once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.archive.slices import (
    DAY,
    HOLD,
    NOW,
    OTHER_ROWS,
    ROWS,
    brought_to,
    copy_of,
    moved,
    slice_id,
)
from tidemill.domain.archive.slices import ArchiveState, Source
from tidemill.retention import transitions
from tidemill.retention.eviction import leave
from tidemill.retention.explanations import in_the_way
from tidemill.retention.slices import PROOF_LASTS, Slice, late_name, together
from tidemill.retention.transition_table import Transition, TransitionRefused

S = ArchiveState
EXPIRED = NOW + DAY
WHOLE = together([ROWS, ROWS])


def generation(number: int, read_at: timedelta = DAY) -> Slice:
    """A restored slice as `restore` leaves it: the first one has the chunk."""
    which = slice_id(generation=number)
    one = brought_to(S.RESTORED, which, event_id=f"e{number}")
    one = moved(transitions.verify(one, NOW + read_at, read=copy_of(one), found=ROWS))
    return one if number == 1 else replace(one, source=Source.LATE, chunk=late_name(which))


def test_generations_go_together_with_the_chunk_of_the_first() -> None:
    both = (generation(1), generation(2))
    leaving = leave(both, EXPIRED, found=WHOLE, holds=())
    assert [moved(each).state for each in leaving.moves] == [S.DROPPED, S.DROPPED]
    assert leaving.chunk == both[0]


def test_what_was_changed_stays_all_of_it() -> None:
    leaving = leave((generation(1), generation(2)), EXPIRED, found=OTHER_ROWS, holds=())
    assert [moved(each).state for each in leaving.moves] == [S.QUARANTINED, S.QUARANTINED]
    assert leaving.chunk is None


def test_one_old_proof_keeps_all_of_them() -> None:
    both = (generation(1), generation(2, DAY - PROOF_LASTS - timedelta(seconds=1)))
    leaving = leave(both, EXPIRED, found=WHOLE, holds=())
    assert [each.code for each in leaving.moves if isinstance(each, TransitionRefused)] == ["OLD_PROOF"]
    assert not [each for each in leaving.moves if isinstance(each, Transition)], (
        "the other one would go alone"
    )
    assert leaving.chunk is None


def test_a_hold_keeps_all_of_them() -> None:
    leaving = leave((generation(1), generation(2)), EXPIRED, found=WHOLE, holds=iter([HOLD]))
    assert [each.code for each in leaving.moves if isinstance(each, TransitionRefused)] == ["HELD", "HELD"]


def test_late_rows_that_came_back_without_their_chunk_have_nothing_to_drop() -> None:
    """The chunk's own slice was set aside: its rows are not theirs to drop."""
    assert leave((generation(2),), EXPIRED, found=ROWS, holds=()).chunk is None


@pytest.mark.parametrize("state", [S.SEALED, S.REQUESTED, S.COPYING, S.CONFIRMED, S.VERIFIED, S.RESTORED])
def test_a_range_goes_round_one_slice_at_a_time(state: ArchiveState) -> None:
    aside = brought_to(S.QUARANTINED)
    other = brought_to(state, slice_id(generation=2))
    assert state in (in_the_way(aside, [aside, other]) or "")
    held = replace(other, state=S.HELD, held_from=state)
    assert in_the_way(aside, [held, aside]) is not None


@pytest.mark.parametrize("state", [S.DROPPED, S.QUARANTINED, S.ABORTED])
def test_others_do_not_stand_in_the_way(state: ArchiveState) -> None:
    aside = brought_to(S.QUARANTINED)
    assert in_the_way(aside, [aside, brought_to(state, slice_id(generation=2))]) is None
