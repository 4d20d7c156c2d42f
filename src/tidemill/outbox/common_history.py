"""Up to where a lane's topic and its log tell the same history: asked when somebody decides how it goes on.

Every event carries a running hash over the ids of all events before it (`tm_chain`), and so does every row of the
ledger and of the outbox. Where two hashes are equal, all that stands before them is; so the last such place is found by
halving.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from tidemill.outbox.ports import Fork, Tail


class Point(NamedTuple):
    """A place that the log remembers: behind `position` there are `sequence` events, with the hash `chain`."""

    position: int
    sequence: int
    chain: int


class Agreement(NamedTuple):
    """Up to where both tell the same: what the topic has behind `sequence`, and the log behind `position`, differs."""

    position: int
    sequence: int


ChainAt = Callable[[int], Awaitable[int | None]]
"""Returns the hash that the topic's event of a sequence carries, None if there is no such event."""


async def agreement(
    points: Sequence[Point], tail: Tail | None, forks: Sequence[Fork], chain_at: ChainAt
) -> Agreement:
    """Return up to where log and topic agree. `points`: all that the log remembers, ascending, its end last.

    A log that remembers nothing was never written to: a database that was restored to before the first event, say.
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
        return _place(known[agreeing - 1]) if agreeing else Agreement(0, 0)
    if known and known[-1] == points[-1]:
        return _place(known[-1])
    return Agreement(tail.position, tail.sequence)  # all that the log remembers of that time is there


def in_force(sequence: int, forks: Sequence[Fork]) -> int:
    """Return the last event up to `sequence` that was not withdrawn."""
    for fork in reversed(forks):
        if fork.forked_at < sequence <= fork.continued_at:
            sequence = fork.forked_at
    return sequence


async def _agrees(point: Point, forks: Sequence[Fork], chain_at: ChainAt) -> bool:
    sequence = in_force(point.sequence, forks)
    return sequence == 0 or await chain_at(sequence) == point.chain


def _place(point: Point) -> Agreement:
    return Agreement(point.position, point.sequence)
