"""What a confirmation does, whoever wrote it."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.archive.slices import (
    DAY,
    FILE,
    LIMITS,
    NOW,
    OTHER_ROWS,
    ROWS,
    brought_to,
    live,
    measured_slice,
    moved,
    slice_id,
)
from tidemill.domain.archive.messages import (
    ArchivalConfirmation,
    ArchivalFile,
    ArchivalResult,
    ArchivalStatus,
)
from tidemill.domain.archive.slices import ArchiveState, Source
from tidemill.retention import transitions
from tidemill.retention.confirmations import CODES, ConfirmationEffect, fold
from tidemill.retention.slices import Slice
from tidemill.retention.transition_table import Action, Transition

S = ArchiveState
DONE, FAILED, BUSY, PENDING = (
    ArchivalStatus.COMPLETED,
    ArchivalStatus.FAILED,
    ArchivalStatus.IN_PROGRESS,
    ArchivalStatus.PENDING,
)
FILES = (ArchivalFile(**FILE._asdict()),)


def said(status: ArchivalStatus, **told: Any) -> ArchivalConfirmation:
    words: dict[str, Any] = {"event_id": "e1", "status": status, "completed_at": NOW}
    return ArchivalConfirmation(**(words | told))


def result(which: Slice, status: ArchivalStatus, **told: Any) -> ArchivalResult:
    words: dict[str, Any] = {"chunk_name": which.chunk, "status": status}
    return ArchivalResult(**(words | told))


def three(state: ArchiveState = S.REQUESTED) -> list[Slice]:
    return [brought_to(state, slice_id(day)) for day in range(3)]


def folded(confirmation: ArchivalConfirmation, *slices: Slice) -> ConfirmationEffect:
    return fold(confirmation, slices, NOW, LIMITS)


def code(confirmation: ArchivalConfirmation, *slices: Slice) -> str:
    rejected = folded(confirmation, *slices).rejected
    assert rejected is not None
    assert CODES[rejected.code] in rejected.message
    return rejected.code


def test_five_fields_confirm_the_whole_event() -> None:
    done = folded(said(DONE, lakehouse_path="/lake/e1", error_message=None), *three())
    assert done.rejected is None
    assert [step.after.state for step in done.steps] == [S.CONFIRMED] * 3
    copies = [step.after.copy for step in done.steps]
    assert {(copy.location, copy.files, copy.lake_format) for copy in copies if copy} == {
        ("/lake/e1", (), "parquet")
    }


def test_chunks_are_confirmed_one_by_one() -> None:
    first, second, third = three()
    claimed = {"row_count": 2, "digest": ROWS.digest, "min_time": ROWS.min_time, "max_time": ROWS.max_time}
    done = folded(
        said(
            DONE,
            archiver_id="ours",
            lake_format="iceberg",
            snapshot_id=7,
            chunks=(
                result(first, DONE, files=FILES, **claimed),
                result(second, FAILED, error_code="E12", error_message="disk\nfull"),
            ),
        ),
        first, second, third,
    )  # fmt: skip
    one, two = done.steps
    copy = one.after.copy
    assert copy is not None
    assert (copy.files, copy.location, copy.lake_format, copy.snapshot_id) == ((FILE,), "", "iceberg", 7)
    assert (copy.claimed.row_count, copy.claimed.digest) == (2, ROWS.digest)
    assert (one.who, one.action, two.action) == ("ours", Action.CONFIRM, Action.FAIL)
    assert two.after.reason == "E12 disk full"
    assert not done.ignored, "what was not mentioned is asked for again when its time comes"


def test_a_failure_of_the_whole_covers_what_is_not_mentioned() -> None:
    first, second, third = three(S.COPYING)
    done = folded(
        said(FAILED, chunks=(result(first, DONE, files=FILES),), error_message="out of disk"),
        first,
        second,
        third,
    )
    assert [step.action for step in done.steps] == [Action.CONFIRM, Action.FAIL, Action.FAIL]
    assert done.steps[2].after.reason == "out of disk"


def test_a_heartbeat_covers_all() -> None:
    done = folded(said(BUSY), *three())
    assert [step.after.state for step in done.steps] == [S.COPYING] * 3
    assert done.steps[0].who == "archiver"


def test_an_event_that_nobody_asked_for() -> None:
    assert code(said(DONE, event_id="forged", lakehouse_path="/lake"), *three()) == "UNKNOWN_ARCHIVAL"
    assert code(said(DONE, lakehouse_path="/lake")) == "UNKNOWN_ARCHIVAL"


def test_a_chunk_that_the_event_does_not_have() -> None:
    one = brought_to(S.REQUESTED)
    assert code(said(DONE, chunks=(result(live(slice_id(9)), DONE),)), one) == "UNKNOWN_CHUNK"
    assert code(said(DONE, chunks=(result(one, DONE, generation=5),)), one) == "UNKNOWN_CHUNK"


def test_an_archiver_that_knows_no_generations_is_understood() -> None:
    late = brought_to(S.REQUESTED, slice_id(generation=3), source=Source.LATE)
    for generation in (1, 3):
        told = result(late, DONE, files=FILES, generation=generation)
        assert folded(said(DONE, chunks=(told,)), late).steps


def test_the_first_answer_to_a_chunk_counts() -> None:
    one = brought_to(S.REQUESTED)
    done = folded(said(DONE, chunks=(result(one, DONE, files=FILES), result(one, FAILED))), one)
    assert [step.action for step in done.steps] == [Action.CONFIRM]
    assert [each.code for each in done.ignored] == ["ARCHIVAL_SETTLED"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (S.ABORTED, "ARCHIVAL_ABORTED"),
        (S.CONFIRMED, "ARCHIVAL_SETTLED"),
        (S.VERIFIED, "ARCHIVAL_SETTLED"),
        (S.DROPPED, "ARCHIVAL_SETTLED"),
        (S.RESTORED, "ARCHIVAL_SETTLED"),
        (S.HELD, "ARCHIVAL_HELD"),
        (S.QUARANTINED, "ARCHIVAL_QUARANTINED"),
    ],
)
@pytest.mark.parametrize("status", [DONE, FAILED, BUSY])
def test_what_waits_for_no_answer_ignores_it(
    state: ArchiveState, expected: str, status: ArchivalStatus
) -> None:
    one = replace(brought_to(state), event_id="e1")
    assert code(said(status, lakehouse_path="/lake"), one) == expected


def test_an_earlier_seals_request_is_stale() -> None:
    one = moved(transitions.reseal(brought_to(S.VERIFIED), NOW, found=OTHER_ROWS))
    assert code(said(DONE, lakehouse_path="/lake"), one) == "STALE_ARCHIVAL"


def test_a_failure_of_an_earlier_attempt_is_stale_but_its_copy_is_not() -> None:
    one = brought_to(S.REQUESTED)
    one = moved(transitions.request_again(one, NOW + DAY, limits=LIMITS))
    assert code(said(FAILED, attempt=1), one) == "STALE_ARCHIVAL"
    assert folded(said(FAILED, attempt=2), one).steps
    assert folded(said(FAILED), one).steps
    assert folded(said(DONE, attempt=1, lakehouse_path="/lake"), one).steps


def code_of_repeat(archive_slice: Slice) -> str | None:
    again = transitions.request_again(archive_slice, NOW + DAY, limits=LIMITS)
    return None if isinstance(again, Transition) else again.code


def test_a_failure_for_good_leaves_no_attempt() -> None:
    done = folded(said(FAILED, retryable=False), brought_to(S.REQUESTED))
    after = done.steps[0].after
    assert (after.attempt, after.deadline) == (1, None)
    assert code_of_repeat(after) == "SPENT"


def test_a_copy_must_be_somewhere_unless_there_is_nothing_to_copy() -> None:
    one = brought_to(S.REQUESTED)
    assert code(said(DONE), one) == "NO_LOCATION"
    assert one.sealed is not None
    empty = replace(one, sealed=one.sealed._replace(row_count=0))
    assert folded(said(DONE), empty).steps


def test_pending_is_no_answer() -> None:
    one = brought_to(S.REQUESTED)
    assert code(said(PENDING), one) == "NOT_AN_ANSWER"
    assert code(said(DONE, chunks=(result(one, PENDING),)), one) == "NOT_AN_ANSWER"


def test_a_rejection_names_the_gravest_reason_and_counts_the_others() -> None:
    first, second, third = three(S.CONFIRMED)
    stray = result(live(slice_id(9)), DONE)
    rejected = folded(said(FAILED, chunks=(stray,)), first, second, third).rejected
    assert rejected is not None
    assert rejected.code == "UNKNOWN_CHUNK"
    assert "and 3 more" in rejected.message


def test_slices_of_other_events_are_left_alone() -> None:
    other = brought_to(S.REQUESTED, slice_id(4), event_id="e2")
    done = folded(
        said(DONE, lakehouse_path="/lake"), brought_to(S.REQUESTED), other, measured_slice(slice_id(5))
    )
    assert [step.before.id for step in done.steps] == [slice_id()]
    assert not done.ignored


def test_the_same_message_again_changes_nothing() -> None:
    message = said(DONE, lakehouse_path="/lake")
    once = [step.after for step in folded(message, *three()).steps]
    assert code(message, *once) == "ARCHIVAL_SETTLED"


def test_reasons_are_short() -> None:
    done = folded(said(FAILED, error_message="word " * 1000), brought_to(S.REQUESTED))
    assert len(done.steps[0].after.reason or "") <= 500
