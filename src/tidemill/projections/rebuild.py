"""Rebuild: a read model built again from its first event, beside the live one, then swapped with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream
from tidemill.projections.ports import Checkpoint, RebuildTarget
from tidemill.projections.read_ahead import MAX_EVENTS
from tidemill.projections.replay import OnProgress, Replay, ReplayParts
from tidemill.projections.retry import projector_retrier

_CHASES: Final = 10
SWAP_S: Final = 60.0
"""How long to try to get the locks of a swap, against readers that hold the table."""


async def rebuild(stream: Stream, projection: Projection, parts: ReplayParts, on_progress: OnProgress) -> int:
    """Rebuild a projection; return how many events were folded. Readers and the projector continue meanwhile.

    Raises:
        UsageError: it is being rebuilt already, or its table cannot be swapped.
        ReplayFailed: an event is missing or unreadable. FoldFailed, DataError: the projection cannot fold one.
        TransientError: a server was unavailable for too long, or a reader held the table for too long. WorkshopLost.
    """
    opened = parts.rebuild_targets.open(projection, stream.aggregate, stream.partitions, lasting=True)
    async with opened as target, Replay(stream, target.view, parts) as replay:
        await _chase(replay, target, on_progress)
        return await projector_retrier(limit_s=SWAP_S).call(lambda: _swap(replay, target, on_progress))


async def _chase(replay: Replay, target: RebuildTarget, on_progress: OnProgress) -> None:
    """Come within a batch of the live read model, which moves: the projector then waits for a moment only."""
    for _ in range(_CHASES):
        targets = _sequences(await target.live())
        if sum(replay.missing(targets).values()) <= MAX_EVENTS:
            return
        await replay.up_to(targets, on_progress)


async def _swap(replay: Replay, target: RebuildTarget, on_progress: OnProgress) -> int:
    async with target.swap() as live:
        targets = _sequences(live)
        await replay.up_to(targets, on_progress)
    return sum(targets.values())


def _sequences(checkpoints: Mapping[int, Checkpoint]) -> dict[int, int]:
    return {partition: checkpoint.sequence for partition, checkpoint in checkpoints.items()}
