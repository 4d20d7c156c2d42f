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


def choose(which: Slice, at: datetime) -> Moved:
    """Mark a slice as next to be sealed."""
    return step(which, Action.CHOOSE, _S.ELIGIBLE, at)


def refuse(which: Slice, at: datetime, *, why: str) -> Moved:
    """Give a slice up because the lake cannot hold a value of it; `why` names the columns."""
    return step(which, Action.REFUSE, _S.ABORTED, at, why=why, deadline=None)


def seal(which: Slice, at: datetime, *, columns: tuple[LakeColumn, ...], holds: Iterable[Hold]) -> Moved:
    """Close the range: from now on its rows are diverted, and Tidemill does not change this slice's rows."""
    if refusal := held_back(which, holds, "sealed"):
        return refusal
    return step(
        which, Action.SEAL, _S.SEALED, at, **new_seal(which), sealed_at=at, columns=columns, reason=None
    )


def measure(
    which: Slice, at: datetime, *, seal: int, found: Measured, columns: tuple[LakeColumn, ...] = ()
) -> Moved:
    """Store what was measured under seal number `seal`, once. `columns`: the table's, if it was altered."""
    if seal != which.seal:
        return TransitionRefused(
            "OTHER_SEAL",
            f"{which.id} was measured under seal {seal}, it has seal {which.seal}: measure again",
        )
    if which.sealed is not None:
        return TransitionRefused("MEASURED", f"{which.id} is measured already")
    return step(which, Action.MEASURE, _S.SEALED, at, sealed=found, columns=columns or which.columns)


def request(which: Slice, at: datetime, *, event_id: str, limits: AnswerLimits) -> Moved:
    """Request a copy, with an `event_id` that was never used before."""
    if which.sealed is None:
        return TransitionRefused("NOT_MEASURED", f"{which.id} is not measured yet")
    if event_id in which.superseded:
        return TransitionRefused(
            "EVENT_USED", f"{which.id} was requested as {event_id} under an earlier seal"
        )
    deadline = at + limits.answer_within(1)
    return step(which, Action.REQUEST, _S.REQUESTED, at, event_id=event_id, attempt=1, deadline=deadline)


def heartbeat(which: Slice, at: datetime, *, limits: AnswerLimits, who: str) -> Moved:
    """Record that an archiver works on the copy."""
    deadline = at + limits.silence(which.size_bytes)
    return step(which, Action.HEARTBEAT, _S.COPYING, at, Party.ARCHIVER, who, deadline=deadline)


def confirm(which: Slice, at: datetime, *, copy: CopyLocation, who: str) -> Moved:
    """Record the stated location of a copy; it does not count until it is read back."""
    if copy.event_id != which.event_id:
        return TransitionRefused(
            "OTHER_EVENT", f"{which.id} is requested as {which.event_id}, not as {copy.event_id}"
        )
    return step(
        which, Action.CONFIRM, _S.CONFIRMED, at, Party.ARCHIVER, who, copy=copy, deadline=None, reason=None
    )


def fail(
    which: Slice, at: datetime, *, why: str, who: str, limits: AnswerLimits, retryable: bool = True
) -> Moved:
    """Record that the archiver failed; the request waits, then is sent again. Not `retryable`: no attempt is left."""
    attempt = which.attempt if retryable else max(which.attempt, limits.max_attempts)
    deadline = at if attempt >= limits.max_attempts else at + limits.backoff(attempt)
    told: dict[str, Any] = {"attempt": attempt, "deadline": deadline, "reason": why}
    return step(which, Action.FAIL, _S.REQUESTED, at, Party.ARCHIVER, who, why=why, **told)


def request_again(which: Slice, at: datetime, *, limits: AnswerLimits) -> Moved:
    """Send the same request again, since its deadline passed."""
    if which.deadline is not None and at < which.deadline:
        return TransitionRefused("TOO_EARLY", f"{which.id} has time until {which.deadline.isoformat()}")
    if which.attempt >= limits.max_attempts:
        return TransitionRefused("SPENT", f"{which.id} was requested {which.attempt} times: give it up")
    told: dict[str, Any] = {
        "attempt": which.attempt + 1,
        "deadline": at + limits.answer_within(which.attempt + 1),
    }
    return step(which, Action.REQUEST_AGAIN, _S.REQUESTED, at, **told)


