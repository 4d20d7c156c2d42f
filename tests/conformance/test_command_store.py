"""What every `CommandStore` and its `UnitOfWork` promise, asked of the fake and of the real one alike.

A `UnitOfWork` is a `SharedTransaction`, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.commands import FakeRecord, Harness, base, codes, create_lanes, outcomes
from tidemill.commands.numbering import BatchRows, LaneNumbering
from tidemill.commands.ports import CommandStore, SharedTransaction
from tidemill.commands.rows import LogRow
from tidemill.commands.waits import Newer
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile, UpdateConnectorProfile
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.errors import ContractError, Fenced
from tidemill.domain.lane import Claim
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import GenerationStore
from tidemill.storage.database.pool import close_pool, create_pool

TICKS = Stream.of(replace(market_data, partitions=2))
PROFILES = Stream.of(replace(connector_profiles, partitions=2))


@dataclass
class Subject:
    """A store and the one thing that only its keeper does."""

    store: CommandStore
    generations: Any
    pool: Any = None

    async def date(self, partition: int, at: datetime) -> None:
        """Let the newest row in the ledger of a lane be of another time."""
        if isinstance(self.store, MemoryCommandStore):
            held = next(h for h in self.store.lanes.values() if h.lane.partition == partition)
            held.progress = replace(held.progress, at=at)
        else:
            await self.pool.execute(
                "update tm.batch b set at = $2 from tm.lane l "
                "where l.lane = b.lane and l.aggregate = 'market-data' and l.partition = $1",
                partition,
                at,
            )

    async def write_beside(self, work: SharedTransaction) -> None:
        """Write something that is a client's of the engine, in the transaction of a batch."""
        if isinstance(self.store, MemoryCommandStore):
            work.join(lambda memory: memory.tables.joined.setdefault("beside", {}).update(row=1))
        else:
            await work.join(lambda borrowed: borrowed.execute("comment on schema tm is 'beside'"))

    async def wrote_beside(self) -> bool:
        if isinstance(self.store, MemoryCommandStore):
            return "beside" in self.store.tables.joined
        told = "select obj_description('tm'::regnamespace, 'pg_namespace')"
        return bool(await self.pool.fetchval(told) == "beside")

    async def roll(self) -> None:
        if isinstance(self.store, MemoryCommandStore):
            self.store.roll()
        else:
            await self.generations.roll_if_due(max_age=timedelta(0), max_ids=0)


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject(MemoryCommandStore(TICKS, PROFILES), None)
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        for stream in (TICKS, PROFILES):
            await create_lanes(connection, stream)
    yield Subject(CommandDatabase(pool), GenerationStore(pool), pool)
    await close_pool(pool)


@pytest.fixture
async def ticks(subject: Subject) -> Harness:
    harness = Harness(TICKS, subject.store)
    await harness.claim()
    return harness


def tick(**fields: Any) -> RecordMarketData:
    facts: dict[str, Any] = {
        "symbol": "AAPL",
        "time": datetime(2013, 3, 1, tzinfo=UTC),
        "price": 1.0,
        "source": "test",
    }
    return RecordMarketData(**base(**facts | fields))


def register(profile_id: str, name: str) -> RegisterConnectorProfile:
    return RegisterConnectorProfile(**base(profile_id=profile_id, name=name, profile_data="{}"))


async def test_headers_are_kept_as_text_that_tells_them_apart(subject: Subject) -> None:
    headers = [("a", b"\xff"), ("a", None), ("b\x00", b"")]
    text = subject.store.headers_text(headers)
    assert "\x00" not in text
    assert (
        len({text, subject.store.headers_text(headers[:2]), subject.store.headers_text(headers[::-1])}) == 3
    )


async def test_progress_is_dense_and_survives_a_claim(ticks: Harness) -> None:
    await ticks.send(tick(), tick(time=datetime(1999, 1, 1, tzinfo=UTC)), tick())
    partition = ticks.topic.record(tick()).partition
    (claim,) = await ticks.claim([partition])
    assert (claim.progress.position, claim.progress.sequence, claim.progress.next_offset) == (3, 2, 3)
    assert claim.progress.anchor is not None
    assert claim.progress.anchor.offset == 2
    assert claim.progress.batch == 1


async def test_a_lane_that_was_never_created_is_said(subject: Subject) -> None:
    with pytest.raises(ContractError, match="topics create"):
        await subject.store.claim(TICKS.aggregate, [0, 7], "tidemill-tests")


