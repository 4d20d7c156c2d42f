"""The way back: rows that were restored leave again when their time is over. Restoring itself is an operator's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tidemill.domain.archive import ArchiveState
from tidemill.domain.lane import Claim
from tidemill.retention import interventions
from tidemill.retention.ports import ArchiveStore, ArchiveWork
from tidemill.retention.slices import Slice
from tidemill.retention.transitions import Action, Moved, Refused, Step

_S = ArchiveState

StoreStep = Callable[[ArchiveWork, Moved], Awaitable[Step | None]]


async def evict(
    store: ArchiveStore,
    claim: Claim,
    which: Slice,
    time_column: str,
    keep: StoreStep,
    *,
    operator: str | None = None,
) -> list[Moved]:
    """Let the restored rows of a range go, if they are what was restored; else set them aside."""
    async with store.transaction(claim) as work:
        holds = await work.holds(which.id.table)
        together = [
            each for each in await work.of_range(which.id.table, which.id.start) if each.state is _S.RESTORED
        ]
        await work.lock_rows(which)
        found = await work.measure(which, time_column)
        moves: list[Moved] = []
        for each in together:
            beside = [other for other in together if other.id != each.id]
            moved = interventions.evict(
                each, work.at, found=found, holds=holds, beside=beside, operator=operator
            )
            if isinstance(moved, Refused) and moved.code == "CHANGED":
                moved = interventions.spoil(each, work.at, found=found, beside=beside)
            moves.append(moved)
        if moves and all(isinstance(move, Step) and move.action is Action.EVICT for move in moves):
            await work.let_go(which)
        for moved in moves:
            await keep(work, moved)
        return moves