def give_up(which: Slice, at: datetime, *, limits: AnswerLimits) -> Moved:
    """Open the range again: its attempts are spent, or it was sealed for too long without a verified copy."""
    why = overdue(which, at, limits)
    if why is None:
        return TransitionRefused("TOO_EARLY", f"{which.id}: nothing is overdue")
    return step(which, Action.GIVE_UP, _S.ABORTED, at, why=why, deadline=None, held_from=None)


def overdue(which: Slice, at: datetime, limits: AnswerLimits) -> str | None:
    """Return why `give_up` is due, None if it is not. A verified copy waits without limit."""
    if which.stage not in UNVERIFIED:
        return None
    if which.sealed_at is not None and at - which.sealed_at >= limits.longest_seal:
        return _because(which, f"no verified copy within {limits.longest_seal}")
    spent = which.attempt >= limits.max_attempts and which.deadline is not None and which.deadline <= at
    if spent and which.state in {_S.REQUESTED, _S.COPYING}:
        return _because(which, f"no copy after {which.attempt} attempts")
    return None


def verify(which: Slice, at: datetime, *, read: CopyLocation, found: Measured) -> Moved:
    """Compare what the service itself read from `read`: equal is a proof for now, anything else is QUARANTINED.

    CONFIRMED becomes VERIFIED; VERIFIED and RESTORED stay, with a new proof.
    """
    if refusal := _other_copy(which, read):
        return refusal
    assert which.sealed is not None  # nothing is requested before it is measured
    if found != which.sealed:
        return quarantine(which, at, read=read, why=difference(which.sealed, found))
    state = _S.RESTORED if which.state is _S.RESTORED else _S.VERIFIED
    proof = Verification(copy=read, found=found, at=at)
    return step(which, Action.VERIFY, state, at, verified=proof, reason=None)


def quarantine(which: Slice, at: datetime, *, read: CopyLocation, why: str) -> Moved:
    """Quarantine a copy that cannot be read: outside the allowed roots, absent, or with other content."""
    refusal = _other_copy(which, read)
    return refusal or step(which, Action.QUARANTINE, _S.QUARANTINED, at, why=why, restore_until=None)


def reseal(which: Slice, at: datetime, *, found: Measured) -> Moved:
    """Start again under a new seal: the rows were changed under the first one. Never a drop."""
    if which.sealed is None:
        return not_allowed(which, Action.RESEAL)
    if found == which.sealed:
        return TransitionRefused("UNCHANGED", f"{which.id} is unchanged since it was sealed")
    why = f"the rows changed under the seal: {difference(which.sealed, found)}"
    return step(which, Action.RESEAL, _S.SEALED, at, why=why, **new_seal(which))


def drop(which: Slice, at: datetime, *, found: Measured, holds: Iterable[Hold]) -> Moved:
    """Drop the rows. `found`: measured in this transaction, under a lock against writers."""
    if refusal := held_back(which, holds, "dropped"):
        return refusal
    proof = which.verified
    if which.state is not _S.VERIFIED or proof is None:
        return not_allowed(which, Action.DROP)
    if proof.copy != which.copy or proof.copy.event_id != which.event_id or proof.found != which.sealed:
        return TransitionRefused("OTHER_COPY", f"{which.id}: the verified copy is not this copy of this seal")
    if proof.is_old(at):
        return TransitionRefused(
            "OLD_PROOF", f"{which.id}: the copy was read at {proof.at.isoformat()}; read it again"
        )
    if found != proof.found:
        return TransitionRefused(
            "CHANGED", f"{which.id} changed under its seal: {difference(proof.found, found)}; seal it again"
        )
    return step(which, Action.DROP, _S.DROPPED, at, reason=None)


def _other_copy(which: Slice, read: CopyLocation) -> TransitionRefused | None:
    if which.state in READABLE and which.copy == read and read.event_id == which.event_id:
        return None
    return TransitionRefused(
        "OTHER_COPY", f"{which.id} is {which.state}; the copy that was read is not the one to verify"
    )


def _because(which: Slice, why: str) -> str:
    return f"{why}; the last reason given: {which.reason}" if which.reason else why
