"""A lane's history in the database compared with the ends of its topics, also while its owner processes it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tidemill.admin.lanes.ports import LaneTopics, OutboxHistory, TopicHistory
from tidemill.admin.lanes.states import lane_of
from tidemill.admin.ports import LaneReader
from tidemill.admin.rows import LaneState
from tidemill.domain.errors import LaneHalted, TransientError
from tidemill.outbox.ports import LaneEnd
from tidemill.outbox.tail_check import compare_tails


@dataclass(frozen=True, kw_only=True)
class LaneComparison:
    """Compares lanes with their outbound topics."""

    lanes: LaneReader
    outbox: OutboxHistory
    topics: LaneTopics

    async def end(self, state: LaneState) -> LaneEnd:
        """Return how far the database is, with the lane's forks."""
        end = LaneEnd(state.position, state.sequence, state.timeline)
        return await self.outbox.end_with_history(state.lane, end)

    def history(self, state: LaneState, end: LaneEnd) -> AbstractAsyncContextManager[TopicHistory]:
        """Open the history in the lane's topics, without what an operator has accepted."""
        return self.topics.history(lane_of(state), end.accepted)

    async def compare(self, state: LaneState) -> None:
        """Compare how a lane's topics end with the database.

        The hint is read first, because it must not be ahead of the topics; the ledger last, because it must not lag.

        Raises:
            LaneHalted: they contradict each other.
            ForeignTail: a topic ends with a record of another program.
            TransientError: a transaction hides how a topic ends, or a server is unavailable.
        """
        lane = state.lane
        published = await self.outbox.published(lane)
        async with self.history(state, await self.end(state)) as history:
            ends = await history.ends()
        (now,) = await self.lanes.lanes(lane_id=lane)
        tails, known = ends.tails, None
        if tails.events is not None:
            known = await self.outbox.events_at(lane, tails.events.position)
        try:
            compare_tails(lane_of(state), tails, await self.end(now), published, known)
        except LaneHalted as halt:
            if ends.hidden:
                raise TransientError(
                    f"a transaction is open at the end of a topic of lane {lane}: {halt}"
                ) from halt
            raise
