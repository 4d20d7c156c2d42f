"""Rebuild: a read model built again from its first event, beside the live one, which it then replaces.

The rows of a state are folded aside in the same way. They are not replaced but corrected, row by row, while its lanes
are locked: commands are decided by these rows, which must be those of exactly the events that its lanes wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream
from tidemill.projections.ports import Checkpoint, Comparison, RebuildTarget
from tidemill.projections.read_ahead import MAX_EVENTS
from tidemill.projections.replay import OnProgress, Replay, ReplayParts
from tidemill.projections.retry import projector_retrier

_CHASES: Final = 10
SWAP_S: Final = 60.0
"""How long to try to get the locks of a swap, against readers that hold the table."""


class Rebuilt(NamedTuple):
    """The result of a rebuild: events folded, and of a state the rows that differed and were corrected."""

    events: int
    corrected: Comparison | None = None


async def rebuild(
    stream: Stream, projection: Projection, parts: ReplayParts, on_progress: OnProgress
) -> Rebuilt:
    """Rebuild a projection. Readers continue meanwhile, and so does the projector, or whoever writes a state.

    Raises:
        UsageError: it is being rebuilt already, its table cannot be swapped, or a lane of a state is halted.
        ReplayFailed: an event is missing or unreadable, or the topic of a state has events that its lane lacks.
        FoldFailed, DataError: the projection cannot fold an event.
        TransientError: a server was unavailable for too long, or a reader held the table for too long. WorkshopLost.
    """
    opened = parts.rebuild_targets.open(projection, stream.aggregate, stream.partitions, lasting=True)
    async with opened as target, Replay(stream, target.view, parts) as replay:
        await _chase(replay, target, on_progress)
        events = await projector_retrier(limit_s=SWAP_S).call(lambda: _swap(replay, target, on_progress))
        return Rebuilt(events, target.corrected)


async def _chase(replay: Replay, target: RebuildTarget, on_progress: OnProgress) -> None:
    """Come within a batch of the live read model, which moves: the projector then waits for a moment only."""
    for _ in range(_CHASES):
        targets = _sequences(await target.live())
        missing = sum(replay.missing(targets).values())
        await replay.up_to(targets, on_progress)
        if missing <= MAX_EVENTS:
            return


async def _swap(replay: Replay, target: RebuildTarget, on_progress: OnProgress) -> int:
    async with target.swap() as live:
        targets = _sequences(live)
        await replay.up_to(targets, on_progress)
        if target.is_exact:
            replay.demand_none_beyond(targets)
    return sum(targets.values())


def _sequences(checkpoints: Mapping[int, Checkpoint]) -> dict[int, int]:
    return {partition: checkpoint.sequence for partition, checkpoint in checkpoints.items()}
