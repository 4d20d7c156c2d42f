"""The life of a lane in one process: its phases, the table of transitions, and the registry that writes them. Pure.

    UNASSIGNED > WANTED > COMPARING > FLOWING
    FLOWING > FENCED > WANTED                                another process claimed it, but did not take over
    COMPARING, FLOWING > HALTED                              an operator has to decide
    FLOWING > STUCK > HALTED                                 the same, with records that can still be applied
    HALTED, STUCK > RESUMED > RECOMPARING > FLOWING, HALTED  an operator has decided
    any that holds a claim > RELEASING > UNASSIGNED          revoked

A partition that is assigned again, without having been revoked, is claimed again: it arrives paused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tidemill.domain.lane import Claim


class LanePhase(StrEnum):
    """The phase of a lane. A halt is in the database as well: other processes record and clear it."""

    UNASSIGNED = "unassigned"
    """Another process owns its partition; no claim is held."""
    WANTED = "wanted"
    """To be claimed. A claim from before may still be held: after a fence, or if the partition was assigned again."""
    COMPARING = "comparing"
    """Claimed; the topics are compared with the log, which takes as long as a partition has no leader."""
    FLOWING = "flowing"
    """Its records are queued and applied."""
    STUCK = "stuck"
    """Halted at an offset that cannot be fetched: what was fetched before it is still applied, from its queue."""
    HALTED = "halted"
    """Stopped until an operator has acted."""
    RESUMED = "resumed"
    """Was halted, and is to be claimed again. It counts as halted until it flows."""
    RECOMPARING = "recomparing"
    """Was halted, is claimed, and is compared as in COMPARING."""
    FENCED = "fenced"
    """Another process has claimed it, although the group assigns it here; the claim is invalid, and still held."""
    RELEASING = "releasing"
    """Revoked; the claim is held until the batch in flight has ended."""


_P = LanePhase

TRANSITIONS: Final[Mapping[LanePhase, frozenset[LanePhase]]] = {
    _P.UNASSIGNED: frozenset({_P.WANTED}),
    _P.WANTED: frozenset({_P.COMPARING, _P.RELEASING, _P.UNASSIGNED}),
    _P.COMPARING: frozenset({_P.FLOWING, _P.HALTED, _P.WANTED, _P.RELEASING}),
    _P.FLOWING: frozenset({_P.STUCK, _P.HALTED, _P.FENCED, _P.WANTED, _P.RELEASING}),
    _P.STUCK: frozenset({_P.HALTED, _P.RESUMED, _P.RELEASING}),
    _P.HALTED: frozenset({_P.RESUMED, _P.RELEASING}),
    _P.RESUMED: frozenset({_P.RECOMPARING, _P.RELEASING}),
    _P.RECOMPARING: frozenset({_P.FLOWING, _P.HALTED, _P.RESUMED, _P.RELEASING}),
    _P.FENCED: frozenset({_P.WANTED, _P.RELEASING}),
    _P.RELEASING: frozenset({_P.UNASSIGNED, _P.WANTED}),
}
"""The allowed transitions of each phase; there are no others, and none from a phase to itself."""

WITH_QUEUE: Final = frozenset({_P.FLOWING, _P.STUCK})
"""In these, and in no other, a lane has a queue; it is that of the claim that is held."""

STANDING: Final = frozenset({_P.STUCK, _P.HALTED})
"""Halted, and not resumed yet."""

TO_CLAIM: Final = frozenset({_P.WANTED, _P.RESUMED})
IN_COMPARISON: Final = frozenset({_P.COMPARING, _P.RECOMPARING})

CLAIMING: Final = TO_CLAIM | IN_COMPARISON
"""What health counts as `claiming`."""

COUNTED_HALTED: Final = STANDING | {_P.RESUMED, _P.RECOMPARING}
"""What health and the metric count as halted: the operator sees it end when the lane flows."""


class ForbiddenTransition(RuntimeError):
    """The table has no such transition: a mistake in this program."""

    def __init__(self, partition: int, before: LanePhase, after: LanePhase) -> None:
        """Name both phases."""
        super().__init__(f"the lane of partition {partition} cannot become {after}: it is {before}")


@dataclass(slots=True, eq=False)
class LaneLife:
    """One lane in this process; only `LaneRegistry.move` changes it.

    `claim`: the newest one, held from when it was made until it is released; None before and after.
    """

    partition: int
    phase: LanePhase = LanePhase.UNASSIGNED
    claim: Claim | None = None


class LaneRegistry:
    """All lanes of a stream in this process.

    The methods after `move` are the events of a lane's life. Each skips the lanes to which it cannot happen any
    more, since something else came first: most are the end of a wait.
    """

    def __init__(self, lanes: int, moved: Callable[[LaneLife, LanePhase], None] = lambda *_: None) -> None:
        """`lanes`: of the stream; partitions beyond them are ignored.

        `moved`: called after every transition, with the phase before.
        """
        self.partitions: Final = range(lanes)
        self._lives = [LaneLife(partition) for partition in self.partitions]
        self._counts = Counter({LanePhase.UNASSIGNED: lanes})
        self._moved = moved

    def move(self, life: LaneLife, phase: LanePhase, claim: Claim | None = None) -> None:
        """Change a lane's phase: nothing else does. `claim`: a new one, which replaces the held one."""
        before = life.phase
        if phase not in TRANSITIONS[before]:
            raise ForbiddenTransition(life.partition, before, phase)
        life.phase = phase
        life.claim = None if phase is LanePhase.UNASSIGNED else claim or life.claim
        self._counts[before] -= 1
        self._counts[phase] += 1
        self._moved(life, before)

    # --- look-ups ---

    def phase(self, partition: int) -> LanePhase:
        """Return a lane's phase."""
        return self._lives[partition].phase

    def count(self, phases: Collection[LanePhase]) -> int:
        """Return how many lanes are in one of these phases."""
        return sum(self._counts[phase] for phase in phases)

    def partitions_in(self, phases: Collection[LanePhase]) -> list[int]:
        """Return the partitions of the lanes in one of these phases, ascending."""
        return [life.partition for life in self._lives if life.phase in phases]

    def claims_in(self, phases: Collection[LanePhase]) -> list[Claim]:
        """Return the claims that the lanes in one of these phases hold."""
        return [life.claim for life in self._lives if life.phase in phases and life.claim is not None]

    def claim_of(self, partition: int, phases: Collection[LanePhase]) -> Claim | None:
        """Return the claim that a lane holds, if it is in one of these phases."""
        return next((life.claim for life in self._of([partition]) if life.phase in phases), None)

    def holds(self, claim: Claim, phases: Collection[LanePhase]) -> bool:
        """Tell whether a lane still has this claim, and is in one of these phases."""
        return self.claim_of(claim.lane.partition, phases) is claim

    def _of(self, partitions: Iterable[int]) -> list[LaneLife]:
        return [self._lives[partition] for partition in partitions if partition in self.partitions]

    def _under(self, claims: Iterable[Claim], phases: Collection[LanePhase]) -> list[LaneLife]:
        return [self._lives[claim.lane.partition] for claim in claims if self.holds(claim, phases)]

    # --- events ---

    def assign(self, partitions: Iterable[int]) -> None:
        """Want a claim, whatever the phase before; a halted lane counts as halted until it flows."""
        for life in self._of(partitions):
            if life.phase not in TO_CLAIM:
                halted = life.phase in COUNTED_HALTED
                self.move(life, LanePhase.RESUMED if halted else LanePhase.WANTED)

    def take(self, claims: Iterable[Claim]) -> list[Claim]:
        """Hold new claims, and begin to compare; return those of lanes that were revoked while they were made."""
        lost = []
        for claim in claims:
            life = self._lives[claim.lane.partition]
            if life.phase is LanePhase.WANTED:
                self.move(life, LanePhase.COMPARING, claim)
            elif life.phase is LanePhase.RESUMED:
                self.move(life, LanePhase.RECOMPARING, claim)
            else:
                lost.append(claim)
        return lost

    def begin(self, claims: Iterable[Claim]) -> None:
        """Let lanes flow that were found consistent."""
        for life in self._under(claims, IN_COMPARISON):
            self.move(life, LanePhase.FLOWING)

    def halt(self, claim: Claim) -> bool:
        """Halt a lane whose halt is recorded; return whether it was flowing until now, or about to."""
        halted = self._under([claim], IN_COMPARISON | WITH_QUEUE)
        for life in halted:
            self.move(life, LanePhase.HALTED)
        return bool(halted)

    def stick(self, claim: Claim) -> bool:
        """Stop a lane after what was fetched; return whether it was flowing until now."""
        stuck = self._under([claim], {LanePhase.FLOWING})
        for life in stuck:
            self.move(life, LanePhase.STUCK)
        return bool(stuck)

    def resume(self, claim: Claim) -> bool:
        """Let a lane be claimed again whose halt was cleared; return whether it was halted until now."""
        resumed = self._under([claim], STANDING)
        for life in resumed:
            self.move(life, LanePhase.RESUMED)
        return bool(resumed)

    def fence(self, claims: Iterable[Claim]) -> None:
        """Stop lanes that another process has claimed; one that is stuck stays halted."""
        for life in self._under(claims, WITH_QUEUE):
            stuck = life.phase is LanePhase.STUCK
            self.move(life, LanePhase.HALTED if stuck else LanePhase.FENCED)

    def reclaim(self, claims: Iterable[Claim]) -> None:
        """Want a claim again for lanes that are still fenced, still assigned, and idle in this process."""
        for life in self._under(claims, {LanePhase.FENCED}):
            self.move(life, LanePhase.WANTED)

    def revoke(self, partitions: Iterable[int]) -> list[Claim]:
        """Stop lanes that another process owns from now on; return the claims to release."""
        lives = self._of(partitions)
        for life in lives:
            if life.claim is not None and life.phase is not LanePhase.RELEASING:
                self.move(life, LanePhase.RELEASING)
            elif life.phase is LanePhase.WANTED:
                self.move(life, LanePhase.UNASSIGNED)
        return [life.claim for life in lives if life.claim is not None]

    def release(self, claims: Iterable[Claim]) -> list[Claim]:
        """Drop the claims of revoked lanes; return those that were held until now."""
        lives = self._under(claims, {LanePhase.RELEASING})
        released = [life.claim for life in lives if life.claim is not None]
        for life in lives:
            self.move(life, LanePhase.UNASSIGNED)
        return released
