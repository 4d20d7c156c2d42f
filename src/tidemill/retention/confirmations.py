"""What a confirmation does to the slices of its event. Nothing that it says is believed; see `machine`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidemill.domain.archival import ArchivalConfirmation
from tidemill.domain.archive import SliceId
from tidemill.domain.decision import Rejected
from tidemill.retention.slices import Limits, Slice
from tidemill.retention.transitions import Step

CODES: Final[dict[str, str]] = {
    "UNKNOWN_ARCHIVAL": "no archival has this event_id: send back the event's own, to the topic of the same deployment",
    "UNKNOWN_CHUNK": "the event has no such chunk: send back chunk_name and generation as the event gave them",
    "STALE_ARCHIVAL": "a later request or attempt took its place: work on the newest event that names the chunk",
    "ARCHIVAL_ABORTED": "the request was given up, its rows are in use again: delete the copy, wait for the next event",
    "ARCHIVAL_SETTLED": "this was answered before: nothing to do",
    "ARCHIVAL_HELD": "an operator holds the rows: keep the copy, you will be asked again",
    "ARCHIVAL_QUARANTINED": "the copy is not what was asked for and a person looks at it: you may be asked again",
    "NO_LOCATION": "the copy cannot be found: send lakehouse_path, or the files of every chunk",
    "NOT_AN_ANSWER": "an archiver answers in_progress, completed or failed: mend the archiver",
}
"""Why a confirmation is rejected, or ignored for a slice, with what the archiver should do."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Why a confirmation does nothing to a slice, or to a chunk that the event does not have (`which` is None)."""

    which: SliceId | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Folded:
    """What a confirmation does: at most one step per slice, and why it does nothing to the others."""

    steps: tuple[Step, ...]
    ignored: tuple[Ignored, ...]

    @property
    def rejected(self) -> Rejected | None:
        """Return why nothing at all was done, None if there is a step."""
        raise NotImplementedError


def fold(confirmation: ArchivalConfirmation, slices: Sequence[Slice], at: datetime, limits: Limits) -> Folded:
    """Return what `confirmation` does to `slices`: all that have its event_id, or had it under an earlier seal."""
    raise NotImplementedError
