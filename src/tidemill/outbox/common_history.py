"""The common history of a lane's topic and its log, for an operator's decision how it continues.

Every event carries a running hash over the ids of all events before it (`tm_chain`), and so does every row of the
ledger and of the outbox. Where two hashes are equal, everything before them is, too; so the last such place is found by
bisection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from tidemill.outbox.ports import Fork, Tail


class Point(NamedTuple):
    """A point in the log: up to `position` there are `sequence` events, with the hash `chain`."""

    position: int
    sequence: int
    chain: int


class Agreement(NamedTuple):
    """The end of the common history: the topic differs after `sequence`, the log after `position`."""

    position: int
    sequence: int


ChainAt = Callable[[int], Awaitable[int | None]]
"""Returns the hash that the topic's event of a sequence carries, None if there is no such event."""


async def agreement(
    points: Sequence[Point], tail: Tail | None, forks: Sequence[Fork], chain_at: ChainAt
) -> Agreement:
    """Return the end of the common history. `points`: those of the log, ascending, its end last.

    A log without points was never written to, e.g. a database restored to before the first event.
    """
    if tail is None or not points:
        return Agreement(0, 0)
    known = [point for point in points if point.sequence <= tail.sequence]
    agreeing = 0
    upper = len(known)
    while agreeing < upper:
        middle = (agreeing + upper) // 2
        if await _agrees(known[middle], forks, chain_at):
            agreeing = middle + 1
        else:
            upper = middle
    if agreeing < len(known):
        return _last_whole(known[: agreeing + 1])
    if known and known[-1] == points[-1]:
        return _place(known[-1])
    return Agreement(tail.position, tail.sequence)  # the log holds all points of that time


class PointReader(Protocol):
    """The points of the log. Every call may raise `TransientError`."""

    async def points(self, lane_id: int) -> list[Point]:
        """Return what the log remembers of a lane's history, ascending, its end last: each batch, or finer."""
        ...

    async def points_between(self, lane_id: int, before: Point, end: Point) -> list[Point]:
        """Return a point for each event after `before`, up to `end`; none if the log lacks some."""
        ...


async def agreement_of_lane(
    log: PointReader, lane_id: int, tail: Tail | None, forks: Sequence[Fork], chain_at: ChainAt
) -> Agreement:
    """Return the end of a lane's common history: first by batches, then within the one that differs."""
    points = await log.points(lane_id)
    agreed = await agreement(points, tail, forks, chain_at)
    before = max((point for point in points if point.sequence <= agreed.sequence), default=Point(0, 0, 0))
    end = next((point for point in points if point.sequence > before.sequence), None)
    if tail is None or end is None:
        return agreed
    finer = await log.points_between(lane_id, before, end)
    return await agreement([before, *finer], tail, forks, chain_at) if finer else agreed


def in_force(sequence: int, forks: Sequence[Fork]) -> int:
    """Return the last event up to `sequence` that was not withdrawn."""
    for fork in reversed(forks):
        if fork.forked_at < sequence <= fork.continued_at:
            sequence = fork.forked_at
    return sequence


async def _agrees(point: Point, forks: Sequence[Fork], chain_at: ChainAt) -> bool:
    sequence = in_force(point.sequence, forks)
    return sequence == 0 or await chain_at(sequence) == point.chain


def _last_whole(points: Sequence[Point]) -> Agreement:
    """Return the last place before the last point that is no part of a position: a position is decided as a whole."""
    for point, following in reversed(list(pairwise(points))):
        if point.position != following.position:
            return _place(point)
    return Agreement(0, 0)


def _place(point: Point) -> Agreement:
    return Agreement(point.position, point.sequence)
