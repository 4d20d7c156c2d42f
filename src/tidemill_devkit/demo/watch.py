"""The progress of every step: the database shows what was consumed and folded, the topics what was published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from tidemill.admin.lanes.states import lane_of
from tidemill.admin.ports import TopicInspector
from tidemill.admin.rows import LaneState, ProjectionState
from tidemill.app.admin import Admin
from tidemill.app.deployment import Deployment
from tidemill.domain.errors import TidemillError
from tidemill_devkit.demo.plan import DemoPlan
from tidemill_devkit.demo.poll import polled
from tidemill_devkit.demo.processes import Serving
from tidemill_devkit.demo.records import Planned

_POLL_S: Final = 0.2
MAX_STALL_S: Final = 180.0
"""How long there may be no progress. A process needs some seconds to start on a busy machine."""


class StandsStill(TidemillError):
    """No progress for too long."""


@dataclass(frozen=True)
class Hop:
    """The progress of one step; `what` describes it for people."""

    name: str
    done: int
    total: int
    what: str

    @property
    def complete(self) -> bool:
        """Return whether nothing is left to do."""
        return self.done >= self.total


class DemoWatch:
    """Polls all steps until nothing is in flight any more."""

    def __init__(
        self, deployment: Deployment, plan: DemoPlan, on_hops: Callable[[Sequence[Hop]], None]
    ) -> None:
        """`on_hops`: called repeatedly with the progress of all steps."""
        self._deployment = deployment
        self._plan = plan
        self._on_hops = on_hops
        self._folds = {
            aggregate: [projection.name for projection in part.context.projections]
            for aggregate, part in deployment.catalog.contexts.items()
        }
        self._published = 0

    def published(self, records: int) -> None:
        """Store how many records Kafka has acknowledged."""
        self._published = records

    async def until_applied(self, records: Sequence[Planned]) -> None:
        """Return when the records of one aggregate, the first ones there, were applied or refused."""
        aggregate = records[0].sent_to
        async with Admin(self._deployment) as admin:

            async def taken() -> bool | None:
                lanes = [lane for lane in await admin.operations.lanes() if lane.aggregate == aggregate]
                return sum(lane.position for lane in lanes) >= len(records) or None

            await polled(taken)

    async def until_done(self, serving: Serving) -> None:
        """Return when every published record has passed through every step.

        Raises:
            ProcessEnded: a process ended. StandsStill: no progress.
        """
        seen: Sequence[Hop] = []
        moved_s = monotonic()
        async with Admin(self._deployment) as admin:
            while True:
                lanes = [lane for lane in await admin.operations.lanes() if lane.aggregate in self._folds]
                projections = await admin.operations.projections()
                hops = self._hops(lanes, await _relayed(admin.topics, lanes), projections)
                self._on_hops(hops)
                if all(hop.complete for hop in hops):
                    return
                serving.demand_alive()
                if hops != seen:
                    seen, moved_s = hops, monotonic()
                elif monotonic() - moved_s > MAX_STALL_S:
                    raise StandsStill(_complaint(hops, serving))
                await asyncio.sleep(_POLL_S)

    def _hops(
        self, lanes: Sequence[LaneState], relayed: int, projections: Iterable[ProjectionState]
    ) -> list[Hop]:
        """Return all steps. The planned numbers count until all is published; then the published ones."""
        records = len(self._plan.records)
        taken = sum(lane.position for lane in lanes)
        all_in = taken >= records
        to_relay = taken if all_in else records
        to_fold = sum(
            len(names) * (_events(lanes, aggregate) if all_in else self._plan.events_of(aggregate))
            for aggregate, names in self._folds.items()
        )
        folded = sum(sum(projection.sequences.values()) for projection in projections)
        return [
            Hop("published", self._published, records, "commands, acknowledged by Kafka"),
            Hop("applied", taken, records, "or refused, in the database"),
            Hop("relayed", relayed, to_relay, "outcomes, with their events"),
            Hop("projected", folded, to_fold, "folds into read models"),
        ]


def _events(lanes: Iterable[LaneState], aggregate: str) -> int:
    return sum(lane.sequence for lane in lanes if lane.aggregate == aggregate)


async def _relayed(topics: TopicInspector, lanes: Sequence[LaneState]) -> int:
    """Return how many records have their outcome in a topic."""
    tails = await topics.tails([lane_of(state) for state in lanes])
    return sum(each.outcomes.position for each in tails.values() if each.outcomes is not None)


def _complaint(hops: Sequence[Hop], serving: Serving) -> str:
    behind = ", ".join(f"{hop.name} {hop.done:,} of {hop.total:,}" for hop in hops if not hop.complete)
    return (
        f"nothing has moved for {MAX_STALL_S:.0f} s: {behind}. The last lines of the processes, with the full logs in "
        f"{serving.logs}:\n{serving.last_words()}"
    )