@pytest.mark.parametrize(
    ("outcome", "events", "rows", "affected"),
    [(b"a", 1, None, 1), (b"a", 0, None, 0), (b"a", 1, 500, 500), (b"a", 1, 0, 0), (b"r", 0, None, 0)],
)
async def test_the_log_tells_how_many_rows_a_command_affected(
    subject: Subject, ticks: Harness, outcome: bytes, events: int, rows: int | None, affected: int
) -> None:
    claim = ticks.claims[ticks.lane_of(0)]
    command_id = str(uuid4())
    async with subject.store.unit_of_work() as work:
        locked = await work.lock([claim])
        at, position = locked.now, locked.progress[claim.lane.id].position + 1
        row = LogRow(
            claim.lane.id,
            locked.gen,
            position,
            command_id,
            7,
            outcome,
            events,
            1,
            at,
            "t",
            "s",
            None,
            None,
            None,
            rows,
        )
        await work.log([row])
    async with subject.store.unit_of_work() as work:
        await work.lock([claim])
        found = await work.find([command_id], open_too=True)
    assert found[command_id].rows == affected


async def claimed_by_many(store: CommandStore, claims: int) -> list[bool]:
    """Claim a lane again and again, each time by another owner that ends over it; return which were cautious."""
    cautious = []
    for _ in range(claims):
        (claim,) = await store.claim(TICKS.aggregate, [0], str(uuid4()))
        cautious.append(claim.cautious)
        await leave_a_row(store, claim)
    return cautious


async def leave_a_row(store: CommandStore, claim: Claim, record: FakeRecord | None = None) -> None:
    """Write to the ledger: what a batch leaves that ends with `record`, or one who consumes nothing."""
    async with store.unit_of_work() as work:
        locked = await work.lock([claim])
        before = locked.progress[claim.lane.id]
        batch_rows = BatchRows()
        at = locked.at(claim.lane.id)
        LaneNumbering(batch_rows, claim, before, locked.gen, at, 0.0).close(record, reason="ordered: a test")
        await work.append_ledger(batch_rows.ledger)


async def test_claims_are_without_progress_if_nothing_was_consumed_whoever_wrote_meanwhile(
    subject: Subject,
) -> None:
    """A record that ends its process is never tried alone if a row beside it counts as progress."""
    assert await claimed_by_many(subject.store, 5) == [False, False, False, True, True]
    (claim,) = await subject.store.claim(TICKS.aggregate, [0], "one that gets on")
    await leave_a_row(subject.store, claim, FakeRecord(0, 0, b"k", b"v"))
    assert await claimed_by_many(subject.store, 4) == [False, False, False, True]


async def test_an_idle_lane_ends_nobody(subject: Subject) -> None:
    for _ in range(5):
        (claim,) = await subject.store.claim(TICKS.aggregate, [0], str(uuid4()))
        assert not claim.cautious
        await subject.store.compared([claim], idle={claim.lane.id})
    (old,) = await subject.store.claim(TICKS.aggregate, [0], str(uuid4()))
    await subject.store.claim(TICKS.aggregate, [0], str(uuid4()))
    await subject.store.compared([old], idle={old.lane.id})  # of a claim that is lost, it changes nothing
    assert await claimed_by_many(subject.store, 2) == [False, True]


async def test_an_old_epoch_is_fenced(subject: Subject, ticks: Harness) -> None:
    lane = ticks.lane_of(0)
    old = ticks.claims[lane]
    await subject.store.claim(TICKS.aggregate, [0], "another")
    async with subject.store.unit_of_work() as work:
        with pytest.raises(Fenced) as fenced:
            await work.lock(list(ticks.claims.values()))
    assert fenced.value.lanes == {lane}
    with pytest.raises(Fenced):
        await subject.store.count_attempt(old, 0)


async def test_no_lane_takes_its_time_from_another_and_none_from_a_clock_that_was_wrong(
    subject: Subject, ticks: Harness
) -> None:
    """A clock that steps back a little takes no lane's time back; one that was days ahead counts no more."""
    claims, now = list(ticks.claims.values()), SystemClock().now()
    lanes = {claim.lane.partition: claim.lane.id for claim in claims}
    soon = now + timedelta(minutes=2)
    for ahead, expected in ((soon, soon), (now + timedelta(days=30), None)):
        await subject.date(0, ahead)
        async with subject.store.unit_of_work() as work:
            locked = await work.lock(claims)
        assert now <= locked.now < soon
        assert locked.at(lanes[1]) == locked.now
        assert locked.at(lanes[0]) == (expected or locked.now)
        assert locked.ahead() == ({} if expected else {lanes[0]: ahead - locked.now})


async def test_a_halt_needs_the_claim_and_stays_the_first(subject: Subject, ticks: Harness) -> None:
    lane = ticks.lane_of(0)
    old = ticks.claims[lane]
    (claim,) = await ticks.claim([0])
    await subject.store.halt(old, "TOPIC_CHANGED", "from a claim that is lost")
    assert await subject.store.halted([lane]) == {}
    await subject.store.halt(claim, "TOPIC_CHANGED", "first")
    await subject.store.halt(claim, "OFFSET_LOST", "second")
    assert await subject.store.halted([lane]) == {lane: ("TOPIC_CHANGED", "first")}


def newer(offset: int = 0) -> Newer:
    return Newer(offset, "7", "a.b.C", "quotes", "field x")


