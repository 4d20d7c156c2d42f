"""Slices in every state, made by the machine itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tidemill.domain.archive.slices import (
    ArchiveState,
    LakeColumn,
    LakeFile,
    LakeType,
    Measured,
    SliceId,
    Source,
)
from tidemill.retention import operator_transitions, transitions
from tidemill.retention.slices import AnswerLimits, CopyLocation, Hold, Slice, late_name
from tidemill.retention.transition_table import Moved, Transition

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = AnswerLimits()
COLUMNS = (LakeColumn("time", "timestamp with time zone", LakeType.INSTANT, nullable=False),)
ROWS = Measured(2, f"v1:{7:016x}:{9:016x}", NOW - timedelta(days=900), NOW - timedelta(days=899))
OTHER_ROWS = ROWS._replace(row_count=3)
FILE = LakeFile("part-0.parquet", 250, 2, "ab" * 32)
HOLD = Hold("public.ticks", None, None, "a law suit", "ada", NOW)
DAY = timedelta(days=1)


def slice_id(day: int = 0, generation: int = 1, table: str = "public.ticks") -> SliceId:
    start = datetime(2023, 9, 1, tzinfo=UTC) + day * DAY
    return SliceId(table, start, start + DAY, generation)


def live(which: SliceId | None = None, source: Source = Source.CHUNK) -> Slice:
    which = which or slice_id()
    chunk = (
        late_name(which)
        if source is Source.LATE
        else f"_internal.chunk_{which.start:%Y%m%d}_{which.generation}"
    )
    return Slice(which, ArchiveState.LIVE, NOW, source, chunk, size_bytes=1000)


def moved(step: Moved) -> Slice:
    assert isinstance(step, Transition), step
    return step.after


def copy_of(which: Slice, **told: object) -> CopyLocation:
    assert which.event_id is not None
    words: dict[str, object] = {"location": "/lake/ticks", "files": (FILE,), **told}
    return CopyLocation(event_id=which.event_id, attempt=which.attempt, **words)  # type: ignore[arg-type]


_WAY: tuple[Callable[[Slice], Moved], ...] = (
    lambda one: transitions.choose(one, NOW),
    lambda one: transitions.seal(one, NOW, columns=COLUMNS, holds=()),
    lambda one: transitions.measure(one, NOW, seal=1, found=ROWS),
    lambda one: transitions.request(one, NOW, event_id="e1", limits=LIMITS),
    lambda one: transitions.heartbeat(one, NOW, limits=LIMITS, who="archiver"),
    lambda one: transitions.confirm(one, NOW, copy=copy_of(one), who="archiver"),
    lambda one: transitions.verify(one, NOW, read=copy_of(one), found=ROWS),
    lambda one: transitions.drop(one, NOW, found=ROWS, holds=()),
    lambda one: operator_transitions.restore(
        one, NOW, found=ROWS, until=NOW + DAY, chunk="_internal.back", who="ada"
    ),
)
_ASIDE: dict[ArchiveState, tuple[ArchiveState, Callable[[Slice], Moved]]] = {
    ArchiveState.ABORTED: (
        ArchiveState.ELIGIBLE,
        lambda one: transitions.refuse(one, NOW, why="infinity in price"),
    ),
    ArchiveState.QUARANTINED: (
        ArchiveState.CONFIRMED,
        lambda one: transitions.verify(one, NOW, read=copy_of(one), found=OTHER_ROWS),
    ),
    ArchiveState.HELD: (
        ArchiveState.VERIFIED,
        lambda one: operator_transitions.hold(one, NOW, who="ada", why="a law suit"),
    ),
}


def brought_to(
    state: ArchiveState, which: SliceId | None = None, *, source: Source = Source.CHUNK, event_id: str = "e1"
) -> Slice:
    """Return a slice that came to `state` by the shortest way, all of it at `NOW`."""
    if state in _ASIDE:
        before, step = _ASIDE[state]
        return moved(step(brought_to(before, which, source=source, event_id=event_id)))
    one = live(which, source)
    for step in _WAY:
        if one.state is state:
            return one
        one = moved(step(one))
        if one.event_id is not None:
            one = replace(one, event_id=event_id)
    assert one.state is state
    return one


def measured_slice(which: SliceId | None = None) -> Slice:
    """Return a slice that may be requested."""
    return moved(transitions.measure(brought_to(ArchiveState.SEALED, which), NOW, seal=1, found=ROWS))
