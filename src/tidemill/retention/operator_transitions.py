"""An operator's transitions of a slice: hold, resume, retry, release; restore, evict, quarantine. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tidemill.domain.archive.slices import ArchiveState, Measured, Source
from tidemill.retention.slices import Hold, Party, Slice, late_name, together
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

_S = ArchiveState


def hold(archive_slice: Slice, at: datetime, *, who: str, why: str) -> Moved:
    """Stop a slice where it is. Answers to its request are ignored until it is resumed."""
    return step(
        archive_slice, Action.HOLD, _S.HELD, at, Party.OPERATOR, who, why=why, held_from=archive_slice.state
    )


def resume_held(archive_slice: Slice, at: datetime, *, who: str, why: str, holds: Iterable[Hold]) -> Moved:
    """Return a held slice to where it was, unless one of the remaining `holds` covers it."""
    if refusal := held_back(archive_slice, holds, "let go"):
        return refusal
    if archive_slice.held_from is None:
        return not_allowed(archive_slice, Action.RESUME_HELD)
    return step(
        archive_slice,
        Action.RESUME_HELD,
        archive_slice.held_from,
        at,
        Party.OPERATOR,
        who,
        why=why,
        held_from=None,
    )


def retry(archive_slice: Slice, at: datetime, *, who: str, why: str) -> Moved:
    """Take a quarantined slice through a new seal, measurement and request."""
    changes = {**new_seal(archive_slice), "sealed_at": at}
    return step(archive_slice, Action.RETRY, _S.SEALED, at, Party.OPERATOR, who, why=why, **changes)


def release(archive_slice: Slice, at: datetime, *, who: str, why: str) -> Moved:
    """Open the range again by an operator's decision; its rows stay in the database."""
    return step(archive_slice, Action.RELEASE, _S.ABORTED, at, Party.OPERATOR, who, why=why, deadline=None)


def restore(
    archive_slice: Slice,
    at: datetime,
    *,
    found: Measured,
    until: datetime,
    chunk: str,
    who: str,
    beside: Sequence[Slice] = (),
) -> Moved:
    """Record that the rows are restored, in `chunk`, until `until`.

    `found`: the chunk's measurement before the commit; `beside`: the range's other slices restored with it.
    From then on the chunk belongs to the first one: if it is archived again, the others have no rows of their own.
    """
    proofs = [each.verified for each in (archive_slice, *beside)]
    copies = [proof.found for proof in proofs if proof is not None]
    if len(copies) != len(proofs):
        return TransitionRefused(
            "CHANGED", f"{archive_slice.id}: not every slice of its range has a verified copy"
        )
    whole = together(copies) if beside else copies[0]
    if found != whole:
        return TransitionRefused(
            "CHANGED",
            f"{archive_slice.id}: the restored rows are not those that left: {difference(whole, found)}; scrub it",
        )
    is_first = all(archive_slice.id < other.id for other in beside)
    changes: dict[str, Any] = {
        "restore_until": until,
        "source": Source.CHUNK if is_first else Source.LATE,
        "chunk": chunk if is_first else late_name(archive_slice.id),
    }
    return step(archive_slice, Action.RESTORE, _S.RESTORED, at, Party.OPERATOR, who, **changes)


def evict(
    archive_slice: Slice,
    at: datetime,
    *,
    found: Measured,
    holds: Iterable[Hold],
    beside: Sequence[Slice] = (),
    operator: str | None = None,
) -> Moved:
    """Drop restored rows again without a new copy: measured under lock, they are what was verified.

    `found` is of all rows of the range; `beside`: the range's other restored slices, which are dropped, too. Before the
    last `restore_until` of them only an `operator` may.
    """
    if refusal := held_back(archive_slice, holds, "evicted"):
        return refusal
    until = max((each.restore_until for each in (archive_slice, *beside) if each.restore_until), default=at)
    if operator is None and at < until:
        return TransitionRefused("TOO_EARLY", f"{archive_slice.id} was restored until {until.isoformat()}")
    changed = _change(archive_slice, found, beside)
    if changed is not None:
        return TransitionRefused("CHANGED", f"{archive_slice.id} {changed}")
    if archive_slice.verified is None or archive_slice.verified.is_old(at):
        return TransitionRefused(
            "OLD_PROOF", f"{archive_slice.id}: its copy was read too long ago; read it again"
        )
    by, who = (Party.OPERATOR, operator) if operator else (Party.SERVICE, "service")
    return step(archive_slice, Action.EVICT, _S.DROPPED, at, by, who, restore_until=None, reason=None)


def quarantine_changed(
    archive_slice: Slice, at: datetime, *, found: Measured, beside: Sequence[Slice] = ()
) -> Moved:
    """Quarantine changed restored rows: an operator decides whether they are archived or stay."""
    changed = _change(archive_slice, found, beside)
    if changed is None:
        return TransitionRefused("UNCHANGED", f"{archive_slice.id} is unchanged since it was restored")
    return step(archive_slice, Action.QUARANTINE_CHANGED, _S.QUARANTINED, at, why=changed, restore_until=None)


def _change(archive_slice: Slice, found: Measured, beside: Sequence[Slice]) -> str | None:
    """Return in what the range's rows differ from the verified copies of all its restored slices."""
    proofs = [each.verified for each in (archive_slice, *beside) if each.state is _S.RESTORED]
    copies = [proof.found for proof in proofs if proof is not None]
    if len(copies) != 1 + len(beside):
        return "has no verified copy of each slice of its range"
    whole = copies[0] if len(copies) == 1 else together(copies)
    return None if found == whole else f"changed since it was restored: {difference(whole, found)}"