async def test_a_wait_begins_once_and_is_found_by_the_next_owner(subject: Subject, ticks: Harness) -> None:
    lane = ticks.lane_of(0)
    bound = timedelta(minutes=15)
    assert await subject.store.waiting([lane]) == frozenset()
    wait = await subject.store.wait(ticks.claims[lane], newer(), bound)
    assert (wait.newer, wait.until - wait.since, wait.over_at) == (newer(), bound, None)
    (claim,) = await subject.store.claim(TICKS.aggregate, [0], "another")
    assert await subject.store.wait(claim, newer(), bound) == wait
    assert await subject.store.waiting([lane, ticks.lane_of(1)]) == {lane}
    with pytest.raises(Fenced) as fenced:
        await subject.store.wait(ticks.claims[lane], newer(), bound)
    assert fenced.value.lanes == {lane}


async def test_a_wait_that_is_over_stays_over_for_what_comes_behind_it(
    subject: Subject, ticks: Harness
) -> None:
    claim = ticks.claims[ticks.lane_of(0)]
    await subject.store.wait(claim, newer(), timedelta(minutes=15))
    over = await subject.store.wait(claim, newer(), timedelta(0))
    assert over.over_at is not None
    assert await subject.store.waiting([claim.lane.id]) == frozenset()
    behind = await subject.store.wait(claim, newer(1), timedelta(minutes=15))
    assert (behind.over_at, behind.newer) == (over.over_at, newer())


async def test_an_attempt_that_ended_in_waiting_is_not_counted(subject: Subject, ticks: Harness) -> None:
    claim = ticks.claims[ticks.lane_of(0)]
    assert [await subject.store.count_attempt(claim, 0) for _ in range(2)] == [1, 2]
    await subject.store.wait(claim, newer(), timedelta(minutes=15))
    assert await subject.store.count_attempt(claim, 0) == 1


async def test_forgotten_attempts_begin_anew_and_only_for_the_owner(subject: Subject, ticks: Harness) -> None:
    old = ticks.claims[ticks.lane_of(0)]
    assert [await subject.store.count_attempt(old, 0) for _ in range(2)] == [1, 2]
    await subject.store.forget_attempts(old)
    assert [await subject.store.count_attempt(old, 0) for _ in range(2)] == [1, 2]
    (new,) = await ticks.claim([0], "another process")
    await subject.store.forget_attempts(old)
    assert await subject.store.count_attempt(new, 0) == 3


async def test_a_roll_keeps_progress_and_identity(subject: Subject, ticks: Harness) -> None:
    command = tick()
    await ticks.send(command, command)
    await subject.roll()
    done = await ticks.send(command, tick())
    assert outcomes(done) == {"applied": 1, "duplicate": 1}
    (claim,) = await ticks.claim([ticks.topic.record(command).partition])
    assert (claim.progress.position, claim.progress.sequence) == (4, 2)


async def test_what_fails_inside_leaves_nothing(subject: Subject, ticks: Harness) -> None:
    with pytest.raises(ZeroDivisionError):
        await _fail_after_writing(subject.store, ticks)
    (claim,) = await ticks.claim([0])
    assert claim.progress.batch == 0
    command = tick()
    assert outcomes(await ticks.send(command)) == {"applied": 1}


async def _fail_after_writing(store: CommandStore, ticks: Harness) -> None:
    claim = ticks.claims[ticks.lane_of(0)]
    async with store.unit_of_work() as work:
        locked = await work.lock([claim])
        before = locked.progress[claim.lane.id]
        batch_rows = BatchRows()
        at = locked.at(claim.lane.id)
        LaneNumbering(batch_rows, claim, before, locked.gen, at, 0.0).close(FakeRecord(0, 0, b"k", b"v"))
        await work.append_ledger(batch_rows.ledger)
        raise ZeroDivisionError


async def test_unique_values_are_held_across_batches(subject: Subject) -> None:
    profiles = Harness(PROFILES, subject.store)
    await profiles.claim()
    await profiles.send(register("p1", "a"))
    done = await profiles.send(register("p2", "a"))
    assert codes(done) == ["NAME_TAKEN"]
    await profiles.send(UpdateConnectorProfile(**base(profile_id="p1", name="b")))
    assert codes(await profiles.send(register("p3", "a"))) == [None]


async def test_what_joins_a_transaction_happens_if_and_only_if_it_commits(subject: Subject) -> None:
    with pytest.raises(ZeroDivisionError):
        await _fail_after_joining(subject)
    assert not await subject.wrote_beside()
    async with subject.store.unit_of_work() as work:
        await subject.write_beside(work)
        assert not await subject.wrote_beside()
    assert await subject.wrote_beside()


async def _fail_after_joining(subject: Subject) -> None:
    async with subject.store.unit_of_work() as work:
        await subject.write_beside(work)
        raise ZeroDivisionError
