"""Eviction: restored rows leave again when their time is over. Only an operator restores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tidemill.domain.archive.slices import ArchiveState, Measured, Source
from tidemill.retention import operator_transitions
from tidemill.retention.ports import ArchiveWork
from tidemill.retention.slices import Hold, Slice
from tidemill.retention.transition_table import Action, Moved, Transition, TransitionRefused

_S = ArchiveState


@dataclass(frozen=True, slots=True)
class Leaving:
    """The eviction of a restored range: a transition for every restored generation, or a refusal.

    `chunk`: the slice whose chunk is dropped with them, None if the rows stay.
    """

    moves: tuple[Moved, ...]
    chunk: Slice | None = None


def leave(together: Sequence[Slice], at: datetime, *, found: Measured, holds: Iterable[Hold]) -> Leaving:
    """Drop the restored generations of a range, or quarantine them; all or none. Pure.

    `together`: all of them, the one that has the chunk first. `found`: the measurement of that chunk. If an operator
    handles the chunk's own slice already, the first is one of late rows, which has no chunk: there is nothing to drop.
    """
    held = tuple(holds)
    moves = tuple(_left(each, together, at, found, held) for each in together)
    refused = tuple(moved for moved in moves if isinstance(moved, TransitionRefused))
    if refused:
        return Leaving(refused)
    rows_go = all(isinstance(moved, Transition) and moved.action is Action.EVICT for moved in moves)
    chunk = next((each for each in together if each.source is Source.CHUNK), None)
    return Leaving(moves, chunk if rows_go else None)


def _left(
    archive_slice: Slice, together: Sequence[Slice], at: datetime, found: Measured, holds: Sequence[Hold]
) -> Moved:
    beside = [other for other in together if other.id != archive_slice.id]
    moved = operator_transitions.evict(archive_slice, at, found=found, holds=holds, beside=beside)
    if isinstance(moved, TransitionRefused) and moved.code == "CHANGED":
        return operator_transitions.quarantine_changed(archive_slice, at, found=found, beside=beside)
    return moved


async def evict(work: ArchiveWork, archive_slice: Slice, time_column: str) -> tuple[Moved, ...]:
    """Drop the restored rows of a range if they are unchanged; else quarantine them.

    Returns what to store in the same transaction: see `Leaving`.
    """
    holds = await work.holds(archive_slice.id.table)
    generations = await work.of_range(archive_slice.id.table, archive_slice.id.start)
    together = [each for each in generations if each.state is _S.RESTORED]
    if not together:
        return ()
    await work.lock_rows(together[0])
    found = await work.measure(together[0], time_column)
    leaving = leave(together, work.at, found=found, holds=holds)
    if leaving.chunk is not None:
        await work.drop_rows(leaving.chunk)
    return leaving.moves
