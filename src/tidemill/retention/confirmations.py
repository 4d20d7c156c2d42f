"""The effect of a confirmation on the slices of its event. Its content is not trusted; see `transitions`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalResult, ArchivalStatus
from tidemill.domain.archive.slices import ArchiveState, LakeFile, SliceId
from tidemill.domain.decision import Rejected
from tidemill.retention import transitions
from tidemill.retention.slices import NOT_TOLD, AnswerLimits, CopyLocation, ReportedCopy, Slice
from tidemill.retention.transition_table import Transition, TransitionRefused

CODES: Final[dict[str, str]] = {
    "UNKNOWN_ARCHIVAL": "no archival has this event_id: send back the event's own, to the topic of the same deployment",
    "UNKNOWN_CHUNK": "the event has no such chunk: send back chunk_name and generation as the event gave them",
    "STALE_ARCHIVAL": "a later request or attempt replaced it: work on the newest event that names the chunk",
    "ARCHIVAL_ABORTED": "the request was given up, its rows are in use again: delete the copy, wait for the next event",
    "ARCHIVAL_SETTLED": "this was answered before: nothing to do",
    "ARCHIVAL_HELD": "an operator holds the rows: keep the copy, you will be asked again",
    "ARCHIVAL_QUARANTINED": "the copy differs from what was requested, an operator decides: you may be asked again",
    "NO_LOCATION": "the copy cannot be found: send lakehouse_path, or the files of every chunk",
    "NOT_AN_ANSWER": "an archiver answers in_progress, completed or failed: fix the archiver",
}
"""Why a confirmation is rejected, or ignored for a slice, with what the archiver should do."""


_S = ArchiveState
_SETTLED: Final = {
    _S.LIVE: "ARCHIVAL_ABORTED",
    _S.ELIGIBLE: "ARCHIVAL_ABORTED",
    _S.ABORTED: "ARCHIVAL_ABORTED",
    _S.CONFIRMED: "ARCHIVAL_SETTLED",
    _S.VERIFIED: "ARCHIVAL_SETTLED",
    _S.DROPPED: "ARCHIVAL_SETTLED",
    _S.RESTORED: "ARCHIVAL_SETTLED",
    _S.HELD: "ARCHIVAL_HELD",
    _S.QUARANTINED: "ARCHIVAL_QUARANTINED",
}
"""The code for an answer about a slice that waits for no answer (any more)."""

_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Ignored:
    """Why a confirmation does nothing to a slice, or to a chunk that the event does not have (`slice_id`: None)."""

    slice_id: SliceId | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ConfirmationEffect:
    """What a confirmation does: at most one step per slice, and why it does nothing to the others."""

    steps: tuple[Transition, ...]
    ignored: tuple[Ignored, ...]

    @property
    def rejected(self) -> Rejected | None:
        """Return why nothing at all was done, None if there is a step."""
        if self.steps:
            return None
        order = list(CODES)
        first = min(self.ignored, key=lambda each: order.index(each.code))
        others = len(self.ignored) - 1
        more = f" (and {others} more chunks)" if others else ""
        return Rejected(first.code, f"{first.message}{more}: {CODES[first.code]}")


def fold(
    confirmation: ArchivalConfirmation, slices: Sequence[Slice], at: datetime, limits: AnswerLimits
) -> ConfirmationEffect:
    """Return the effect of `confirmation` on `slices`: all that have its event_id, or had it under an earlier seal."""
    event_id = confirmation.event_id
    named = [each for each in slices if event_id == each.event_id or event_id in each.superseded]
    if not named:
        return _nothing("UNKNOWN_ARCHIVAL", f"event_id {event_id!r}")
    if confirmation.status is ArchivalStatus.PENDING:
        return _nothing("NOT_AN_ANSWER", "status pending is for events only")
    answers = list(_answers(confirmation, named, at, limits))
    return ConfirmationEffect(
        tuple(each for each in answers if isinstance(each, Transition)),
        tuple(each for each in answers if isinstance(each, Ignored)),
    )


def _nothing(code: str, message: str) -> ConfirmationEffect:
    return ConfirmationEffect((), (Ignored(None, code, message),))


def _answers(
    confirmation: ArchivalConfirmation, named: Sequence[Slice], at: datetime, limits: AnswerLimits
) -> Iterator[Transition | Ignored]:
    """Go through the result of each chunk, then through the chunks without a result of their own."""
    answered: set[SliceId] = set()
    for result in confirmation.chunks:
        archive_slice = _find(result, named)
        if archive_slice is None:
            yield Ignored(None, "UNKNOWN_CHUNK", f"chunk {result.chunk_name!r} {result.generation}")
        elif archive_slice.id in answered:
            yield Ignored(
                archive_slice.id,
                "ARCHIVAL_SETTLED",
                f"{archive_slice.id} is answered twice, the first counts",
            )
        else:
            answered.add(archive_slice.id)
            yield _Answer.of_result(confirmation, result).to(archive_slice, at, limits)
    if confirmation.chunks and confirmation.status is ArchivalStatus.COMPLETED:
        return  # what is left out is not completed: it will be requested again
    for archive_slice in named:
        if archive_slice.id not in answered:
            yield _Answer.of_event(confirmation).to(archive_slice, at, limits)


def _find(result: ArchivalResult, named: Sequence[Slice]) -> Slice | None:
    """Return the slice of a result; an archiver that knows no generations sends 1, or nothing."""
    for archive_slice in named:
        if archive_slice.chunk == result.chunk_name and result.generation in (archive_slice.id.generation, 1):
            return archive_slice
    return None


@dataclass(frozen=True, slots=True)
class _Answer:
    """The answer about one chunk."""

    confirmation: ArchivalConfirmation
    status: ArchivalStatus
    why: str
    files: tuple[LakeFile, ...] = ()
    claimed: ReportedCopy = NOT_TOLD

    @classmethod
    def of_event(cls, confirmation: ArchivalConfirmation) -> _Answer:
        return cls(confirmation, confirmation.status, _why(confirmation))

    @classmethod
    def of_result(cls, confirmation: ArchivalConfirmation, result: ArchivalResult) -> _Answer:
        files = tuple(
            LakeFile(each.path, each.size_bytes, each.row_count, each.sha256) for each in result.files
        )
        claimed = ReportedCopy(result.row_count, result.digest, result.min_time, result.max_time)
        return cls(confirmation, result.status, _why(result) or _why(confirmation), files, claimed)

    def to(self, archive_slice: Slice, at: datetime, limits: AnswerLimits) -> Transition | Ignored:
        """Return the step that the answer leads to, or why it is ignored."""
        if archive_slice.event_id != self.confirmation.event_id:
            return self._ignored(archive_slice, "STALE_ARCHIVAL")
        if archive_slice.state in _SETTLED:
            return self._ignored(archive_slice, _SETTLED[archive_slice.state])
        moved = self._moved(archive_slice, at, limits)
        return self._ignored(archive_slice, moved.code) if isinstance(moved, TransitionRefused) else moved

    def _moved(
        self, archive_slice: Slice, at: datetime, limits: AnswerLimits
    ) -> Transition | TransitionRefused:
        who = self.confirmation.service_name
        if self.status is ArchivalStatus.IN_PROGRESS:
            return transitions.heartbeat(archive_slice, at, limits=limits, who=who)
        if self.status is ArchivalStatus.FAILED:
            if (self.confirmation.attempt or archive_slice.attempt) < archive_slice.attempt:
                return TransitionRefused("STALE_ARCHIVAL", "a later attempt is under way")
            retryable = self.confirmation.retryable is not False
            return transitions.fail(
                archive_slice, at, why=self.why, who=who, limits=limits, retryable=retryable
            )
        if self.status is ArchivalStatus.COMPLETED:
            copy = self._copy(archive_slice)
            if copy is None:
                return TransitionRefused("NO_LOCATION", "neither lakehouse_path nor files")
            return transitions.confirm(archive_slice, at, copy=copy, who=who)
        return TransitionRefused("NOT_AN_ANSWER", "pending is for events only")

    def _copy(self, archive_slice: Slice) -> CopyLocation | None:
        """Return the stated location of the copy, None if there is none."""
        confirmation = self.confirmation
        empty = archive_slice.sealed is not None and archive_slice.sealed.row_count == 0
        no_copy = empty and self.claimed.row_count == 0 and not self.files  # no file belongs to it
        location = "" if no_copy else confirmation.lakehouse_path or ""
        if not (location or self.files or empty):
            return None
        return CopyLocation(
            event_id=confirmation.event_id,
            attempt=archive_slice.attempt,
            location=location,
            files=self.files,
            lake_format=confirmation.lake_format or "parquet",
            snapshot_id=confirmation.snapshot_id,
            claimed=self.claimed,
        )

    def _ignored(self, archive_slice: Slice, code: str) -> Ignored:
        return Ignored(
            archive_slice.id,
            code,
            f"{archive_slice.id} is {archive_slice.state} since {archive_slice.since.isoformat()}",
        )


def _why(answer: ArchivalConfirmation | ArchivalResult) -> str:
    """Return the reason given, as one line of a listing."""
    words = " ".join(part for part in (answer.error_code, answer.error_message) if part).split()
    return " ".join(words)[:_MAX_REASON]
