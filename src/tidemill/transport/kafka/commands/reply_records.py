"""The records of replies, made as the relay makes those of the outcome topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidemill.admin.lanes.states import lane_of
from tidemill.admin.rows import LaneState
from tidemill.commands.ports import Reply
from tidemill.domain.lane import Lane
from tidemill.outbox.ports import LaneEnd, OutboxItem, OutcomeCodec, SentPositions
from tidemill.transport.kafka.commands.replies import ReplyRecord
from tidemill.transport.kafka.outbox.records import RecordBuilder


class ReplyRecords:
    """Makes replies: the outcome as its topic carries it, with the lane's history as its relay has compared it."""

    def __init__(
        self, lanes: Sequence[LaneState], outcomes: OutcomeCodec, history: Callable[[int], LaneEnd | None]
    ) -> None:
        """`lanes`: as the process found them. `history`: of a lane (id) now: a reconciliation changes it."""
        self._lanes = {state.lane: lane_of(state) for state in lanes}
        self._found = {state.lane: LaneEnd(state.position, state.sequence, state.timeline) for state in lanes}
        self._outcomes = outcomes
        self._history = history
        self._builders: dict[int, tuple[LaneEnd, RecordBuilder]] = {}

    def __call__(self, reply: Reply) -> ReplyRecord:
        """Return the record of a reply."""
        lane = self._lanes[reply.row.lane]
        item = OutboxItem._make(reply.row[2:])  # without lane and generation
        all_but_outcomes = SentPositions(sequence=item.sequence, outcomes=0, dead_letters=item.position)
        (value,) = self._outcomes.encode(lane, [item])
        builder = self._builder(lane)
        _, (made,) = builder.events_and_outcomes([item], [(item, value)], all_but_outcomes)
        return ReplyRecord(made.key, made.value or b"", made.headers)

    def _builder(self, lane: Lane) -> RecordBuilder:
        history = self._history(lane.id) or self._found[lane.id]  # the latter where it was let go meanwhile
        if lane.id not in self._builders or self._builders[lane.id][0] is not history:
            builder = RecordBuilder(lane, history.timeline, history.withdrawn)
            self._found[lane.id] = history
            self._builders[lane.id] = history, builder
        return self._builders[lane.id][1]
