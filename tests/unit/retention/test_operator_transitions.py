"""Holds, retries, releases, and the way back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.archive.slices import (
    DAY,
    HOLD,
    LIMITS,
    NOW,
    OTHER_ROWS,
    ROWS,
    brought_to,
    copy_of,
    moved,
    slice_id,
)
from tidemill.domain.archive.slices import ArchiveState
from tidemill.retention import transitions
from tidemill.retention.operator_transitions import (
    evict,
    hold,
    quarantine_changed,
    release,
    restore,
    resume_held,
    retry,
)
from tidemill.retention.slices import Party, Slice, together
from tidemill.retention.transition_table import HOLDABLE, Moved, Transition, TransitionRefused

S = ArchiveState
EXPIRED = NOW + DAY


def refusal(step: Moved) -> str:
    assert isinstance(step, TransitionRefused), step
    return step.code


@pytest.mark.parametrize("state", HOLDABLE)
def test_a_held_slice_returns_to_where_it_was(state: ArchiveState) -> None:
    one = brought_to(state)
    stopped = moved(hold(one, NOW, who="ada", why="a law suit"))
    assert (stopped.state, stopped.stage, stopped.reason) == (S.HELD, state, "a law suit")
    assert refusal(resume_held(stopped, NOW, who="ada", why="", holds=[HOLD])) == "HELD"
    back = moved(resume_held(stopped, NOW, who="bob", why="settled", holds=()))
    assert (back.state, back.held_from) == (state, None)


@pytest.mark.parametrize("state", [S.LIVE, S.ELIGIBLE, S.DROPPED, S.ABORTED, S.HELD])
def test_what_is_open_gone_or_held_is_not_stopped(state: ArchiveState) -> None:
    assert refusal(hold(brought_to(state), NOW, who="ada", why="")) == "NOT_ALLOWED"


def test_only_what_is_held_is_released() -> None:
    assert refusal(resume_held(brought_to(S.VERIFIED), NOW, who="ada", why="", holds=())) == "NOT_ALLOWED"


def test_a_hold_does_not_keep_an_unverified_seal_for_ever() -> None:
    stopped = moved(hold(brought_to(S.COPYING), NOW, who="ada", why="a law suit"))
    given_up = moved(transitions.give_up(stopped, NOW + DAY, limits=LIMITS))
    assert (given_up.state, given_up.held_from) == (S.ABORTED, None)
    verified = moved(hold(brought_to(S.VERIFIED), NOW, who="ada", why="a law suit"))
    assert refusal(transitions.give_up(verified, NOW + 900 * DAY, limits=LIMITS)) == "TOO_EARLY"


def test_a_retry_is_a_new_seal_that_supersedes() -> None:
    one = moved(retry(brought_to(S.QUARANTINED), NOW + 9 * DAY, who="ada", why="disk replaced"))
    assert (one.state, one.seal, one.superseded, one.event_id) == (S.SEALED, 2, ("e1",), None)
    assert transitions.overdue(one, NOW + 9 * DAY, LIMITS) is None, "its time begins anew"


@pytest.mark.parametrize("state", [S.SEALED, S.REQUESTED, S.COPYING, S.CONFIRMED, S.VERIFIED, S.QUARANTINED])
def test_a_release_opens_the_range(state: ArchiveState) -> None:
    step = release(brought_to(state), NOW, who="ada", why="needed")
    assert isinstance(step, Transition)
    assert step.opens
    assert (step.by, step.who, step.after.reason, step.after.deadline) == (
        Party.OPERATOR,
        "ada",
        "needed",
        None,
    )


@pytest.mark.parametrize("state", [S.LIVE, S.DROPPED, S.HELD, S.RESTORED, S.ABORTED])
def test_nothing_else_is_released(state: ArchiveState) -> None:
    assert refusal(release(brought_to(state), NOW, who="ada", why="")) == "NOT_ALLOWED"


def test_what_comes_back_is_what_left() -> None:
    gone = brought_to(S.DROPPED)
    assert refusal(restore(gone, NOW, found=OTHER_ROWS, until=EXPIRED, chunk="c", who="ada")) == "CHANGED"
    assert (
        refusal(restore(brought_to(S.LIVE), NOW, found=ROWS, until=EXPIRED, chunk="c", who="ada"))
        == "CHANGED"
    )
    back = moved(restore(gone, NOW, found=ROWS, until=EXPIRED, chunk="c", who="ada"))
    assert (back.state, back.restore_until, back.chunk) == (S.RESTORED, EXPIRED, "c")


def test_restored_rows_leave_again_when_they_expire() -> None:
    left = brought_to(S.RESTORED)
    assert refusal(evict(left, EXPIRED, found=ROWS, holds=())) == "OLD_PROOF", "its copy is looked at again"
    back = moved(transitions.verify(left, EXPIRED, read=copy_of(left), found=ROWS))
    early = EXPIRED - timedelta(seconds=1)
    assert refusal(evict(back, early, found=ROWS, holds=())) == "TOO_EARLY"
    step = evict(back, EXPIRED, found=ROWS, holds=())
    assert isinstance(step, Transition)
    assert (step.after.state, step.after.restore_until, step.by) == (S.DROPPED, None, Party.SERVICE)
    by_hand = evict(back, early, found=ROWS, holds=(), operator="ada")
    assert isinstance(by_hand, Transition)
    assert (by_hand.by, by_hand.who) == (Party.OPERATOR, "ada")


def test_restored_rows_stay_under_a_hold() -> None:
    assert refusal(evict(brought_to(S.RESTORED), EXPIRED, found=ROWS, holds=[HOLD])) == "HELD"


def test_restored_rows_that_were_changed_are_a_persons_matter() -> None:
    back = brought_to(S.RESTORED)
    assert refusal(evict(back, EXPIRED, found=OTHER_ROWS, holds=())) == "CHANGED"
    assert refusal(quarantine_changed(back, EXPIRED, found=ROWS)) == "UNCHANGED"
    aside = moved(quarantine_changed(back, EXPIRED, found=OTHER_ROWS))
    assert aside.state is S.QUARANTINED
    assert aside.reason == "changed since it was restored: row_count 3 instead of 2"
    assert moved(retry(aside, EXPIRED, who="ada", why="keep both")).superseded == ("e1",)


def test_nothing_but_restored_rows_is_evicted() -> None:
    verified = brought_to(S.VERIFIED)
    assert refusal(evict(verified, EXPIRED, found=ROWS, holds=())) == "CHANGED"
    assert refusal(quarantine_changed(verified, EXPIRED, found=ROWS)) == "NOT_ALLOWED"


def two_generations() -> tuple[Slice, Slice]:
    first = read_again(brought_to(S.RESTORED))
    second = read_again(brought_to(S.RESTORED, slice_id(generation=2), event_id="e2"))
    return first, replace(second, restore_until=EXPIRED + DAY)


def read_again(which: Slice) -> Slice:
    return moved(transitions.verify(which, EXPIRED + DAY, read=copy_of(which), found=ROWS))


def test_the_generations_of_a_range_leave_together() -> None:
    first, second = two_generations()
    whole = together([ROWS, ROWS])
    assert refusal(evict(first, EXPIRED + DAY, found=whole, holds=())) == "CHANGED"
    assert refusal(evict(first, EXPIRED, found=whole, holds=(), beside=[second])) == "TOO_EARLY"
    for one, other in ((first, second), (second, first)):
        assert moved(evict(one, EXPIRED + DAY, found=whole, holds=(), beside=[other])).state is S.DROPPED


def test_a_generation_that_is_not_back_proves_nothing() -> None:
    first, _ = two_generations()
    gone = brought_to(S.DROPPED, slice_id(generation=2))
    step = evict(first, EXPIRED, found=together([ROWS, ROWS]), holds=(), beside=[gone])
    assert refusal(step) == "CHANGED"
