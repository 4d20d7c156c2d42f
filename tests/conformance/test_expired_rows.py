"""What a `CommandStore` and its `UnitOfWork` promise of rows whose time is over, and what removes them makes of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fakes.codecs import JsonCodec
from tests.fakes.commands import MemoryCommandStore
from tests.fakes.followers import MemoryFollower
from tests.support.engine.commands import Harness, codes, create_lanes, outcomes
from tests.support.engine.entity_contexts import Commands, tables
from tidemill.commands import expiry
from tidemill.commands.expiry import SERVICE, ExpirySweeper, FlowingLanes
from tidemill.commands.handlers import handlers_of
from tidemill.commands.internal_commands import InternalCommandWriter
from tidemill.commands.ports import CommandStore
from tidemill.contexts.cache_entries import cache_entries, context
from tidemill.domain.context import DecideSpec
from tidemill.domain.errors import CommitUnknown
from tidemill.domain.lane import Claim
from tidemill.domain.messages import Outcome
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool

STREAM = Stream.of(replace(context, partitions=2))
STATE = cache_entries.state
(ENDING,) = STATE.endings
PAST, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
FIRST = (datetime.min.replace(tzinfo=UTC), "")

entry = Commands(cache_entries)


@dataclass
class Subject:
    """A store with a stream of entries, and what a test does by hand."""

    store: CommandStore
    pool: Any = None

    def __post_init__(self) -> None:
        self.entries = Harness(STREAM, self.store)
        self.followed = MemoryFollower()
        self.lanes = FlowingLanes(self.followed)

    async def own(self, *partitions: int) -> None:
        """Claim lanes and let them flow."""
        claims = await self.entries.claim(partitions)
        await self.lanes.take(claims)
        self.lanes.begun([claim.lane.id for claim in claims])

    def sweeper(self, store: CommandStore | None = None) -> ExpirySweeper:
        return ExpirySweeper(
            STREAM,
            store=store or self.store,
            handler=handlers_of(STREAM, JsonCodec(STREAM), 1_000_000)[DecideSpec],
            writer=InternalCommandWriter(self.store, SystemClock()),
            lanes=self.lanes,
            every_s=60.0,
        )

    async def end(self, *keys: str, at: datetime = PAST) -> None:
        """Let the time of rows be over, as if it had passed."""
        if isinstance(self.store, MemoryCommandStore):
            held = self.store.tables.states[STATE.name]
            held.update({key: replace(held[key], expires_at=at) for key in keys})
        else:
            statement = "update cache_entries set expires_at = $1 where id = any($2::text[])"
            await self.pool.execute(statement, at, list(keys))

    async def kept(self) -> dict[str, tuple[str, int]]:
        """Return value and version of the rows that are not deleted."""
        if isinstance(self.store, MemoryCommandStore):
            rows = [vars(row) for row in self.store.tables.states.get(STATE.name, {}).values()]
        else:
            rows = await self.pool.fetch("select * from cache_entries")
        return {row["id"]: (row["value"], row["version"]) for row in rows if not row["deleted"]}

    async def logged(self) -> list[tuple[Any, ...]]:
        """Return type, service, outcome and events of what the log has, in order of lane and position."""
        if isinstance(self.store, MemoryCommandStore):
            rows: list[Any] = sorted(self.store.tables.log[1], key=lambda row: (row.lane, row.position))
            return [(row.type, row.service, row.outcome, row.events) for row in rows]
        found = await self.pool.fetch("select * from tm.log order by lane, position")
        return [(row["type"], row["service"], row["outcome"], row["events"]) for row in found]

    async def ledger(self) -> list[tuple[Any, ...]]:
        """Return how many records each ledger row consumed, how many it applied, and its reason."""
        if isinstance(self.store, MemoryCommandStore):
            rows: list[Any] = self.store.tables.ledger
            return [(row.to_offset - row.from_offset, row.applied, row.reason) for row in rows]
        found = await self.pool.fetch("select * from tm.batch where batch > 0 order by at, lane")
        return [(row["to_offset"] - row["from_offset"], row["applied"], row["reason"]) for row in found]


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject(MemoryCommandStore(STREAM))
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        if await connection.fetchval("select to_regclass('public.cache_entries')") is None:
            for statement in tables(STATE):
                await connection.execute(statement)
        await create_lanes(connection, STREAM)
    yield Subject(CommandDatabase(pool), pool)
    await close_pool(pool)


def create(key: str, value: str = "{}") -> Any:
    return entry("Create", key, value=value, expires_at=LATER)


def keys_of(partition: int, count: int) -> list[str]:
    topic = Harness(STREAM, MemoryCommandStore(STREAM)).topic
    names = (f"e{number}" for number in range(1_000))
    return [name for name in names if topic.lane(create(name)) == partition][:count]


async def test_what_is_over_is_listed_in_pages_by_its_time_and_key(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.entries.send(*map(create, "abcde"))
    await subject.end("b", "d", at=PAST)
    await subject.end("a", at=PAST + timedelta(days=1))
    await subject.entries.send(entry("Delete", "e"))
    first = await subject.store.expired(STATE, ENDING, FIRST, 2)
    assert first == [(PAST, "b"), (PAST, "d")]
    assert await subject.store.expired(STATE, ENDING, first[-1], 2) == [(PAST + timedelta(days=1), "a")]


async def test_a_row_is_removed_by_a_command_in_the_log_and_an_event_like_any_other(subject: Subject) -> None:
    await subject.own(0, 1)
    gone, stays = keys_of(0, 2)
    await subject.entries.send(create(gone, '{"a": 1}'), create(stays))
    await subject.end(gone)
    await subject.sweeper().look()
    assert await subject.kept() == {stays: ("{}", 1)}
    name = "tidemill.cache_entries.ExpireCacheEntry"
    assert (await subject.logged())[-1] == (name, SERVICE, Outcome.APPLIED.letter, 1)
    assert await subject.ledger() == [(2, 2, None), (0, 1, f"ordered: {name}")]
    assert subject.followed.woken == [subject.entries.lane_of(0)], "so that its event is sent at once"
    assert codes(await subject.entries.send(entry("Update", gone, value="{}"))) == ["NOT_FOUND"]


async def test_a_second_look_finds_nothing_and_writes_nothing(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.entries.send(create("a"))
    await subject.end("a")
    sweeper = subject.sweeper()
    await sweeper.look()
    before = await subject.ledger()
    await sweeper.look()
    assert await subject.ledger() == before


class Meanwhile:
    """A store whose answer is out of date: after a page was listed, something else happens first."""

    def __init__(self, store: CommandStore, act: Any) -> None:
        self._store = store
        self._act = act

    async def expired(self, *asked: Any) -> Sequence[tuple[datetime, str]]:
        listed = await self._store.expired(*asked)
        if listed:
            await self._act()
        return listed


async def test_a_row_that_was_replaced_after_a_sweep_saw_it_stays(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.entries.send(create("a"), create("b"))
    await subject.end("a", "b")

    async def replaced() -> None:
        assert outcomes(await subject.entries.send(create("a", '{"n": 2}'))) == {"applied": 1}

    store: Any = Meanwhile(subject.store, replaced)
    await subject.sweeper(store).look()
    kept = await subject.kept()
    assert {key: (json.loads(value), version) for key, (value, version) in kept.items()} == {
        "a": ({"n": 2}, 2)
    }


async def test_only_the_owner_of_a_lane_sweeps_it(subject: Subject) -> None:
    ours, theirs = keys_of(0, 1)[0], keys_of(1, 1)[0]
    await subject.own(0, 1)
    await subject.entries.send(create(ours), create(theirs))
    await subject.end(ours, theirs)
    await subject.lanes.drop([subject.entries.lane_of(1)])
    await subject.sweeper().look()
    assert list(await subject.kept()) == [theirs]


async def test_a_lane_that_was_lost_or_is_halted_is_left_and_the_others_are_swept(subject: Subject) -> None:
    lost, halted = keys_of(0, 1)[0], keys_of(1, 1)[0]
    await subject.own(0, 1)
    await subject.entries.send(create(lost), create(halted))
    await subject.end(lost, halted)
    claims = {claim.lane.partition: claim for claim in subject.lanes.claims.values()}
    await subject.store.claim(STREAM.aggregate, [0], "another")
    await subject.store.halt(claims[1], "HISTORY_BEHIND", "by the test")
    sweeper = subject.sweeper()
    await sweeper.look()
    assert {*await subject.kept()} == {lost, halted}
    await subject.own(0)
    await sweeper.look()
    assert {*await subject.kept()} == {halted}


async def test_a_lane_that_was_not_compared_yet_is_left(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.entries.send(create("a"))
    await subject.end("a")
    claims: list[Claim] = await subject.store.claim(STREAM.aggregate, [0, 1], "tidemill-tests")
    await subject.lanes.take(claims)
    subject.lanes.begun([claim.lane.id for claim in claims])
    await subject.sweeper().look()
    assert list(await subject.kept()) == ["a"]


async def test_more_than_a_page_is_removed_in_one_look(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "PAGE_ROWS", 3)
    await subject.own(0, 1)
    keys = [f"e{number}" for number in range(10)]
    await subject.entries.send(*map(create, keys))
    await subject.end(*keys)
    await subject.sweeper().look()
    assert await subject.kept() == {}
    logged = await subject.logged()
    assert sum(row[1] == SERVICE for row in logged) == 10


async def test_a_lost_answer_to_the_commit_removes_nothing_twice() -> None:
    subject = Subject(store := MemoryCommandStore(STREAM))
    await subject.own(0, 1)
    await subject.entries.send(create("a"))
    await subject.end("a")
    store.lose_commits = 1
    sweeper = subject.sweeper()
    with pytest.raises(CommitUnknown):
        await sweeper.look()
    await sweeper.look()
    assert sum(row[1] == SERVICE for row in await subject.logged()) == 1
