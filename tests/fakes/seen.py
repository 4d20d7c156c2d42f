"""Progress of lanes in memory: obeys the same conformance suite as the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tidemill.queries.ports import ProgressKey
from tidemill.queries.seen import HistoryFork, SeenLane, SeenProgress, SeenToken


@dataclass
class MemoryLaneProgress:
    """Ledgers by lane, and what read models have folded. `asked`: the questions, in order."""

    lanes: dict[SeenLane, SeenProgress] = field(default_factory=dict)
    folded: dict[ProgressKey, int] = field(default_factory=dict)
    asked: list[frozenset[ProgressKey]] = field(default_factory=list)

    def write(self, aggregate: str, partition: int, sequence: int) -> None:
        lane = SeenLane(aggregate, partition)
        self.lanes[lane] = replace(self.lanes.get(lane, SeenProgress(sequence=0)), sequence=sequence)

    def fork(self, aggregate: str, partition: int, fork: HistoryFork, sequence: int) -> None:
        """Begin a timeline; the lane ends at `sequence` then."""
        lane = SeenLane(aggregate, partition)
        before = self.lanes[lane]
        forks = (*before.forks, fork)
        self.lanes[lane] = replace(before, sequence=sequence, timeline=fork.timeline, forks=forks)

    async def progress(self, keys: Collection[ProgressKey]) -> Mapping[ProgressKey, SeenProgress]:
        self.asked.append(frozenset(keys))
        return {
            key: replace(lane, folded=self.folded.get(key, 0) if key.projection else None)
            for key in keys
            if (lane := self.lanes.get(SeenLane(key.aggregate, key.partition))) is not None
        }

    async def seen(self, aggregate: str, projection: str | None) -> SeenToken:
        lanes = {lane: progress for lane, progress in self.lanes.items() if lane.aggregate == aggregate}
        if projection is not None:
            folded = {lane: self.folded.get(ProgressKey(*lane, projection), 0) for lane in lanes}
            lanes = {lane: replace(progress, folded=folded[lane]) for lane, progress in lanes.items()}
        return {lane: progress.shown for lane, progress in lanes.items() if progress.shown.sequence > 0}
