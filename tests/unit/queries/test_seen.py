"""The token of what was seen, and what its numbers mean after lanes were reconciled."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.seen import (
    HistoryFork,
    SeenLane,
    SeenNumber,
    SeenProgress,
    TokenState,
    format_seen,
    merged,
    parse_seen,
    state_of,
)

A, B = SeenLane("market-data", 17), SeenLane("connector-profiles", 3)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", {}),
        ("market-data.17=4711", {A: SeenNumber(1, 4711)}),
        ("market-data.17=4711,connector-profiles.3=12;t=2", {A: SeenNumber(1, 4711), B: SeenNumber(2, 12)}),
        ("  market-data.17=0 ,\tconnector-profiles.3=12;  t=1 ", {A: SeenNumber(1, 0), B: SeenNumber(1, 12)}),
        ("market-data.17=999999999999999", {A: SeenNumber(1, 999_999_999_999_999)}),
    ],
)
def test_a_token_is_read(text: str, seen: dict[SeenLane, SeenNumber]) -> None:
    assert parse_seen(text) == seen


@pytest.mark.parametrize(
    "text",
    [
        "market-data.17",
        "market-data=4711",
        "market-data.17=4711,",
        ",market-data.17=4711",
        "market-data.17=04711",
        "market-data.017=4711",
        "market-data.17=-1",
        "market-data.17=+1",
        "market-data.17=1.0",
        'market-data.17="1"',
        "market-data.17=?1",
        "market-data.17=1;t=0",
        "market-data.17=1;t=01",
        "market-data.17=1;t",
        "market-data.17=1;x=1",
        "market-data.17=1;t=1;t=2",
        "market-data.17=1 ;t=2",
        "market-data.17 = 1",
        "Market-Data.17=1",
        "market--data.17=1",
        "market-data.17=\u0661",
        "market-data.17=1\n",
        "market-data.17=1\x00",
        "market-data.17=1, market-data.17=2",
        "market-data.999999=1",
        "market-data.17=1000000000000000",
        "market-data.17=1" + " " * 9000,
        ", ".join(f"market-data.{partition}=1" for partition in range(65)),
    ],
)
def test_a_malformed_token_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_seen(text)
    assert refused.value.code is RequestCode.BAD_TOKEN
    (fault,) = refused.value.faults
    assert (fault.kind, fault.where) == ("header", "Tidemill-Seen")


def test_sixty_four_lanes_are_enough_for_a_whole_aggregate() -> None:
    assert len(parse_seen(", ".join(f"market-data.{partition}=1" for partition in range(64)))) == 64


def test_what_is_written_is_read_and_one_text_stands_for_it(seed: int) -> None:
    random = Random(seed)
    for _ in range(200):
        seen = {
            SeenLane(random.choice(["a", "market-data", "b2-c"]), random.randrange(100)): SeenNumber(
                random.choice([1, 1, 2, 30]), random.randrange(10**15)
            )
            for _ in range(random.randrange(20))
        }
        shuffled = dict(random.sample(list(seen.items()), len(seen)))
        assert parse_seen(format_seen(seen)) == seen
        assert format_seen(seen) == format_seen(shuffled)


def test_the_maximum_of_each_lane_is_kept_and_a_later_timeline_has_seen_more() -> None:
    first = {A: SeenNumber(1, 10), B: SeenNumber(1, 5)}
    second = {A: SeenNumber(1, 9), B: SeenNumber(2, 4)}
    assert merged(first, second) == merged(second, first) == {A: SeenNumber(1, 10), B: SeenNumber(2, 4)}
    assert merged() == {}


def test_a_number_beyond_the_end_does_not_exist_unless_that_is_undecided() -> None:
    beyond, newer = SeenNumber(1, 6), SeenNumber(2, 3)
    lane = SeenProgress(sequence=5)
    assert state_of(SeenNumber(1, 5), lane) is TokenState.REACHED
    for number in (beyond, newer):
        assert state_of(number, lane) is TokenState.UNKNOWN
        assert state_of(number, SeenProgress(sequence=5, halted=True)) is TokenState.HALTED
        assert state_of(number, SeenProgress(sequence=5, compared=False)) is TokenState.BEHIND
    assert state_of(beyond, None) is TokenState.UNKNOWN


def test_a_read_model_waits_for_no_event_that_was_withdrawn() -> None:
    """The end of a lane right after a reconciliation is a number without an event."""
    lane = SeenProgress(sequence=15, timeline=2, forks=(HistoryFork(2, 10, 15),), folded=10)
    assert state_of(SeenNumber(2, 15), lane) is TokenState.REACHED
    assert state_of(SeenNumber(1, 12), lane) is TokenState.WITHDRAWN


@dataclass
class World:
    """A lane with its topic, a read model and backups. Writes are known by their ids, whatever their numbers."""

    random: Random
    rows: dict[int, int] = field(default_factory=dict)
    end: int = 0
    timeline: int = 1
    published: int = 0
    topic: dict[int, int] = field(default_factory=dict)
    forks: tuple[HistoryFork, ...] = ()
    folded: dict[int, int] = field(default_factory=dict)
    tokens: dict[int, SeenNumber] = field(default_factory=dict)
    backup: tuple[object, ...] | None = None
    writes: int = 0

    def progress(self, folded: int | None = None) -> SeenProgress:
        return SeenProgress(sequence=self.end, timeline=self.timeline, forks=self.forks, folded=folded)

    @property
    def checkpoint(self) -> int:
        return max(self.folded, default=0)

    def write(self) -> None:
        self.end += 1
        self.writes += 1
        self.rows[self.end] = self.writes
        self.tokens[self.writes] = SeenNumber(self.timeline, self.end)

    def publish(self) -> None:
        """Send some of what was not sent."""
        due = sorted(
            number for number in self.rows if number > max(self.published, max(self.topic, default=0))
        )
        for number in due[: self.random.randint(1, 3)]:
            self.topic[number] = self.rows[number]
            self.published = number

    def project(self) -> None:
        """Fold the next event in force; one that folded what was withdrawn stands still until it is rebuilt."""
        if any(self.rows.get(number) != write for number, write in self.folded.items()):
            return
        due = sorted(number for number, write in self.topic.items() if self.rows.get(number) == write)
        for number in [number for number in due if number > self.checkpoint][:1]:
            self.folded[number] = self.topic[number]

    def rebuild(self) -> None:
        self.folded = {
            number: write for number, write in self.topic.items() if self.rows.get(number) == write
        }

    def save(self) -> None:
        state = (self.end, self.timeline, self.published, self.forks, dict(self.folded))
        self.backup = (dict(self.rows), *state)

    def restore(self) -> None:
        """Return the database to its backup. What nobody else has heard of is lost without a trace."""
        if self.backup is None:
            return
        rows, self.end, self.timeline, self.published, self.forks, self.folded = self.backup  # type: ignore[assignment]
        self.rows, self.folded = dict(rows), dict(self.folded)  # type: ignore[call-overload]
        known = self.forks
        self.compare()
        if self.forks == known:
            held = set(self.rows.values())
            self.tokens = {write: number for write, number in self.tokens.items() if write in held}

    def truncate(self) -> None:
        """The topic loses its end."""
        keep = self.random.randint(max(0, max(self.topic, default=0) - 3), max(self.topic, default=0))
        self.topic = {number: write for number, write in self.topic.items() if number <= keep}
        self.compare()

    def compare(self) -> None:
        """What a claim finds, and what `lanes reconcile` does then."""
        tail = max(self.topic, default=0)
        agreed = max(
            (number for number, write in self.topic.items() if self.rows.get(number) == write), default=0
        )
        if tail > agreed:
            self._begin(agreed, tail)
        elif self.published > tail:
            self._begin(tail, tail)

    def _begin(self, forked_at: int, continued_at: int) -> None:
        by = continued_at - forked_at
        self.rows = {number + (by if number > forked_at else 0): write for number, write in self.rows.items()}
        self.end = max(self.end, forked_at) + by
        known = [number.timeline for number in self.tokens.values()]
        self.timeline = max([self.timeline, *known]) + 1
        self.published = continued_at
        end = None if self.random.random() < 0.2 else self.end
        self.forks = (*self.forks, HistoryFork(self.timeline, forked_at, continued_at, end))

    def check(self) -> None:
        for write, number in self.tokens.items():
            state = state_of(number, self.progress())
            if self.rows.get(number.sequence) == write:
                forgotten = any(fork.end is None for fork in self.forks)
                assert state is TokenState.REACHED or (forgotten and state is TokenState.WITHDRAWN)
            else:
                assert state is TokenState.WITHDRAWN, (write, number, self)
            if state_of(number, self.progress(self.checkpoint)) is TokenState.REACHED:
                assert write in self.folded.values(), (write, number, self)
        shown = self.progress(self.checkpoint).shown
        assert state_of(shown, self.progress(self.checkpoint)) in (TokenState.REACHED, TokenState.WITHDRAWN)
        assert state_of(self.progress().shown, self.progress()) is TokenState.REACHED


@pytest.mark.parametrize("run", range(30))
def test_a_token_is_reached_only_where_its_write_is_shown(run: int, seed: int) -> None:
    """Writers, relay, projector, lost topics and restored databases in any order."""
    random = Random(f"{seed} {run}")
    world = World(random)
    steps = [world.write] * 6 + [world.publish] * 4 + [world.project] * 4
    steps += [world.rebuild, world.save, world.restore, world.truncate]
    for _ in range(150):
        random.choice(steps)()
        world.check()
    world.rebuild()
    for write, number in world.tokens.items():
        if world.topic.get(number.sequence) == write and world.rows.get(number.sequence) == write:
            state = state_of(number, world.progress(world.checkpoint))
            assert state in (TokenState.REACHED, TokenState.WITHDRAWN)
