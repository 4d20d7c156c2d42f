"""A round and its groups: slices that share a request, are requested again, or are read in one pass. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tidemill.domain.archive.messages import MAX_CHUNKS, ArchivalStatus
from tidemill.domain.archive.slices import ArchiveState, LakeColumn, SliceId
from tidemill.retention.ports import CopyToVerify
from tidemill.retention.slices import AnswerLimits, Slice
from tidemill.retention.transition_table import Action

_S = ArchiveState


@dataclass
class Round:
    """The result of a round: action -> slices, and what could not be done now."""

    done: dict[Action, int] = field(default_factory=lambda: defaultdict(int))
    problems: list[str] = field(default_factory=list)

    @property
    def moved(self) -> bool:
        """Return whether another round may find more to do at once."""
        return bool(self.done)


def batches(slices: Iterable[Slice]) -> tuple[tuple[Slice, ...], ...]:
    """Return slices that may share an event: measured, unrequested, of one table and shape, oldest first, at most 64.

    Their ranges do not overlap: where one place has all rows of an event, their times separate them.
    """
    groups: dict[tuple[str, tuple[LakeColumn, ...]], list[Slice]] = {}
    for archive_slice in sorted(slices, key=lambda each: each.id):
        if archive_slice.state is _S.SEALED and archive_slice.sealed is not None:
            groups.setdefault((archive_slice.id.table, archive_slice.columns), []).append(archive_slice)
    return tuple(
        tuple(apart[first : first + MAX_CHUNKS])
        for group in groups.values()
        for apart in _apart(group)
        for first in range(0, len(apart), MAX_CHUNKS)
    )


def _apart(group: Iterable[Slice]) -> list[list[Slice]]:
    """Return the slices, sorted by start, in the least number of groups without overlaps."""
    groups: list[list[Slice]] = []
    for archive_slice in group:
        fits = next((each for each in groups if each[-1].id.end <= archive_slice.id.start), None)
        if fits is None:
            groups.append(fits := [])
        fits.append(archive_slice)
    return groups


def due_again(slices: Iterable[Slice], now: datetime, limits: AnswerLimits) -> tuple[tuple[Slice, ...], ...]:
    """Return the requests whose deadline passed and that may be sent again, grouped by event and attempt."""
    groups: dict[tuple[str | None, int], list[Slice]] = {}
    for archive_slice in sorted(slices, key=lambda each: each.id):
        waits = (
            archive_slice.state in {_S.REQUESTED, _S.COPYING} and archive_slice.attempt < limits.max_attempts
        )
        if waits and archive_slice.deadline is not None and archive_slice.deadline <= now:
            groups.setdefault((archive_slice.event_id, archive_slice.attempt), []).append(archive_slice)
    return tuple(tuple(group) for group in groups.values())


def at_one_place(unproven: Sequence[Slice]) -> Iterable[list[CopyToVerify]]:
    """Group slices whose copies are to be read in one pass: those without a location of their own."""
    groups: dict[tuple[str, str], list[CopyToVerify]] = defaultdict(list)
    alone: list[list[CopyToVerify]] = []
    for archive_slice in unproven:
        copy = archive_slice.copy
        if copy is None:
            continue
        if copy.files or not copy.location:
            alone.append([CopyToVerify(archive_slice, copy)])
        else:
            groups[copy.event_id, copy.location].append(CopyToVerify(archive_slice, copy))
    return [*alone, *groups.values()]


def settled(event_id: str, slices: Iterable[Slice], dropped: Collection[SliceId]) -> ArchivalStatus | None:
    """Return the result of an event, None while one of its slices is in progress; it never changes later.

    `slices`: all that have the event_id, or had it under an earlier seal. `dropped`: those that left under it, whatever
    happened since: rows may come back, change, and be requested again. `COMPLETED`: every one did.
    """
    of_event = [each for each in slices if event_id == each.event_id or event_id in each.superseded]
    gone = [each.id in dropped for each in of_event]
    over = [each.event_id != event_id or not each.is_closed for each in of_event]
    if not of_event or not all(a or b for a, b in zip(gone, over, strict=True)):
        return None
    return ArchivalStatus.COMPLETED if all(gone) else ArchivalStatus.FAILED
