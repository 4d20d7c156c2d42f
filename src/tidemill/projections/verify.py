"""Verify: fold the same events again, and compare with the live rows, byte for byte."""

from __future__ import annotations

from typing import Final

from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream
from tidemill.projections.history import PLAIN
from tidemill.projections.ports import Comparison
from tidemill.projections.replay import OnProgress, Replay, ReplayParts

EXAMPLES: Final = 5


async def verify(
    stream: Stream,
    projection: Projection,
    parts: ReplayParts,
    on_progress: OnProgress,
    *,
    examples: int = EXAMPLES,
) -> Comparison:
    """Compare a projection with its rebuild up to exactly the events that its present rows were made of.

    Raises:
        UsageError: it is being rebuilt or verified already.
        ReplayFailed: an event is missing or unreadable. FoldFailed, DataError: the projection cannot fold one.
        TransientError: a server was unavailable for too long.
    """
    opened = parts.rebuild_targets.open(projection, stream.aggregate, stream.partitions, lasting=False)
    async with opened as target:
        snapshot = await target.take_snapshot()
        histories = await parts.store.histories(stream.aggregate, snapshot.keys())
        until = {
            partition: histories.get(partition, PLAIN).until(checkpoint.sequence)
            for partition, checkpoint in snapshot.items()
        }
        async with Replay(stream, target.view, parts, until) as replay:
            await replay.up_to(until, on_progress)
        return await target.compare(examples)
