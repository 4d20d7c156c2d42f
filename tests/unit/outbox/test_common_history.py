"""Up to where a topic and the log tell the same history."""

from __future__ import annotations

import pytest

from tidemill.outbox.common_history import Agreement, Point, agreement, in_force
from tidemill.outbox.ports import Fork, Tail


class Topic:
    """A topic as its running hashes are told: sequence -> hash. `asked`: how often it was."""

    def __init__(self, *chains: int) -> None:
        self.chains = dict(enumerate(chains, start=1))
        self.asked = 0

    async def chain_at(self, sequence: int) -> int | None:
        self.asked += 1
        return self.chains.get(sequence)

    @property
    def tail(self) -> Tail | None:
        last = len(self.chains)
        return Tail(last, last, "x") if last else None


def log(*chains: int, first: int = 1) -> list[Point]:
    """A log with one event in each position, remembered from `first` on."""
    points = [Point(at, at, chain) for at, chain in enumerate(chains, start=1)]
    return points[first - 1 :]


@pytest.mark.parametrize(
    ("topic", "points", "found"),
    [
        pytest.param(Topic(1, 2, 3), log(1, 2, 3), (3, 3), id="the same"),
        pytest.param(Topic(1, 2, 3, 4, 5), log(1, 2, 3), (3, 3), id="a database that was set back"),
        pytest.param(Topic(1, 2, 3, 4, 5), log(1, 2, 3, 40, 50, 60), (3, 3), id="one that went on"),
        pytest.param(Topic(1, 2), log(1, 2, 3, 4), (2, 2), id="a topic that was truncated"),
        pytest.param(Topic(10, 20, 30), log(1, 2), (0, 0), id="another history from the start"),
        pytest.param(Topic(), log(1, 2), (0, 0), id="an empty topic"),
        pytest.param(Topic(1, 2), [], (0, 0), id="a log that was never written to"),
        pytest.param(Topic(1, 2), log(1, 2, 3, 4, first=4), (2, 2), id="a log that has let go of that time"),
        pytest.param(Topic(1, 2, 3), [Point(1, 1, 1), Point(4, 1, 1)], (4, 1), id="rejections at the end"),
    ],
)
async def test_what_agrees(topic: Topic, points: list[Point], found: tuple[int, int]) -> None:
    assert await agreement(points, topic.tail, (), topic.chain_at) == Agreement(*found)


@pytest.mark.parametrize("forked_at", range(0, 1_001, 77))
async def test_the_fork_is_found_by_halving(forked_at: int) -> None:
    same = list(range(1, forked_at + 1))
    topic = Topic(*same, *(-at for at in range(forked_at + 1, 1_001)))
    points = log(*range(1, 901))
    assert (await agreement(points, topic.tail, (), topic.chain_at)).sequence == min(forked_at, 900)
    assert topic.asked <= 11


async def test_what_was_withdrawn_before_does_not_count() -> None:
    """The log ends with a leap: what it has at 5 is event 3, the topic's 4 and 5 were withdrawn."""
    forks = (Fork(2, 3, 5, 5, 5, 5),)
    topic = Topic(1, 2, 3, -4, -5, 6, 7)
    points = [*log(1, 2, 3), Point(5, 5, 3)]
    assert await agreement(points, topic.tail, forks, topic.chain_at) == Agreement(5, 5)
    assert [in_force(sequence, forks) for sequence in range(1, 8)] == [1, 2, 3, 3, 3, 6, 7]
