"""What the service itself decides between batches is the same wherever those were cut.

Expiry, lapse and the removal of superseded facts look at the same positions of a lane, at the same times, as if each
record were a batch. Each run has examples of its own: a few in the suite, many in `make trials`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest

from tests.conformance.superseded_points import BY_NUMBER, BY_TIME, OLD, YEAR, abandoned, completed, opened
from tests.fakes.codecs import JsonCodec
from tests.fakes.commands import MemoryCommandStore
from tests.fakes.followers import MemoryFollower
from tests.support.engine.any_commands import KEYS, LATER, cut, random_commands
from tests.support.engine.built_in import BUILT_IN, FULL
from tests.support.engine.commands import FakeRecord, Harness
from tests.support.security.principals import MovedClock
from tests.unit.commands.test_entity_cuts import facts as facts_with_ids
from tidemill.commands import superseded
from tidemill.commands.handlers import handlers_of
from tidemill.commands.sweepers import with_sweepers
from tidemill.contexts.time_series import context as time_series
from tidemill.domain.context import Context
from tidemill.domain.messages import CommandBase
from tidemill.domain.stream import Stream
from tidemill.runtime.periodic import Periodic

HOUR = timedelta(hours=1)
RUNS, COMMANDS = (40, 400) if FULL else (1, 150)
OWN = "tidemill."
"""What the service's own names begin with."""
OWN_ID = re.compile(rb'"command_id":"[^"]*"(?=,"service_name":"tidemill[.])')

STREAMS = {
    name: (replace(stream, partitions=1), context)
    for name, context in BUILT_IN.items()
    for stream in [Stream.of(context)]
    if stream.removals or any(state.endings for state in stream.states)
}


@dataclass(frozen=True)
class Periods:
    """No service runs here by itself."""

    expiry_every_s: float = 60.0
    superseded_every_s: float = 60.0


@dataclass
class Piece:
    """Records in a row, and what comes after them: time, and then a look of each service."""

    records: list[FakeRecord]
    passes: timedelta


@dataclass
class OwnLane:
    """The lane of a stream with the services that write to it, on a clock that is moved."""

    stream: Stream

    def __post_init__(self) -> None:
        self.clock = MovedClock()
        self.store = MemoryCommandStore(self.stream)
        self.store.clock = self.clock
        self.harness = Harness(self.stream, self.store)

    async def own(self) -> list[Periodic]:
        """Claim the lane; return the services, in the order in which they look."""
        handlers = handlers_of(self.stream, JsonCodec(self.stream), 1_000_000)
        follower, services = with_sweepers(self.stream, self.store, handlers, MemoryFollower(), Periods())
        claims = await self.harness.claim()
        await follower.take(claims)
        follower.begun([claim.lane.id for claim in claims])
        return [service for service in services.values() if isinstance(service, Periodic)]

    async def play(self, pieces: Sequence[Piece], sizes: Sequence[int]) -> None:
        """Apply each piece in batches of these sizes, and let the services look after it."""
        services = await self.own()
        for piece in pieces:
            for batch in cut(piece.records, sizes):
                await self.harness.apply(*batch)
            self.clock.at += piece.passes
            for service in services:
                await service.look()

    def services_rows(self) -> Counter[str]:
        """Return how often each command of the service's own is in the log."""
        return Counter(
            row.type or "" for row in self.store.tables.log[1] if (row.service or "").startswith(OWN)
        )


def facts(store: MemoryCommandStore) -> Any:
    """Return the rows, the facts, the events and the log, without the ids of the service's own commands."""
    rows, appended, events, log = facts_with_ids(store)
    return rows, appended, [(*event, OWN_ID.sub(b"", payload)) for *event, payload in events], log


def sooner(command: CommandBase, source: random.Random, clock: MovedClock) -> CommandBase:
    """Return a command with another time at which its row is over, if that is later than any test."""
    if getattr(command, "expires_at", None) != LATER:
        return command
    return command.model_copy(update={"expires_at": clock.at + source.randint(1, 60) * HOUR})


def series_commands(source: random.Random) -> Iterator[CommandBase]:
    """Yield commands about three series that mostly succeed, and random ones, which mostly do not."""
    axes = dict(zip(KEYS, (BY_TIME, BY_NUMBER, BY_TIME), strict=True))
    yield from (axis.create(key) for key, axis in axes.items())
    others = random_commands(time_series, source, KEYS)
    while True:
        key, size = source.choice(KEYS), source.randint(1, 4)
        axis = axes[key]
        times = {"times": [OLD + source.randrange(3) * YEAR for _ in range(size)]} if axis is BY_TIME else {}
        yield axis.append(key, size, **times)
        yield axis.save(key, size, **times) if source.random() < 0.3 else opened(key)
        yield from islice(others, source.randrange(3))
        yield axis.fill(key, size)
        yield source.choice([completed(key, size), completed(key, size), abandoned(key), axis.append(key, 1)])


def pieces_of(context: Context, stream: Stream, source: random.Random) -> list[Piece]:
    """Return random commands in pieces; between some of them an hour passes, so that saves rest and rows are over."""
    lane = OwnLane(stream)
    every = series_commands(source) if context is time_series else random_commands(context, source, KEYS)
    commands = islice(every, COMMANDS)
    records = [lane.harness.topic.record(sooner(command, source, lane.clock)) for command in commands]
    sizes = [source.randint(1, 20) for _ in range(COMMANDS // 10)]
    return [Piece(list(piece), source.choice([0, 0, 2]) * HOUR) for piece in cut(records, sizes)]


async def played(stream: Stream, pieces: Sequence[Piece], sizes: Sequence[int]) -> OwnLane:
    lane = OwnLane(stream)
    await lane.play(pieces, sizes)
    return lane


@pytest.mark.parametrize("name", STREAMS)
def test_no_cut_changes_what_the_service_decides_between_batches(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superseded, "MAX_ROWS", 3)
    stream, context = STREAMS[name]
    source = random.Random(f"{seed} {name}")
    for _ in range(RUNS):
        pieces = pieces_of(context, stream, source)
        sizes = [source.randint(1, 7) for _ in range(4)]
        one_by_one = asyncio.run(played(stream, pieces, [1] * COMMANDS))
        batched = asyncio.run(played(stream, pieces, sizes))
        assert facts(batched.store) == facts(one_by_one.store), sizes
        assert batched.services_rows() == one_by_one.services_rows()


@pytest.mark.parametrize("name", STREAMS)
def test_each_command_of_the_service_s_own_comes_between_batches(name: str) -> None:
    """So that the test above is not one of looks at nothing."""
    stream, context = STREAMS[name]
    own: Counter[str] = Counter()
    for number in range(3):
        pieces = pieces_of(context, stream, random.Random(number))
        own += asyncio.run(played(stream, pieces, [])).services_rows()
    endings = [ending.command for state in stream.states for ending in state.endings]
    assert own.keys() == {*stream.removals, *map(context.full_name, endings)}
