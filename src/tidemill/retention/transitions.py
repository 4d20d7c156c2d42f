"""The life of a slice: every transition, and one function per action. Pure: times are arguments.

Each function takes the slice as the registry has it now and returns the `Transition` to be stored, or
`TransitionRefused`. It is stored by comparing (state, seal, attempt) with `before`, so that of two that read the same
slice one is stored.

Three rules carry the promise that no row leaves before its verified copy exists:
- only `verify` makes a `Verification`, from what the service itself read, of exactly the copy that is registered;
- only `drop` and `evict` lead to DROPPED, and both compare what is in the database at that moment, under lock, with it;
  an old proof is not enough for either: the copy is read again first, since a lake may change while a slice is held;
- results of work that began under an earlier seal are void.
Time is used only to request again, to give up, to distrust a proof or to start an eviction.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from tidemill.domain.archive.slices import ArchiveState, LakeColumn, Measured
from tidemill.retention.slices import UNVERIFIED, AnswerLimits, CopyLocation, Hold, Party, Slice, Verification
from tidemill.retention.transition_table import (
    Action,
    Moved,
    TransitionRefused,
    difference,
    held_back,
    new_seal,
    not_allowed,
    step,
)

READABLE: Final = frozenset({ArchiveState.CONFIRMED, ArchiveState.VERIFIED, ArchiveState.RESTORED})
"""States whose copies are read: before the first drop, and again when the proof is old."""

_S = ArchiveState


def choose(archive_slice: Slice, at: datetime) -> Moved:
    """Mark a slice as next to be sealed."""
    return step(archive_slice, Action.CHOOSE, _S.ELIGIBLE, at)


def refuse(archive_slice: Slice, at: datetime, *, why: str) -> Moved:
    """Give a slice up because the lake cannot hold a value of it; `why` names the columns."""
    return step(archive_slice, Action.REFUSE, _S.ABORTED, at, why=why, deadline=None)


def seal(
    archive_slice: Slice, at: datetime, *, columns: tuple[LakeColumn, ...], holds: Iterable[Hold]
) -> Moved:
    """Close the range: from now on its rows are diverted, and Tidemill does not change this slice's rows."""
    if refusal := held_back(archive_slice, holds, "sealed"):
        return refusal
    return step(
        archive_slice,
        Action.SEAL,
        _S.SEALED,
        at,
        **new_seal(archive_slice),
        sealed_at=at,
        columns=columns,
        reason=None,
    )


def measure(
    archive_slice: Slice, at: datetime, *, seal: int, found: Measured, columns: tuple[LakeColumn, ...] = ()
) -> Moved:
    """Store what was measured under seal number `seal`, once. `columns`: the table's, if it was altered."""
    if seal != archive_slice.seal:
        return TransitionRefused(
            "OTHER_SEAL",
            f"{archive_slice.id} was measured under seal {seal}, it has seal {archive_slice.seal}: measure again",
        )
    if archive_slice.sealed is not None:
        return TransitionRefused("MEASURED", f"{archive_slice.id} is measured already")
    return step(
        archive_slice, Action.MEASURE, _S.SEALED, at, sealed=found, columns=columns or archive_slice.columns
    )


def request(archive_slice: Slice, at: datetime, *, event_id: str, limits: AnswerLimits) -> Moved:
    """Request a copy, with an `event_id` that was never used before."""
    if archive_slice.sealed is None:
        return TransitionRefused("NOT_MEASURED", f"{archive_slice.id} is not measured yet")
    if event_id in archive_slice.superseded:
        return TransitionRefused(
            "EVENT_USED", f"{archive_slice.id} was requested as {event_id} under an earlier seal"
        )
    deadline = at + limits.answer_within(1)
    return step(
        archive_slice, Action.REQUEST, _S.REQUESTED, at, event_id=event_id, attempt=1, deadline=deadline
    )


def heartbeat(archive_slice: Slice, at: datetime, *, limits: AnswerLimits, who: str) -> Moved:
    """Record that an archiver works on the copy."""
    deadline = at + limits.silence(archive_slice.size_bytes)
    return step(archive_slice, Action.HEARTBEAT, _S.COPYING, at, Party.ARCHIVER, who, deadline=deadline)


def confirm(archive_slice: Slice, at: datetime, *, copy: CopyLocation, who: str) -> Moved:
    """Record the stated location of a copy; it does not count until it is read back."""
    if copy.event_id != archive_slice.event_id:
        return TransitionRefused(
            "OTHER_EVENT",
            f"{archive_slice.id} is requested as {archive_slice.event_id}, not as {copy.event_id}",
        )
    return step(
        archive_slice,
        Action.CONFIRM,
        _S.CONFIRMED,
        at,
        Party.ARCHIVER,
        who,
        copy=copy,
        deadline=None,
        reason=None,
    )


def fail(
    archive_slice: Slice, at: datetime, *, why: str, who: str, limits: AnswerLimits, retryable: bool = True
) -> Moved:
    """Record that the archiver failed; the request waits, then is sent again. Not `retryable`: it never is."""
    last = archive_slice.attempt >= limits.max_attempts
    waits_until = at if last else at + limits.backoff(archive_slice.attempt)
    changes: dict[str, Any] = {"deadline": waits_until if retryable else None, "reason": why}
    return step(archive_slice, Action.FAIL, _S.REQUESTED, at, Party.ARCHIVER, who, why=why, **changes)


