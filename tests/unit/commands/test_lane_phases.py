"""The life of a lane: the table allows what can happen, in any order, and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.intakes import STREAM
from tidemill.commands.lane_phases import (
    CLAIMING,
    COUNTED_HALTED,
    STANDING,
    TRANSITIONS,
    WITH_QUEUE,
    ForbiddenTransition,
    LaneLife,
    LanePhase,
    LaneRegistry,
)
from tidemill.domain.lane import Claim

P = LanePhase
PAIRS = [(before, after) for before in P for after in P]
ALL = frozenset(P)
HELD = ALL - {P.UNASSIGNED, P.WANTED}
"""In these phases a claim is held; a lane that is wanted may hold one from before."""


class Lane:
    """Partition 0 of a registry, with every claim that was made for it, and each transition that it took."""

    def __init__(self) -> None:
        self.taken: list[tuple[LanePhase, LanePhase]] = []
        self.lanes = LaneRegistry(2, self._moved)
        self.made: list[Claim] = []
        self.life = LaneLife(0)

    def _moved(self, life: LaneLife, before: LanePhase) -> None:
        assert life.partition == 0
        self.life = life
        self.taken.append((before, life.phase))

    @property
    def phase(self) -> LanePhase:
        return self.lanes.phase(0)

    @property
    def late(self) -> Claim | None:
        """The newest claim that is not held."""
        return next((claim for claim in reversed(self.made) if claim is not self.life.claim), None)

    def claim(self) -> Claim:
        held = MemoryCommandStore(STREAM).lanes[1]
        self.made.append(Claim(held.lane, len(self.made) + 1, held.progress))
        return self.made[-1]

    def put(self, phase: LanePhase) -> None:
        """Lead it to a phase on the shortest way that the table has."""
        self.lanes.assign([0])
        for step in way_to(phase):
            if step is not P.WANTED or self.phase is not P.WANTED:
                self.lanes.move(self.life, step, self.claim())


def way_to(phase: LanePhase) -> list[LanePhase]:
    ways: dict[LanePhase, list[LanePhase]] = {P.WANTED: [P.WANTED]}
    waiting = deque([P.WANTED])
    while waiting:
        before = waiting.popleft()
        for after in sorted(TRANSITIONS[before] - ways.keys()):
            ways[after] = [*ways[before], after]
            waiting.append(after)
    return ways[phase]


# The table.


@pytest.mark.parametrize("phase", P)
def test_a_lane_can_come_to_every_phase_and_from_there_back_to_where_it_began(phase: LanePhase) -> None:
    lane = Lane()
    lane.put(phase)
    assert lane.phase is phase
    lane.lanes.release(lane.lanes.revoke([0]))
    assert (lane.phase, lane.life.claim) == (P.UNASSIGNED, None)


@pytest.mark.parametrize(
    ("before", "after"), [pair for pair in PAIRS if pair[1] not in TRANSITIONS[pair[0]]], ids=str
)
def test_a_transition_that_is_not_in_the_table_is_refused_by_both_names(
    before: LanePhase, after: LanePhase
) -> None:
    lane = Lane()
    lane.put(before)
    held, taken = lane.life.claim, list(lane.taken)
    with pytest.raises(
        ForbiddenTransition, match=rf"the lane of partition 0 cannot become {after}: it is {before}$"
    ):
        lane.lanes.move(lane.life, after, lane.claim())
    assert (lane.phase, lane.life.claim, lane.taken) == (before, held, taken)
    assert lane.lanes.count({before}) == (2 if before is P.UNASSIGNED else 1)


def test_a_lane_flows_only_when_it_was_compared() -> None:
    assert {before for before, afters in TRANSITIONS.items() if P.FLOWING in afters} == {
        P.COMPARING,
        P.RECOMPARING,
    }


def test_what_holds_a_claim_is_not_given_up_without_a_release() -> None:
    assert {before for before, afters in TRANSITIONS.items() if P.UNASSIGNED in afters} == {
        P.WANTED,
        P.RELEASING,
    }


def test_a_halt_ends_with_a_claim_or_a_revocation_only() -> None:
    out = {after for before in COUNTED_HALTED for after in TRANSITIONS[before] if after not in COUNTED_HALTED}
    assert out == {P.FLOWING, P.RELEASING}
    assert {before for before in COUNTED_HALTED if P.FLOWING in TRANSITIONS[before]} == {P.RECOMPARING}


# Whatever happens, in any order.

Event = Callable[[Lane], object]


def under(happens: Callable[[LaneRegistry, Claim], object], *, late: bool) -> Event:
    """What happens under the claim that the lane holds, or, `late`, under one that it does not hold any more."""

    def event(lane: Lane) -> None:
        claim = lane.late if late else lane.life.claim
        if claim is not None:
            happens(lane.lanes, claim)

    return event


def events() -> Iterable[tuple[str, Event]]:
    yield "assigned", lambda lane: lane.lanes.assign([0])
    yield "revoked", lambda lane: lane.lanes.revoke([0])
    yield "claimed", lambda lane: lane.lanes.take([lane.claim()])
    for word, late in (("", False), ("late ", True)):
        yield f"{word}compared", under(lambda lanes, claim: lanes.begin([claim]), late=late)
        yield f"{word}halted", under(lambda lanes, claim: lanes.halt(claim), late=late)
        yield f"{word}stuck", under(lambda lanes, claim: lanes.stick(claim), late=late)
        yield f"{word}resumed", under(lambda lanes, claim: lanes.resume(claim), late=late)
        yield f"{word}fenced", under(lambda lanes, claim: lanes.fence([claim]), late=late)
        yield f"{word}reclaimed", under(lambda lanes, claim: lanes.reclaim([claim]), late=late)
        yield f"{word}released", under(lambda lanes, claim: lanes.release([claim]), late=late)


EVENTS = dict(events())
Histories = list[tuple[str, ...]]
Situation = tuple[LanePhase, bool, bool]
"""A phase, whether a claim is held, and whether there is one of which answers may be late. Nothing else decides."""


def after(history: tuple[str, ...]) -> Lane:
    lane = Lane()
    for event in history:
        EVENTS[event](lane)
    return lane


def situation(lane: Lane) -> Situation:
    return lane.phase, lane.life.claim is not None, lane.late is not None


@pytest.fixture(scope="module")
def histories() -> list[tuple[str, ...]]:
    """The shortest one to each situation there is; every event was tried in each of them."""
    found: dict[Situation, tuple[str, ...]] = {situation(Lane()): ()}
    waiting = deque(found.values())
    while waiting:
        history = waiting.popleft()
        for event in EVENTS:
            here = situation(after((*history, event)))
            if here not in found:
                found[here] = (*history, event)
                waiting.append(found[here])
    return list(found.values())


def test_whatever_happens_follows_the_table_and_the_table_has_nothing_else(histories: Histories) -> None:
    taken = {pair for history in histories for event in EVENTS for pair in after((*history, event)).taken}
    assert taken == {pair for pair in PAIRS if pair[1] in TRANSITIONS[pair[0]]}
    assert {after(history).phase for history in histories} == ALL


def test_in_every_situation_a_lane_holds_what_its_phase_says_and_is_counted_once(
    histories: Histories,
) -> None:
    for history in histories:
        lane = after(history)
        if lane.phase in HELD:
            assert lane.life.claim is not None, history
        if lane.phase is P.UNASSIGNED:
            assert lane.life.claim is None, history
        counts = {phase: lane.lanes.count({phase}) for phase in P}
        assert sum(counts.values()) == 2, history
        assert counts[lane.phase] == (2 if lane.phase is P.UNASSIGNED else 1), history
        assert lane.lanes.claims_in(ALL) == ([] if lane.life.claim is None else [lane.life.claim]), history


def test_a_late_answer_under_an_earlier_claim_changes_nothing(histories: Histories) -> None:
    late = {event: happens for event, happens in EVENTS.items() if event.startswith("late")}
    for history in histories:
        for event, happens in late.items():
            lane = after(history)
            taken = list(lane.taken)
            happens(lane)
            assert lane.taken == taken, (history, event)


# What is told of each.


def test_a_claim_that_a_revocation_overtook_is_not_held() -> None:
    lane = Lane()
    lane.lanes.assign([0])
    lane.lanes.revoke([0])
    claim = lane.claim()
    assert lane.lanes.take([claim]) == [claim]
    assert lane.phase is P.UNASSIGNED


def test_a_lane_that_is_resumed_counts_as_halted_until_it_flows() -> None:
    lane = Lane()
    lane.put(P.STUCK)
    lane.lanes.resume(lane.made[-1])
    assert (lane.lanes.count(COUNTED_HALTED), lane.lanes.count(CLAIMING)) == (1, 1)
    assert not lane.lanes.claims_in(STANDING | WITH_QUEUE)
    claim = lane.claim()
    assert lane.lanes.take([claim]) == []
    assert (lane.lanes.count(COUNTED_HALTED), lane.lanes.count(CLAIMING)) == (1, 1)
    lane.lanes.begin([claim])
    assert (lane.lanes.count(COUNTED_HALTED), lane.lanes.count(CLAIMING)) == (0, 0)


def test_a_lane_that_is_fenced_holds_its_claim_and_is_claimed_again_only_while_nobody_works_it() -> None:
    lane = Lane()
    lane.put(P.FLOWING)
    first = lane.made[-1]
    lane.lanes.fence([first])
    assert lane.lanes.claims_in({P.FENCED}) == [first]
    lane.lanes.assign([0])
    second = lane.claim()
    lane.lanes.take([second])
    lane.lanes.begin([second])
    lane.lanes.fence([second])
    lane.lanes.reclaim([first])
    assert lane.phase is P.FENCED
    lane.lanes.reclaim([second])
    assert (lane.phase, lane.life.claim) == (P.WANTED, second)


def test_a_lane_that_is_stuck_and_then_fenced_stays_halted() -> None:
    lane = Lane()
    lane.put(P.STUCK)
    lane.lanes.fence([lane.made[-1]])
    assert lane.phase is P.HALTED


def test_a_partition_beyond_the_lanes_of_the_stream_is_left_alone() -> None:
    lanes = LaneRegistry(2)
    lanes.assign([1, 2, 3])
    assert lanes.partitions_in({P.WANTED}) == [1]
    assert lanes.claim_of(2, ALL) is None
    assert lanes.revoke([2, 3]) == []
