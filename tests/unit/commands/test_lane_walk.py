"""A lane's life, walked in full: whatever comes, in any order, what is held, queued, counted and measured agrees."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.fakes.followers import MemoryFollower
from tests.fakes.kafka import MemoryBroker
from tests.fakes.kafka_ports import MemoryCommandSource
from tests.support.engine.intakes import STREAM, TOPIC
from tidemill.commands import lane_lifecycle
from tidemill.commands.halt_watch import HaltWatch
from tidemill.commands.lane_lifecycle import Ownership
from tidemill.commands.lane_phases import (
    CLAIMING,
    COUNTED_HALTED,
    TO_CLAIM,
    TRANSITIONS,
    WITH_QUEUE,
    LaneLife,
    LanePhase,
    LaneRegistry,
)
from tidemill.commands.lane_queues import Queues
from tidemill.commands.ports import Unfetchable
from tidemill.commands.retry import BatchRetries
from tidemill.domain.lane import Claim
from tidemill.runtime.retry import Retrier
from tidemill.runtime.telemetry.metrics import LANES_HALTED, LANES_OWNED

ALL = frozenset(LanePhase)
PARTITIONS = range(STREAM.partitions)
WALKED, BESIDE = 0, 1
"""The partition that is walked, and one that flows beside it all the time. A third one is not assigned."""

NEVER = {(LanePhase.RELEASING, LanePhase.WANTED)}
"""What needs a step within another one: an assignment while a revocation waits for a batch."""

HALT = "TOPIC_CHANGED", "by the test"


class Walker:
    """An owner of lanes, one step at a time: each is an answer that came, or something that others did."""

    def __init__(self) -> None:
        broker = MemoryBroker()
        broker.create(TOPIC, STREAM.partitions)
        self.store = MemoryCommandStore(STREAM)
        self.queues = Queues(batch_records=10)
        self.ownership = Ownership(
            STREAM,
            "one",
            source=MemoryCommandSource(broker, topic=TOPIC),
            store=self.store,
            follower=MemoryFollower(),
            queues=self.queues,
            retrier=Retrier(BatchRetries(STREAM.aggregate)),
        )
        self.lanes = self.ownership._lanes
        self.ours: set[int] = set()
        self.made: dict[int, list[Claim]] = {partition: [] for partition in PARTITIONS}
        self.asked: list[Claim] | None = None

    # --- the steps ---

    async def assigned(self) -> None:
        self.assign(WALKED)

    async def revoked(self) -> None:
        self.ours.discard(WALKED)
        await self.ownership.revoked(frozenset({WALKED, STREAM.partitions}))

    async def claims_made(self) -> None:
        if self.asked is None:
            wanted = self.lanes.partitions_in(TO_CLAIM)
            self.asked = await self.store.claim(STREAM.aggregate, wanted, "one")

    async def claims_known(self) -> None:
        claims, self.asked = self.asked or [], None
        for claim in claims:
            self.made[claim.lane.partition].append(claim)
        await self.ownership._release(self.lanes.take(claims))

    async def compared(self) -> None:
        """The answer for the claim before the last one is late."""
        await self.begin(WALKED)

    async def halted(self) -> None:
        self.store.halts[WALKED + 1] = HALT

    async def cleared(self) -> None:
        self.store.halts.pop(WALKED + 1, None)

    async def watched(self) -> None:
        await HaltWatch().look(self.ownership, self.store)

    async def refused(self) -> None:
        """Halted by a batch: a record cannot even be parked."""
        if (queue := self.queues.get(WALKED)) is not None:
            await self.store.halt(queue.claim, *HALT)
            self.ownership.stand_still(queue.claim, *HALT)

    async def stuck(self) -> None:
        queue = self.queues.get(WALKED)
        await self.ownership.halt_stuck(Unfetchable(WALKED, 0, "by the test"))
        assert self.queues.get(WALKED) is queue, "what was fetched is still to be applied"

    async def fenced(self) -> None:
        if (queue := self.queues.get(WALKED)) is not None:
            await self.store.claim(STREAM.aggregate, [WALKED], "another")
            self.ownership.fenced([queue])

    async def timed_out(self) -> None:
        """Some time after a fence, or after several."""
        self.ownership._claim_again(self.made[WALKED])

    async def stopped(self) -> None:
        self.ours.clear()
        await self.ownership.release_all()

    # --- what holds after each ---

    def assign(self, partition: int) -> None:
        self.ours.add(partition)
        self.ownership.assigned(frozenset({partition, STREAM.partitions}))

    async def begin(self, partition: int) -> None:
        for claim in self.made[partition][-2:]:
            await self.ownership._begin([claim], ())

    def situation(self) -> tuple[Any, ...]:
        """All that decides what comes next."""
        claim, made = self.lanes.claim_of(WALKED, ALL), self.made[WALKED]
        return (
            self.lanes.phase(WALKED),
            BESIDE in self.ours,
            claim and claim.epoch == self.store.lanes[WALKED + 1].epoch,
            any(each is not claim for each in made),
            None if self.asked is None else len(self.asked),
            bool(self.store.halts),
        )

    def check(self) -> None:
        for partition in PARTITIONS:
            phase, claim = self.lanes.phase(partition), self.lanes.claim_of(partition, ALL)
            queue = self.queues.get(partition)
            assert (queue is not None) == (phase in WITH_QUEUE), phase
            if queue is not None:
                assert queue.claim is claim
                assert claim is self.made[partition][-1], "what flows does so under the newest claim"
            if partition in self.ours:
                assert phase not in {LanePhase.UNASSIGNED, LanePhase.RELEASING}
            else:
                assert (phase, claim) == (LanePhase.UNASSIGNED, None)
                assert self.asked or self.store.lanes[partition + 1].owner != "one", "it was given back"
        assert self.lanes.phase(BESIDE) is (
            LanePhase.FLOWING if BESIDE in self.ours else LanePhase.UNASSIGNED
        )
        self.check_counts()

    def check_counts(self) -> None:
        phases = [self.lanes.phase(partition) for partition in PARTITIONS]
        flowing, halted = phases.count(LanePhase.FLOWING), sum(phase in COUNTED_HALTED for phase in phases)
        claiming = sum(phase in CLAIMING for phase in phases)
        assert self.ownership.counts() == {"lanes": flowing, "halted": halted, "claiming": claiming}
        measured = [gauge.labels(STREAM.aggregate)._value.get() for gauge in (LANES_OWNED, LANES_HALTED)]
        assert measured == [flowing, halted]

    async def end(self) -> None:
        """Whatever came before: what is assigned and not halted flows in the end."""
        self.store.halts.clear()
        await self.claims_known()
        await self.watched()
        await self.timed_out()
        for partition in (WALKED, BESIDE):
            if partition not in self.ours:
                self.assign(partition)
        await self.claims_made()
        await self.claims_known()
        await self.begin(WALKED)
        await self.begin(BESIDE)
        self.check()
        assert self.ownership.counts() == {"lanes": 2, "halted": 0, "claiming": 0}


Step = Callable[[Walker], Awaitable[None]]
STEPS: tuple[Step, ...] = (
    Walker.assigned,
    Walker.revoked,
    Walker.claims_made,
    Walker.claims_known,
    Walker.compared,
    Walker.halted,
    Walker.cleared,
    Walker.watched,
    Walker.refused,
    Walker.stuck,
    Walker.fenced,
    Walker.timed_out,
    Walker.stopped,
)


async def walker_after(history: tuple[Step, ...]) -> Walker:
    walker = Walker()
    walker.assign(BESIDE)
    await walker.claims_made()
    await walker.claims_known()
    await walker.begin(BESIDE)
    for step in history:
        await step(walker)
    return walker


async def test_whatever_comes_a_lane_is_in_one_phase_and_holds_what_that_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each step is tried in each situation that there is, and from each of them a lane comes to flow."""
    monkeypatch.setattr(lane_lifecycle, "_RECLAIM_AFTER_S", 3_600.0)
    taken, real = set(), LaneRegistry.move

    def move(lanes: LaneRegistry, life: LaneLife, phase: LanePhase, claim: Claim | None = None) -> None:
        taken.add((life.phase, phase))
        real(lanes, life, phase, claim)

    monkeypatch.setattr(LaneRegistry, "move", move)
    histories: deque[tuple[Step, ...]] = deque([()])
    met = {(await walker_after(())).situation()}
    while histories:
        history = histories.popleft()
        await (await walker_after(history)).end()
        for step in STEPS:
            walker = await walker_after((*history, step))
            walker.check()
            if walker.situation() not in met:
                met.add(walker.situation())
                histories.append((*history, step))
    assert {phase for phase, *_ in met} == ALL - {LanePhase.RELEASING}
    assert taken >= {(before, after) for before, afters in TRANSITIONS.items() for after in afters} - NEVER