def request_again(archive_slice: Slice, at: datetime, *, limits: AnswerLimits) -> Moved:
    """Send the same request again, since its deadline passed."""
    if archive_slice.deadline is not None and at < archive_slice.deadline:
        return TransitionRefused(
            "TOO_EARLY", f"{archive_slice.id} has time until {archive_slice.deadline.isoformat()}"
        )
    if is_refused_for_good(archive_slice) or archive_slice.attempt >= limits.max_attempts:
        return TransitionRefused(
            "SPENT", f"{archive_slice.id} was requested {archive_slice.attempt} times: give it up"
        )
    changes: dict[str, Any] = {
        "attempt": archive_slice.attempt + 1,
        "deadline": at + limits.answer_within(archive_slice.attempt + 1),
    }
    return step(archive_slice, Action.REQUEST_AGAIN, _S.REQUESTED, at, **changes)


def give_up(archive_slice: Slice, at: datetime, *, limits: AnswerLimits) -> Moved:
    """Open the range again: its attempts are spent, or it was sealed for too long without a verified copy."""
    why = overdue(archive_slice, at, limits)
    if why is None:
        return TransitionRefused("TOO_EARLY", f"{archive_slice.id}: nothing is overdue")
    return step(archive_slice, Action.GIVE_UP, _S.ABORTED, at, why=why, deadline=None, held_from=None)


def overdue(archive_slice: Slice, at: datetime, limits: AnswerLimits) -> str | None:
    """Return why `give_up` is due, None if it is not. A verified copy waits without limit."""
    if archive_slice.stage not in UNVERIFIED:
        return None
    if archive_slice.sealed_at is not None and at - archive_slice.sealed_at >= limits.max_seal:
        return _because(archive_slice, f"no verified copy within {limits.max_seal}")
    if is_refused_for_good(archive_slice):
        return _because(
            archive_slice, f"attempt {archive_slice.attempt} failed with an error that is not retried"
        )
    spent = (
        archive_slice.attempt >= limits.max_attempts
        and archive_slice.deadline is not None
        and archive_slice.deadline <= at
    )
    if spent and archive_slice.state in {_S.REQUESTED, _S.COPYING}:
        return _because(archive_slice, f"no copy after {archive_slice.attempt} attempts")
    return None


def is_refused_for_good(archive_slice: Slice) -> bool:
    """Tell whether an archiver failed with an error that another attempt would meet again."""
    return archive_slice.state is _S.REQUESTED and archive_slice.deadline is None


def verify(archive_slice: Slice, at: datetime, *, read: CopyLocation, found: Measured) -> Moved:
    """Compare what the service itself read from `read`: equal is a proof for now, anything else is QUARANTINED.

    CONFIRMED becomes VERIFIED; VERIFIED and RESTORED stay, with a new proof.
    """
    if refusal := _other_copy(archive_slice, read):
        return refusal
    assert archive_slice.sealed is not None  # nothing is requested before it is measured
    if found != archive_slice.sealed:
        return quarantine(archive_slice, at, read=read, why=difference(archive_slice.sealed, found))
    state = _S.RESTORED if archive_slice.state is _S.RESTORED else _S.VERIFIED
    proof = Verification(copy=read, found=found, at=at)
    return step(archive_slice, Action.VERIFY, state, at, verified=proof, reason=None)


def quarantine(archive_slice: Slice, at: datetime, *, read: CopyLocation, why: str) -> Moved:
    """Quarantine a copy that cannot be read: outside the allowed roots, absent, or with other content."""
    refusal = _other_copy(archive_slice, read)
    return refusal or step(archive_slice, Action.QUARANTINE, _S.QUARANTINED, at, why=why, restore_until=None)


def reseal(archive_slice: Slice, at: datetime, *, found: Measured) -> Moved:
    """Start again under a new seal: the rows were changed under the first one. Never a drop."""
    if archive_slice.sealed is None:
        return not_allowed(archive_slice, Action.RESEAL)
    if found == archive_slice.sealed:
        return TransitionRefused("UNCHANGED", f"{archive_slice.id} is unchanged since it was sealed")
    why = f"the rows changed under the seal: {difference(archive_slice.sealed, found)}"
    return step(archive_slice, Action.RESEAL, _S.SEALED, at, why=why, **new_seal(archive_slice))


def drop(archive_slice: Slice, at: datetime, *, found: Measured, holds: Iterable[Hold]) -> Moved:
    """Drop the rows. `found`: measured in this transaction, under a lock against writers."""
    if refusal := held_back(archive_slice, holds, "dropped"):
        return refusal
    proof = archive_slice.verified
    if archive_slice.state is not _S.VERIFIED or proof is None:
        return not_allowed(archive_slice, Action.DROP)
    if (
        proof.copy != archive_slice.copy
        or proof.copy.event_id != archive_slice.event_id
        or proof.found != archive_slice.sealed
    ):
        return TransitionRefused(
            "OTHER_COPY", f"{archive_slice.id}: the verified copy is not this copy of this seal"
        )
    if proof.is_old(at):
        return TransitionRefused(
            "OLD_PROOF", f"{archive_slice.id}: the copy was read at {proof.at.isoformat()}; read it again"
        )
    if found != proof.found:
        return TransitionRefused(
            "CHANGED",
            f"{archive_slice.id} changed under its seal: {difference(proof.found, found)}; seal it again",
        )
    return step(archive_slice, Action.DROP, _S.DROPPED, at, reason=None)


def _other_copy(archive_slice: Slice, read: CopyLocation) -> TransitionRefused | None:
    if (
        archive_slice.state in READABLE
        and archive_slice.copy == read
        and read.event_id == archive_slice.event_id
    ):
        return None
    return TransitionRefused(
        "OTHER_COPY",
        f"{archive_slice.id} is {archive_slice.state}; the copy that was read is not the one to verify",
    )


def _because(archive_slice: Slice, why: str) -> str:
    return f"{why}; the last reason given: {archive_slice.reason}" if archive_slice.reason else why
