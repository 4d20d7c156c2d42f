"""The way back: rows that were restored leave again when their time is over. Restoring itself is an operator's."""

from __future__ import annotations

from tidemill.domain.archive import ArchiveState
from tidemill.retention import interventions
from tidemill.retention.ports import ArchiveWork
from tidemill.retention.slices import Slice
from tidemill.retention.transitions import Action, Moved, Refused, Step

_S = ArchiveState


async def evict(work: ArchiveWork, which: Slice, time_column: str) -> list[Moved]:
    """Let the restored rows of a range go, if they are what was restored; else set them aside.

    Returns what is to be stored in the same transaction: a move for every restored generation of the range.
    """
    holds = await work.holds(which.id.table)
    generations = await work.of_range(which.id.table, which.id.start)
    together = [each for each in generations if each.state is _S.RESTORED]
    await work.lock_rows(which)
    found = await work.measure(which, time_column)
    moves: list[Moved] = []
    for each in together:
        beside = [other for other in together if other.id != each.id]
        moved = interventions.evict(each, work.at, found=found, holds=holds, beside=beside)
        if isinstance(moved, Refused) and moved.code == "CHANGED":
            moved = interventions.spoil(each, work.at, found=found, beside=beside)
        moves.append(moved)
    if moves and all(isinstance(move, Step) and move.action is Action.EVICT for move in moves):
        await work.let_go(which)
    return moves
