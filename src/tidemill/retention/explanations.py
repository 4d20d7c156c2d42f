"""Why a slice is still in the database, or cannot be sealed: one sentence for each state, with advice. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from tidemill.domain.archive.slices import ArchiveState
from tidemill.retention.slices import AWAITED, Slice, overlaps

_S = ArchiveState


def why_not_dropped(archive_slice: Slice, now: datetime) -> str:
    """Return one sentence: what it waits for, and what to do."""
    late = archive_slice.deadline is not None and archive_slice.deadline <= now
    explanations = {
        _S.LIVE: "it is not old enough yet: see `tidemill retention plan`",
        _S.ELIGIBLE: "it is next to be sealed: run `tidemill serve retention`",
        _S.SEALED: "it is being measured"
        if archive_slice.sealed is None
        else "its request is about to be sent",
        _S.REQUESTED: f"request {archive_slice.event_id} (attempt {archive_slice.attempt}) "
        + _answered_by(archive_slice, late=late),
        _S.COPYING: f"an archiver copies it, its next message is due by {moment(archive_slice.deadline)}"
        + (", overdue: look at the archiver" if late else ""),
        _S.CONFIRMED: "its copy is about to be read back: if this lasts, check that the service can read the lake",
        _S.VERIFIED: "its copy is verified, the drop waits for a moment without readers: if this lasts, look for "
        "long transactions",
        _S.DROPPED: "it is dropped",
        _S.ABORTED: f"it was given up, and is tried again: {_reason(archive_slice)}",
        _S.QUARANTINED: f"an operator must look at it: {_reason(archive_slice)}; then "
        "`tidemill retention retry` or `release`",
        _S.HELD: f"it is held, {_reason(archive_slice)}: to end it: `tidemill retention release --hold`",
        _S.RESTORED: f"it was restored, and leaves again after {moment(archive_slice.restore_until)}",
    }
    return explanations[archive_slice.state]


def _answered_by(archive_slice: Slice, *, late: bool) -> str:
    if archive_slice.deadline is None:
        return f"failed with an error that is not retried, and is given up next: {_reason(archive_slice)}"
    if late:
        return "waits for an archiver, overdue: is `tidemill serve archiver` running?"
    return f"waits for an archiver, until {moment(archive_slice.deadline)}"


def _reason(archive_slice: Slice) -> str:
    return archive_slice.reason or "no reason given"


def lasted(time: timedelta) -> str:
    """Return a time span for people, in the largest unit that fits twice, rounded down."""
    seconds = max(int(time.total_seconds()), 0)
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} seconds"


def moment(at: datetime | None) -> str:
    """Return a time for people, to the minute, in UTC."""
    return f"{at:%Y-%m-%d %H:%M}" if at else "an unknown time"


def in_the_way(archive_slice: Slice, others: Iterable[Slice]) -> str | None:
    """Return why rows cannot be sealed again now: others of the same time are in progress, or in their chunk. Pure."""
    for other in others:
        if other.id == archive_slice.id or not overlaps(
            other.id, archive_slice.id.start, archive_slice.id.end
        ):
            continue
        if other.stage in AWAITED:
            return f"{other.id} is {other.state}: one slice of a range at a time, try again when that is over"
        if other.stage is _S.RESTORED:
            return (
                f"{other.id} is restored until {moment(other.restore_until)}: its rows are in the same chunk, and "
                "would leave with these a second time; try again when it is evicted"
            )
    return None
