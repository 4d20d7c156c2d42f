"""The common history that is found in two stages, by batches and within one, is that which all points give."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from tidemill.outbox.common_history import Agreement, Point, agreement, agreement_of_lane
from tidemill.outbox.ports import Fork, Tail

EVENTS_OF_POSITIONS = st.lists(st.integers(0, 3), min_size=1, max_size=8)
BATCHES = st.lists(EVENTS_OF_POSITIONS, min_size=1, max_size=6)


@dataclass
class Log:
    """A `PointReader`. `batches`: of each, a point per position; `first`: the batch before which none is left.

    `forked_at`: the last event whose hash is that of the topic's history; those behind it are of history `other`.
    """

    batches: Sequence[Sequence[Point]]
    first: int = 0
    forked_at: int = 0
    other: int = 2

    async def points(self, lane_id: int) -> list[Point]:
        return [batch[-1] for batch in self.batches[self.first :]]

    async def points_between(self, lane_id: int, before: Point, end: Point) -> list[Point]:
        found, at = list[Point](), before
        for point in (point for batch in self.batches[self.first :] for point in batch):
            if before.position < point.position <= end.position:
                found += self._events(point.position, at.sequence, point.sequence)
                at = point
        complete = self.first == 0 or before.position >= self.batches[self.first - 1][-1].position
        return found if complete else []

    def _events(self, position: int, before: int, last: int) -> list[Point]:
        """Return a point for each event of a position."""
        numbers = range(before + 1, last + 1)
        return [Point(position, number, hash_of(number, self.forked_at, self.other)) for number in numbers]

    def all_points(self) -> list[Point]:
        """Return the points of batches and those within them, as the two stages know them."""
        known = {Point(0, 0, 0)}
        for batch in self.batches:
            before = max(known, key=lambda point: point.sequence)
            for point in batch:
                known.update(self._events(point.position, before.sequence, point.sequence))
                known.update([point] if point is batch[-1] else [])
                before = point
        return sorted(known)


def log_of(batches: Sequence[Sequence[int]], forked_at: int, other: int) -> Log:
    """Return a log whose hashes are those of history `other` after event `forked_at`."""
    made: list[list[Point]] = []
    position = sequence = 0
    for batch in batches:
        made.append([])
        for events in batch:
            position, sequence = position + 1, sequence + events
            made[-1].append(Point(position, sequence, hash_of(sequence, forked_at, other)))
    return Log(made, forked_at=forked_at, other=other)


def hash_of(sequence: int, forked_at: int, history: int) -> int:
    return sequence if sequence <= forked_at else history * 1_000 + sequence


def found(
    log: Log, tail: Tail | None, forked_at: int, forks: Sequence[Fork] = ()
) -> tuple[Agreement, Agreement]:
    """Return what both stages find, and what one stage finds in all points."""

    async def chain_at(sequence: int) -> int | None:
        known = tail is not None and 1 <= sequence <= tail.sequence
        return hash_of(sequence, forked_at, 1) if known else None

    async def both() -> tuple[Agreement, Agreement]:
        two = await agreement_of_lane(log, 1, tail, forks, chain_at)
        return two, await agreement(log.all_points(), tail, forks, chain_at)

    return asyncio.run(both())


@given(batches=BATCHES, forked_at=st.integers(0, 40), topic=st.integers(0, 60))
def test_two_stages_find_what_one_finds(batches: list[list[int]], forked_at: int, topic: int) -> None:
    log = log_of(batches, forked_at, other=2)
    tail = Tail(topic + 100, topic, "e:1") if topic else None
    two, one = found(log, tail, forked_at)
    assert two == one


@given(batches=BATCHES, data=st.data())
def test_what_is_found_is_the_last_event_that_both_have(
    batches: list[list[int]], data: st.DataObject
) -> None:
    """Where the topic ends within a position, that part counts; a position of which a part differs is left out."""
    ends = [point.sequence for batch in log_of(batches, 0, other=2).batches for point in batch]
    last = ends[-1]
    forked_at, topic = data.draw(st.integers(0, last)), data.draw(st.integers(1, last + 5))
    two, _ = found(log_of(batches, forked_at, other=2), Tail(topic + 100, topic, "e:1"), forked_at)
    whole = max((end for end in ends if end <= forked_at), default=0)
    assert two.sequence == (topic if topic <= forked_at else whole)


def test_a_topic_that_ends_within_a_position_of_another_history_ends_before_it() -> None:
    """Event 3 is the first of three of position 2, and in the topic that of another command."""
    two, one = found(log_of([[2, 3]], 2, other=2), Tail(2, 3, "e:1"), 2)
    assert two == one == Agreement(1, 2)


def test_a_position_that_is_longer_in_the_log_is_not_common() -> None:
    """In the topic the command of position 2 has one event, and event 4 is that of the next one."""
    two, one = found(log_of([[2, 3]], 3, other=2), Tail(3, 4, "e:1"), 3)
    assert two == one == Agreement(1, 2)


@given(batches=BATCHES, first=st.integers(1, 6), forked_at=st.integers(0, 40), topic=st.integers(1, 60))
def test_a_log_that_lacks_what_is_between_is_asked_by_batches_only(
    batches: list[list[int]], first: int, forked_at: int, topic: int
) -> None:
    """Where it lacks some, the answer is never further than with all of them, unless it knows nothing of that time."""
    whole = log_of(batches, forked_at, other=2)
    log = replace(whole, first=min(first, len(batches) - 1))
    tail = Tail(topic + 100, topic, "e:1")
    two, _ = found(log, tail, forked_at)
    complete, _ = found(whole, tail, forked_at)
    known = asyncio.run(log.points(1))
    if known[0].sequence <= topic:
        assert two.sequence <= complete.sequence
    else:
        assert two == (Agreement(topic + 100, topic) if log.first else complete)
