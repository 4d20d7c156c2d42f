"""Every transition, as one table, and the step that is stored. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from tidemill.domain.archive.slices import ArchiveState, Measured
from tidemill.retention.slices import UNVERIFIED, Hold, Party, Slice, held


class Action(StrEnum):
    """The actions on a slice; the function of the same name performs each."""

    CHOOSE = "choose"
    REFUSE = "refuse"
    SEAL = "seal"
    MEASURE = "measure"
    REQUEST = "request"
    HEARTBEAT = "heartbeat"
    CONFIRM = "confirm"
    FAIL = "fail"
    REQUEST_AGAIN = "request_again"
    GIVE_UP = "give_up"
    VERIFY = "verify"
    QUARANTINE = "quarantine"
    RESEAL = "reseal"
    DROP = "drop"
    HOLD = "hold"
    RESUME_HELD = "let_go"
    RETRY = "retry"
    RELEASE = "release"
    RESTORE = "restore"
    EVICT = "evict"
    QUARANTINE_CHANGED = "spoil"


_S = ArchiveState
HOLDABLE: Final = (
    _S.SEALED, _S.REQUESTED, _S.COPYING, _S.CONFIRMED, _S.VERIFIED, _S.QUARANTINED, _S.RESTORED,
)  # fmt: skip
"""What can be held; nothing is sealed or dropped under a hold in any state."""

RELEASABLE: Final = (*UNVERIFIED, _S.VERIFIED, _S.QUARANTINED)
"""What an operator may open again."""

# fmt: off
TRANSITIONS: Final = frozenset({
    (_S.LIVE,        Action.CHOOSE,        _S.ELIGIBLE,    Party.SERVICE),
    (_S.ABORTED,     Action.CHOOSE,        _S.ELIGIBLE,    Party.SERVICE),
    (_S.ELIGIBLE,    Action.REFUSE,        _S.ABORTED,     Party.SERVICE),
    (_S.SEALED,      Action.REFUSE,        _S.ABORTED,     Party.SERVICE),
    (_S.ELIGIBLE,    Action.SEAL,          _S.SEALED,      Party.SERVICE),
    (_S.SEALED,      Action.MEASURE,       _S.SEALED,      Party.SERVICE),
    (_S.SEALED,      Action.REQUEST,       _S.REQUESTED,   Party.SERVICE),
    (_S.REQUESTED,   Action.HEARTBEAT,     _S.COPYING,     Party.ARCHIVER),
    (_S.COPYING,     Action.HEARTBEAT,     _S.COPYING,     Party.ARCHIVER),
    (_S.REQUESTED,   Action.CONFIRM,       _S.CONFIRMED,   Party.ARCHIVER),
    (_S.COPYING,     Action.CONFIRM,       _S.CONFIRMED,   Party.ARCHIVER),
    (_S.REQUESTED,   Action.FAIL,          _S.REQUESTED,   Party.ARCHIVER),
    (_S.COPYING,     Action.FAIL,          _S.REQUESTED,   Party.ARCHIVER),
    (_S.REQUESTED,   Action.REQUEST_AGAIN, _S.REQUESTED,   Party.SERVICE),
    (_S.COPYING,     Action.REQUEST_AGAIN, _S.REQUESTED,   Party.SERVICE),
    (_S.CONFIRMED,   Action.VERIFY,        _S.VERIFIED,    Party.SERVICE),
    (_S.CONFIRMED,   Action.QUARANTINE,    _S.QUARANTINED, Party.SERVICE),
    (_S.VERIFIED,    Action.VERIFY,        _S.VERIFIED,    Party.SERVICE),
    (_S.VERIFIED,    Action.QUARANTINE,    _S.QUARANTINED, Party.SERVICE),
    (_S.RESTORED,    Action.VERIFY,        _S.RESTORED,    Party.SERVICE),
    (_S.RESTORED,    Action.QUARANTINE,    _S.QUARANTINED, Party.SERVICE),
    (_S.REQUESTED,   Action.RESEAL,        _S.SEALED,      Party.SERVICE),
    (_S.COPYING,     Action.RESEAL,        _S.SEALED,      Party.SERVICE),
    (_S.CONFIRMED,   Action.RESEAL,        _S.SEALED,      Party.SERVICE),
    (_S.VERIFIED,    Action.RESEAL,        _S.SEALED,      Party.SERVICE),
    (_S.VERIFIED,    Action.DROP,          _S.DROPPED,     Party.SERVICE),
    (_S.QUARANTINED, Action.RETRY,         _S.SEALED,      Party.OPERATOR),
    (_S.DROPPED,     Action.RESTORE,       _S.RESTORED,    Party.OPERATOR),
    (_S.RESTORED,    Action.EVICT,         _S.DROPPED,     Party.SERVICE),
    (_S.RESTORED,    Action.EVICT,         _S.DROPPED,     Party.OPERATOR),
    (_S.RESTORED,    Action.QUARANTINE_CHANGED,         _S.QUARANTINED, Party.SERVICE),
    (_S.HELD,        Action.GIVE_UP,       _S.ABORTED,     Party.SERVICE),
    *((state,        Action.GIVE_UP,       _S.ABORTED,     Party.SERVICE) for state in UNVERIFIED),
    *((state,        Action.RELEASE,       _S.ABORTED,     Party.OPERATOR) for state in RELEASABLE),
    *((state,        Action.HOLD,          _S.HELD,        Party.OPERATOR) for state in HOLDABLE),
    *((_S.HELD,      Action.RESUME_HELD,        state,          Party.OPERATOR) for state in HOLDABLE),
})
# fmt: on
"""(from, action, to, actor): there is no other transition, and no time-out alone leads to DROPPED."""


@dataclass(frozen=True, slots=True)
class TransitionRefused:
    """Why nothing was done. `message` is the fact and, where an operator can act, what to do next."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Transition:
    """A transition to be stored with its row of the trail. `who`: the operator, the archiver's id, or `service`."""

    action: Action
    before: Slice
    after: Slice
    by: Party
    who: str
    why: str | None = None

    @property
    def opens(self) -> bool:
        """Return whether rows of the range go to the hypertable again, and diverted ones must move back."""
        return self.before.is_closed and not self.after.is_closed

    @property
    def freezes(self) -> bool:
        """Return whether the chunk's protection starts or ends here; a drop leaves no chunk."""
        if self.after.state is ArchiveState.DROPPED:
            return False
        sealed = self.after.keeps_chunk and self.after.seal != self.before.seal
        return sealed or self.before.keeps_chunk != self.after.keeps_chunk


