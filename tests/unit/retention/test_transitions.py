"""The way out, action by action."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Column, DateTime, MetaData, Table

from tests.support.archive.slices import (
    COLUMNS,
    DAY,
    FILE,
    HOLD,
    LIMITS,
    NOW,
    OTHER_ROWS,
    ROWS,
    brought_to,
    copy_of,
    live,
    measured_slice,
    moved,
    slice_id,
)
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState, SliceId, Source
from tidemill.retention import operator_transitions, transitions
from tidemill.retention.slices import PROOF_LASTS, AnswerLimits, Hold, Party, held, late_name, together
from tidemill.retention.transition_table import TRANSITIONS, Action, Moved, Transition, TransitionRefused

S = ArchiveState
LATER = NOW + timedelta(days=30)


def refusal(step: Moved) -> str:
    assert isinstance(step, TransitionRefused), step
    return step.code


# The table.


def test_rows_leave_by_a_drop_or_an_eviction_only() -> None:
    out = {(before, action) for before, action, after, _ in TRANSITIONS if after is S.DROPPED}
    assert out == {(S.VERIFIED, Action.DROP), (S.RESTORED, Action.EVICT)}


def test_an_archiver_only_says_how_far_it_is() -> None:
    by_archiver = {after for _, _, after, by in TRANSITIONS if by is Party.ARCHIVER}
    assert by_archiver == {S.REQUESTED, S.COPYING, S.CONFIRMED}


def test_verified_comes_from_confirmed_or_from_a_hold() -> None:
    assert {(before, action) for before, action, after, _ in TRANSITIONS if after is S.VERIFIED} == {
        (S.CONFIRMED, Action.VERIFY),
        (S.VERIFIED, Action.VERIFY),
        (S.HELD, Action.RESUME_HELD),
    }


def test_every_state_can_be_left_and_every_action_is_used() -> None:
    assert {before for before, _, _, _ in TRANSITIONS} == set(S)
    assert {action for _, action, _, _ in TRANSITIONS} == set(Action)


# Sealing.


def test_a_seal_closes_the_range_and_starts_a_count() -> None:
    one = brought_to(S.SEALED)
    assert (one.seal, one.sealed_at, one.columns, one.is_closed) == (1, NOW, COLUMNS, True)
    assert one.sealed is None


def test_a_hold_refuses_the_seal_and_names_who() -> None:
    step = transitions.seal(brought_to(S.ELIGIBLE), NOW, columns=COLUMNS, holds=[HOLD])
    assert isinstance(step, TransitionRefused)
    assert step.code == "HELD"
    assert "ada" in step.message


def test_only_what_was_chosen_is_sealed() -> None:
    assert refusal(transitions.seal(live(), NOW, columns=COLUMNS, holds=())) == "NOT_ALLOWED"


def test_values_that_the_lake_cannot_hold_are_named() -> None:
    one = brought_to(S.ABORTED)
    assert one.reason == "infinity in price"
    assert not one.is_closed


def test_a_refused_slice_is_sealed_anew_and_its_reason_is_forgotten() -> None:
    again = moved(transitions.choose(brought_to(S.ABORTED), LATER))
    one = moved(transitions.seal(again, LATER, columns=COLUMNS, holds=()))
    assert (one.seal, one.sealed_at, one.reason) == (1, LATER, None)


def test_a_measurement_of_another_seal_is_void() -> None:
    assert refusal(transitions.measure(brought_to(S.SEALED), NOW, seal=2, found=ROWS)) == "OTHER_SEAL"


def test_a_seal_is_measured_once() -> None:
    assert refusal(transitions.measure(measured_slice(), NOW, seal=1, found=OTHER_ROWS)) == "MEASURED"


# Requests.


def test_a_request_needs_a_measurement_and_a_fresh_id() -> None:
    assert (
        refusal(transitions.request(brought_to(S.SEALED), NOW, event_id="e1", limits=LIMITS))
        == "NOT_MEASURED"
    )
    broken = moved(transitions.reseal(brought_to(S.VERIFIED), NOW, found=OTHER_ROWS))
    again = moved(transitions.measure(broken, NOW, seal=2, found=OTHER_ROWS))
    assert refusal(transitions.request(again, NOW, event_id="e1", limits=LIMITS)) == "EVENT_USED"
    assert moved(transitions.request(again, NOW, event_id="e2", limits=LIMITS)).attempt == 1


def test_a_request_is_sent_again_when_its_deadline_passed_with_growing_pauses() -> None:
    one = brought_to(S.REQUESTED)
    assert one.deadline == NOW + timedelta(minutes=15)
    assert refusal(transitions.request_again(one, NOW, limits=LIMITS)) == "TOO_EARLY"
    one = moved(transitions.request_again(one, one.deadline, limits=LIMITS))
    assert (one.event_id, one.attempt, one.state) == ("e1", 2, S.REQUESTED)
    assert one.deadline == NOW + timedelta(minutes=45)


def test_no_request_is_sent_a_ninth_time() -> None:
    one, sent = brought_to(S.REQUESTED), 1
    while isinstance(step := transitions.request_again(one, one.deadline or NOW, limits=LIMITS), Transition):
        one, sent = step.after, sent + 1
    assert sent == 8
    assert step.code == "SPENT"
    limits = AnswerLimits(max_seal=365 * DAY)
    assert one.deadline is not None
    assert (
        refusal(transitions.give_up(one, one.deadline - timedelta(seconds=1), limits=limits)) == "TOO_EARLY"
    )
    given_up = moved(transitions.give_up(one, one.deadline, limits=limits))
    assert given_up.state is S.ABORTED
    assert given_up.reason == "no copy after 8 attempts"


def test_silence_is_measured_at_the_agreed_rate() -> None:
    slow = AnswerLimits(bytes_per_s=1)
    one = moved(transitions.heartbeat(brought_to(S.REQUESTED), NOW, limits=slow, who="archiver"))
    assert one.deadline == NOW + timedelta(seconds=10_000)
    one = moved(transitions.heartbeat(one, NOW, limits=LIMITS, who="archiver"))
    assert one.deadline == NOW + timedelta(hours=1)


def test_a_heartbeat_does_not_renew_since() -> None:
    one = moved(transitions.heartbeat(brought_to(S.COPYING), LATER, limits=LIMITS, who="archiver"))
    assert one.since == NOW


def test_a_failure_rests_then_goes_out_again() -> None:
    one = moved(transitions.fail(brought_to(S.COPYING), NOW, why="disk full", who="a", limits=LIMITS))
    assert (one.state, one.attempt, one.reason) == (S.REQUESTED, 1, "disk full")
    assert one.deadline == NOW + timedelta(minutes=1)
    again = moved(transitions.request_again(one, one.deadline, limits=LIMITS))
    assert again.attempt == 2


def test_a_failure_for_good_is_given_up_by_the_service_with_its_reason() -> None:
    one = moved(
        transitions.fail(
            brought_to(S.COPYING), NOW, why="no such bucket", who="a", limits=LIMITS, retryable=False
        )
    )
    assert one.state is S.REQUESTED
    assert refusal(transitions.request_again(one, NOW, limits=LIMITS)) == "SPENT"
    given_up = moved(transitions.give_up(one, NOW, limits=LIMITS))
    assert given_up.attempt == 1
    assert given_up.reason == (
        "attempt 1 failed with an error that is not retried; the last reason given: no such bucket"
    )


@pytest.mark.parametrize("state", [S.SEALED, S.REQUESTED, S.COPYING, S.CONFIRMED])
def test_no_seal_lasts_longer_than_a_day_without_a_verified_copy(state: ArchiveState) -> None:
    one = brought_to(state)
    short = timedelta(minutes=5)
    assert refusal(transitions.give_up(one, NOW + short, limits=LIMITS)) == "TOO_EARLY"
    step = transitions.give_up(one, NOW + DAY, limits=LIMITS)
    assert isinstance(step, Transition)
    assert step.after.state is S.ABORTED
    assert step.opens


@pytest.mark.parametrize("state", [S.VERIFIED, S.DROPPED, S.RESTORED, S.QUARANTINED, S.LIVE])
def test_what_is_verified_gone_or_a_persons_is_never_given_up(state: ArchiveState) -> None:
    assert transitions.overdue(brought_to(state), LATER, LIMITS) is None


def test_a_confirmation_of_another_request_is_refused() -> None:
    one = brought_to(S.REQUESTED)
    other = copy_of(brought_to(S.REQUESTED, event_id="e2"))
    assert refusal(transitions.confirm(one, NOW, copy=other, who="a")) == "OTHER_EVENT"


# The chunk behind it.

CHUNK, LATE = Source.CHUNK, Source.LATE


@pytest.mark.parametrize(
    ("action", "before", "after", "source", "new_seal", "freezes"),
    [
        pytest.param(Action.SEAL, S.ELIGIBLE, S.SEALED, CHUNK, True, True, id="sealed"),
        pytest.param(Action.RESEAL, S.VERIFIED, S.SEALED, CHUNK, True, True, id="sealed anew"),
        pytest.param(Action.RETRY, S.QUARANTINED, S.SEALED, CHUNK, True, True, id="tried again"),
        pytest.param(Action.RESTORE, S.DROPPED, S.RESTORED, CHUNK, False, True, id="restored"),
        pytest.param(Action.GIVE_UP, S.REQUESTED, S.ABORTED, CHUNK, False, True, id="given up"),
        pytest.param(Action.RELEASE, S.QUARANTINED, S.ABORTED, CHUNK, False, True, id="released"),
        pytest.param(Action.CHOOSE, S.ABORTED, S.ELIGIBLE, CHUNK, False, False, id="still open"),
        pytest.param(Action.CONFIRM, S.REQUESTED, S.CONFIRMED, CHUNK, False, False, id="still closed"),
        pytest.param(Action.HOLD, S.VERIFIED, S.HELD, CHUNK, False, False, id="held"),
        pytest.param(Action.DROP, S.VERIFIED, S.DROPPED, CHUNK, False, False, id="dropped"),
        pytest.param(Action.EVICT, S.RESTORED, S.DROPPED, CHUNK, False, False, id="evicted"),
        pytest.param(Action.SEAL, S.ELIGIBLE, S.SEALED, LATE, True, False, id="late rows sealed"),
        pytest.param(Action.GIVE_UP, S.REQUESTED, S.ABORTED, LATE, False, False, id="late rows given up"),
    ],
)
def test_a_step_tells_when_the_chunk_is_to_be_frozen_or_thawed(
    action: Action, before: S, after: S, source: Source, new_seal: bool, freezes: bool
) -> None:
    one = replace(live(), state=before, source=source, seal=1)
    other = replace(one, state=after, seal=2 if new_seal else 1)
    assert Transition(action, one, other, Party.SERVICE, "service").freezes is freezes


# Verification and drop.


def test_equal_is_verified_and_the_proof_says_of_what() -> None:
    one = brought_to(S.VERIFIED)
    assert one.verified is not None
    assert (one.verified.copy, one.verified.found) == (one.copy, ROWS)
    assert one.copy is not None
    assert one.copy.files == (FILE,)


def test_a_difference_is_quarantined_and_named() -> None:
    one = brought_to(S.QUARANTINED)
    assert one.reason == "row_count 3 instead of 2"
    assert one.verified is None


def test_a_reading_of_another_copy_is_void() -> None:
    one = brought_to(S.CONFIRMED)
    other = copy_of(one, location="/lake/elsewhere")
    assert refusal(transitions.verify(one, NOW, read=other, found=ROWS)) == "OTHER_COPY"
    assert refusal(transitions.quarantine(one, NOW, read=other, why="no file")) == "OTHER_COPY"
    set_aside = moved(transitions.quarantine(one, NOW, read=copy_of(one), why="no file"))
    assert (set_aside.state, set_aside.reason) == (S.QUARANTINED, "no file")


def test_a_proof_that_has_become_old_lets_nothing_go() -> None:
    one = brought_to(S.VERIFIED)
    later = NOW + PROOF_LASTS
    assert isinstance(transitions.drop(one, later, found=ROWS, holds=()), Transition)
    later += timedelta(microseconds=1)
    assert refusal(transitions.drop(one, later, found=ROWS, holds=())) == "OLD_PROOF"
    again = moved(transitions.verify(one, later, read=copy_of(one), found=ROWS))
    assert again.state is S.VERIFIED
    assert moved(transitions.drop(again, later, found=ROWS, holds=())).state is S.DROPPED


@pytest.mark.parametrize("state", [S.CONFIRMED, S.VERIFIED, S.RESTORED])
def test_a_copy_that_is_no_longer_what_it_was_is_set_aside(state: ArchiveState) -> None:
    one = brought_to(state)
    changed = moved(transitions.verify(one, LATER, read=copy_of(one), found=OTHER_ROWS))
    lost = moved(transitions.quarantine(one, LATER, read=copy_of(one), why="no such file"))
    for aside in (changed, lost):
        assert (aside.state, aside.restore_until) == (S.QUARANTINED, None)
        assert (
            moved(operator_transitions.retry(aside, LATER, who="ada", why="the disk is back")).state
            is S.SEALED
        )


@pytest.mark.parametrize("state", [state for state in S if state is not S.VERIFIED])
def test_nothing_but_verified_is_dropped(state: ArchiveState) -> None:
    assert refusal(transitions.drop(brought_to(state), LATER, found=ROWS, holds=())) == "NOT_ALLOWED"


def test_a_hold_refuses_the_drop() -> None:
    assert refusal(transitions.drop(brought_to(S.VERIFIED), NOW, found=ROWS, holds=[HOLD])) == "HELD"


def test_changed_rows_are_sealed_again_never_dropped() -> None:
    one = brought_to(S.VERIFIED)
    assert refusal(transitions.drop(one, NOW, found=OTHER_ROWS, holds=())) == "CHANGED"
    again = moved(transitions.reseal(one, LATER, found=OTHER_ROWS))
    assert (again.state, again.seal, again.superseded) == (S.SEALED, 2, ("e1",))
    assert (again.event_id, again.copy, again.verified, again.sealed) == (None, None, None, None)
    assert again.sealed_at == NOW, "the range is closed since the first seal"
    assert "row_count" in (again.reason or "")


def test_unchanged_or_unmeasured_rows_are_not_sealed_again() -> None:
    assert refusal(transitions.reseal(brought_to(S.VERIFIED), NOW, found=ROWS)) == "UNCHANGED"
    assert refusal(transitions.reseal(live(), NOW, found=ROWS)) == "NOT_ALLOWED"


def test_a_proof_of_another_copy_does_not_count() -> None:
    one = brought_to(S.VERIFIED)
    forged = replace(one, copy=copy_of(one, location="/lake/elsewhere"))
    assert refusal(transitions.drop(forged, NOW, found=ROWS, holds=())) == "OTHER_COPY"


def test_a_tombstone_keeps_the_copy() -> None:
    one = brought_to(S.DROPPED)
    assert one.copy is not None
    assert one.sealed == ROWS
    assert one.is_closed


# Small things.


def test_a_hold_covers_what_it_overlaps() -> None:
    start, end = slice_id(1).start, slice_id(1).end
    hold = Hold("public.ticks", start, end, "", "ada", NOW)
    assert [hold.covers(slice_id(day)) for day in range(3)] == [False, True, False]
    assert not hold.covers(slice_id(1, table="audit.ticks"))
    assert held(slice_id(0), [hold]) is None
    assert Hold("public.ticks", None, None, "", "ada", NOW).covers(slice_id())


def test_the_union_of_measurements() -> None:
    top = ROWS._replace(digest=f"v1:{2**64 - 1:016x}:{5:016x}", min_time=NOW, max_time=NOW)
    assert together([ROWS, top]) == (4, f"v1:{6:016x}:{12:016x}", ROWS.min_time, NOW)
    assert together([]) == (0, f"v1:{0:016x}:{0:016x}", None, None)
    assert together([ROWS]) == ROWS


def test_a_policy_sets_the_limits() -> None:
    ticks = Table("ticks", MetaData(), Column("time", DateTime(timezone=True)))
    limits = AnswerLimits.of(Retention(table=ticks, after=DAY, longest_seal=DAY / 2, bytes_per_s=5))
    assert limits == AnswerLimits(max_seal=DAY / 2, bytes_per_s=5)


def test_late_rows_are_named_by_their_range() -> None:
    names = {late_name(slice_id(day)) for day in range(3)}
    assert len(names) == 3
    longest = SliceId("s" * 63 + "." + "t" * 63, NOW, NOW + DAY)
    assert len(late_name(longest)) <= 200, "a confirmation's chunk_name is no longer"
