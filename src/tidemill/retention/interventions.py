"""What operators do to a slice: hold and let go, retry, release; and the way back: restore, evict, spoil. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tidemill.domain.archive import ArchiveState, Measured
from tidemill.retention.slices import Hold, Party, Slice, together
from tidemill.retention.transitions import (
    Action,
    Moved,
    Refused,
    difference,
    held_back,
    new_seal,
    not_allowed,
    step,
)

_S = ArchiveState


def hold(which: Slice, at: datetime, *, who: str, why: str) -> Moved:
    """Stop a slice where it is. Answers to its request are ignored until it is let go."""
    return step(which, Action.HOLD, _S.HELD, at, Party.OPERATOR, who, why=why, held_from=which.state)


def let_go(which: Slice, at: datetime, *, who: str, why: str, holds: Iterable[Hold]) -> Moved:
    """Return a held slice to where it was, unless one of the remaining `holds` covers it."""
    if refusal := held_back(which, holds, "let go"):
        return refusal
    if which.held_from is None:
        return not_allowed(which, Action.LET_GO)
    return step(which, Action.LET_GO, which.held_from, at, Party.OPERATOR, who, why=why, held_from=None)


def retry(which: Slice, at: datetime, *, who: str, why: str) -> Moved:
    """Take a quarantined slice through a new seal, measurement and request."""
    told = {**new_seal(which), "sealed_at": at, "restore_until": None}
    return step(which, Action.RETRY, _S.SEALED, at, Party.OPERATOR, who, why=why, **told)


def release(which: Slice, at: datetime, *, who: str, why: str) -> Moved:
    """Open the range again by an operator's word; its rows stay in the database."""
    told = {"deadline": None, "restore_until": None}
    return step(which, Action.RELEASE, _S.ABORTED, at, Party.OPERATOR, who, why=why, **told)


def restore(which: Slice, at: datetime, *, found: Measured, until: datetime, who: str) -> Moved:
    """Note that the rows are back until `until`. `found`: what was brought back, measured before the commit."""
    if which.sealed is not None and found != which.sealed:
        return Refused(
            "CHANGED", f"{which.id}: the copy is not what left: {difference(which.sealed, found)}; scrub it"
        )
    return step(which, Action.RESTORE, _S.RESTORED, at, Party.OPERATOR, who, restore_until=until)


def evict(
    which: Slice,
    at: datetime,
    *,
    found: Measured,
    holds: Iterable[Hold],
    beside: Iterable[Slice] = (),
    operator: str | None = None,
) -> Moved:
    """Let restored rows go again without a new copy: they are what was verified, measured under lock just now.

    `found` is of all rows of the range; `beside`: the range's other restored slices. Before `restore_until` only an
    `operator` may.
    """
    if refusal := held_back(which, holds, "evicted"):
        return refusal
    if operator is None and which.restore_until is not None and at < which.restore_until:
        return Refused("TOO_EARLY", f"{which.id} was restored until {which.restore_until.isoformat()}")
    if refusal := _changed(which, found, beside):
        return refusal
    by, who = (Party.OPERATOR, operator) if operator else (Party.SERVICE, "service")
    return step(which, Action.EVICT, _S.DROPPED, at, by, who, restore_until=None)


def spoil(which: Slice, at: datetime, *, found: Measured, beside: Iterable[Slice] = ()) -> Moved:
    """Set restored rows aside that somebody changed: an operator decides whether they are archived or stay."""
    refusal = _changed(which, found, beside)
    if refusal is None:
        return Refused("UNCHANGED", f"{which.id} is as it was restored")
    return step(which, Action.SPOIL, _S.QUARANTINED, at, why=refusal.message)


def _changed(which: Slice, found: Measured, beside: Iterable[Slice]) -> Refused | None:
    expected = [each.sealed for each in (which, *beside) if each.sealed is not None]
    whole = expected[0] if len(expected) == 1 else together(expected)
    if which.verified is None or which.sealed != which.verified.found:
        return Refused("OTHER_COPY", f"{which.id} has no verified copy of its seal")
    if found == whole:
        return None
    return Refused("CHANGED", f"{which.id} changed since it was restored: {difference(whole, found)}")