Moved = Transition | TransitionRefused


def not_allowed(archive_slice: Slice, action: Action) -> TransitionRefused:
    """Refuse a transition that the table does not have."""
    return TransitionRefused(
        "NOT_ALLOWED", f"{archive_slice.id} is {archive_slice.state}: it cannot {action.replace('_', ' ')}"
    )


def step(
    archive_slice: Slice,
    action: Action,
    to: ArchiveState,
    at: datetime,
    by: Party = Party.SERVICE,
    who: str = "service",
    *,
    why: str | None = None,
    **changes: Any,
) -> Moved:
    """Return the step if the table has it. Staying in a state keeps `since`."""
    if (archive_slice.state, action, to, by) not in TRANSITIONS:
        return not_allowed(archive_slice, action)
    if why is not None:
        changes = {"reason": why, **changes}
    since = archive_slice.since if to is archive_slice.state else at
    return Transition(
        action, archive_slice, replace(archive_slice, state=to, since=since, **changes), by, who, why
    )


def new_seal(archive_slice: Slice) -> dict[str, Any]:
    """Return the fields of the next seal: of the present one only the request and its copy's location are kept."""
    superseded = archive_slice.superseded + ((archive_slice.event_id,) if archive_slice.event_id else ())
    left_at = archive_slice.left_at + (archive_slice.copy.places if archive_slice.copy else ())
    return {
        "seal": archive_slice.seal + 1, "sealed": None, "event_id": None, "attempt": 0, "deadline": None,
        "copy": None, "verified": None, "superseded": superseded, "left_at": tuple(dict.fromkeys(left_at)),
    }  # fmt: skip


def held_back(archive_slice: Slice, holds: Iterable[Hold], verb: str) -> TransitionRefused | None:
    """Refuse what a hold forbids; `verb` says what was tried."""
    hold = held(archive_slice.id, holds)
    if hold is None:
        return None
    return TransitionRefused(
        "HELD",
        f"{archive_slice.id} must not be {verb}: held by {hold.who} since {hold.since.date()}, {hold.reason}",
    )


def difference(expected: Measured, found: Measured) -> str:
    """Return the differences of two measurements, for people."""
    pairs = zip(Measured._fields, expected, found, strict=True)
    return ", ".join(f"{name} {there} instead of {here}" for name, here, there in pairs if here != there)
