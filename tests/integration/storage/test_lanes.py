"""What an operator may do to a lane, on a database whose history is written by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from uuid import UUID

import pytest

from tests.support.waiting import eventually
from tidemill.admin.lane_results import Reconciled, Seen, TopicsEnd
from tidemill.admin.rows import LaneState
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.lane import StreamTopics
from tidemill.outbox.common_history import Agreement
from tidemill.outbox.ports import Fork, LaneEnd, Published, Tail, Tails
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.admin.lane_changes import LaneDatabase
from tidemill.storage.database.pool import Lender, Pool, close_pool, create_pool
from tidemill.storage.outbox.reader import OutboxDatabase

TOPICS = StreamTopics.of("market-data")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    opened = await create_pool(database, application_name="test", size=4)
    yield opened
    await close_pool(opened)


@pytest.fixture
def lanes(pool: Pool) -> LaneDatabase:
    return LaneDatabase(pool)


@pytest.fixture
async def lane_id(pool: Pool, lanes: LaneDatabase) -> int:
    """A halted lane with four records: event 1 | rejection | events 2 and 3 | event 4; known as published: event 1."""
    await lanes.create("market-data", TOPICS, {0: 100})
    (state,) = await OperationsDatabase(pool).lanes()
    await pool.execute(HISTORY.replace(":lane", str(state.lane)))
    return state.lane


HISTORY = """
insert into tm.log (lane, gen, position, command_id, digest, outcome, events, sequence, at)
select :lane, 1, n, ('00000000-0000-0000-0000-00000000000' || n)::uuid, 0, outcome::"char", events, sequence, now()
from (values (1, 'a', 1, 1), (2, 'r', 0, 1), (3, 'a', 2, 3), (4, 'a', 1, 4)) as t (n, outcome, events, sequence);
insert into tm.outbox
  (lane, gen, position, item, outcome, command_id, sequence, at, seconds, record_offset, payload, chain)
select :lane, 1, n, item, outcome::"char", ('00000000-0000-0000-0000-00000000000' || n)::uuid, sequence, now(), 0,
       99 + n, payload::bytea, 0
from (values (1, 0, 'a', 1, 'x'), (2, 0, 'r', 1, null), (3, 0, 'a', 2, 'x'), (3, 1, null, 3, 'x'), (4, 0, 'a', 4, 'x'))
  as t (n, item, outcome, sequence, payload);
insert into tm.parked (lane, position, topic, partition, record_offset, headers, code, detail, at)
values (:lane, 3, 'c', 0, 102, '[]', 'MALFORMED', 'x', now()),
       (:lane, 4, 'c', 0, 103, '[]', 'MALFORMED', 'x', now());
insert into tm.batch (lane, gen, batch, epoch, timeline, from_offset, to_offset, anchor_offset, anchor_checksum,
                      position, sequence, chain, applied, rejected, duplicate, parked, events, at)
values (:lane, 1, 1, 0, 1, 100, 104, 103, 7, 4, 4, 55, 3, 1, 0, 0, 4, now());
update tm.published set position = 1, sequence = 1, event_id = '00000000-0000-0000-0000-000000000001:1'
where lane = :lane;
insert into tm.halt (lane, code, detail) values (:lane, 'HISTORY_FORKED', 'by hand');
"""


def event(record: int, item: int = 1) -> str:
    return f"{UUID(int=record)}:{item}"


HINTED = Agreement(1, 1)
"""Up to where both agree in these tests, unless one says otherwise: as far as the hint says."""


async def reconcile(
    lanes: LaneDatabase,
    lane_id: int,
    topics: Tails | TopicsEnd,
    reason: str,
    agreed: Agreement = HINTED,
) -> Reconciled:
    end = TopicsEnd(topics, timeline=1, first_offset=0) if isinstance(topics, Tails) else topics
    return await lanes.reconcile(lane_id, end, agreed, reason, seen=await seen(lanes._pool))


async def seen(pool: Lender) -> Seen:
    state = await state_of(pool)
    return Seen(state.epoch, state.batch)


async def state_of(pool: Lender) -> LaneState:
    (state,) = await OperationsDatabase(pool).lanes()
    return state


async def numbers(pool: Pool) -> list[tuple[int, int, int]]:
    """What the relay would read: position, item, sequence."""
    rows = await pool.fetch("select position, item, sequence from tm.outbox order by position, item")
    return [tuple(row) for row in rows]


async def test_lanes_are_created_once_also_by_two_at_a_time(pool: Pool, lanes: LaneDatabase) -> None:
    firsts = dict.fromkeys(range(8), 5)
    made = await asyncio.gather(*(lanes.create("market-data", TOPICS, firsts) for _ in range(3)))
    assert sorted(made) == [0, 0, 8]
    states = await OperationsDatabase(pool).lanes()
    assert [(state.partition, state.next_offset, state.position, state.timeline) for state in states] == [
        (partition, 5, 0, 1) for partition in range(8)
    ]
    assert [state.lane for state in states] == sorted(state.lane for state in states)
    with pytest.raises(ContractError, match="8 lanes, not 7"):
        await lanes.create("market-data", TOPICS, dict.fromkeys(range(7), 0))
    with pytest.raises(ContractError, match="belong to the topic"):
        await lanes.create("market-data", StreamTopics.of("market-data", prefix="x"), firsts)
    assert await lanes.created("market-data") == 8
    assert await lanes.created("other") == 0


async def test_a_new_lane_is_there_after_a_roll_at_the_same_time(pool: Pool, lanes: LaneDatabase) -> None:
    roll = pool.execute("call tm.roll_generation(1, 2)")
    await asyncio.gather(lanes.create("market-data", TOPICS, dict.fromkeys(range(16), 0)), roll)
    rows = await pool.fetchval("select count(*) from tm.batch where gen = 2")
    assert rows == 16, "every lane has a ledger in the open generation, whoever came first"


async def test_a_skip_reads_on_elsewhere_and_says_why(pool: Pool, lanes: LaneDatabase, lane_id: int) -> None:
    skipped = await lanes.skip(lane_id, 200, "ticket 77", seen=await seen(pool))
    assert skipped == (104, 200)
    state = await state_of(pool)
    assert (state.next_offset, state.anchor_offset, state.halt_code, state.epoch) == (200, None, None, 1)
    assert (state.position, state.sequence, state.chain, state.timeline) == (4, 4, 55, 1)
    newest = (await OperationsDatabase(pool).ledger(lane_id, 1))[0]
    assert (newest.reason, newest.from_offset, newest.to_offset, newest.applied) == (
        "skipped: ticket 77",
        104,
        200,
        0,
    )


async def test_only_a_halted_lane_is_decided_about(pool: Pool, lanes: LaneDatabase, lane_id: int) -> None:
    assert (await lanes.resume(lane_id)) is not None
    assert await lanes.resume(lane_id) is None
    now = await seen(pool)
    for decide in (
        lanes.skip(lane_id, 1, "x", seen=now),
        lanes.accept(lane_id, {TOPICS.events: 1}, "x", seen=now),
        reconcile(lanes, lane_id, Tails(None, None, None), "x"),
    ):
        with pytest.raises(UsageError, match="is not halted"):
            await decide
    assert (await state_of(pool)).next_offset == 104
    with pytest.raises(UsageError, match="lane 999 does not exist"):
        await lanes.resume(999)


async def test_what_the_outbox_still_knows_is_sent_as_it_is(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    """The topic was truncated to event 3: event 4 is sent again, nothing gets another number."""
    tails = Tails(Tail(3, 3, event(3, 2)), Tail(3, 3, None), None)
    done = await reconcile(lanes, lane_id, tails, "truncated", Agreement(3, 3))
    assert (done.position, done.sequence, done.timeline, done.again, done.moved) == (4, 4, 2, 1, False)
    assert await OutboxDatabase(pool).published(lane_id) == Published(3, 3, event(3, 2))
    assert (await state_of(pool)).epoch == 1


async def test_a_position_that_was_published_in_part_is_sent_whole(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    tails = Tails(Tail(3, 2, event(3, 1)), Tail(2, 1, None), None)
    done = await reconcile(lanes, lane_id, tails, "torn", Agreement(3, 2))
    assert (done.again, done.moved) == (3, False)
    assert await OutboxDatabase(pool).published(lane_id) == Published(2, 1, None)


async def test_outcomes_that_are_behind_are_sent_again_too(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    tails = Tails(Tail(4, 4, event(4)), Tail(2, 1, None), None)
    done = await reconcile(lanes, lane_id, tails, "outcomes truncated", Agreement(4, 4))
    assert (done.again, done.moved) == (3, False)
    assert await OutboxDatabase(pool).published(lane_id) == Published(2, 1, None)


async def test_empty_topics_are_filled_from_a_whole_outbox(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    done = await reconcile(lanes, lane_id, Tails(None, None, None), "topics re-created")
    assert (done.again, done.moved) == (5, False)
    assert await OutboxDatabase(pool).published(lane_id) == Published(0, 0, None)


async def test_a_forked_history_goes_on_behind_the_topics(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    """The topics hold another history up to position 9 and event 7: ours, from the hint on, follows it."""
    tails = Tails(Tail(9, 7, "another:1"), Tail(9, 7, None), Tail(5, 3, None))
    done = await reconcile(lanes, lane_id, tails, "restored")
    assert (done.position, done.sequence, done.timeline, done.again, done.moved) == (12, 10, 2, 4, True)
    assert await OutboxDatabase(pool).published(lane_id) == Published(9, 7, "another:1")
    assert await numbers(pool) == [(1, 0, 1), (10, 0, 7), (11, 0, 8), (11, 1, 9), (12, 0, 10)]
    log = await pool.fetch("select position, sequence from tm.log order by position")
    assert [tuple(row) for row in log] == [(1, 1), (10, 7), (11, 9), (12, 10)]
    assert [row[0] for row in await pool.fetch("select position from tm.parked order by position")] == [
        11,
        12,
    ]
    assert (await state_of(pool)).next_offset == 104


async def test_a_database_that_is_behind_goes_on_behind_the_topics(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    await pool.execute("update tm.published set position = 4, sequence = 4")
    tails = Tails(Tail(40, 30, "x:1"), Tail(41, 30, None), None)
    done = await reconcile(lanes, lane_id, tails, "restored to an hour ago", Agreement(4, 4))
    assert (done.position, done.sequence, done.again) == (41, 30, 0)
    assert await OutboxDatabase(pool).published(lane_id) == Published(41, 30, "x:1")


async def test_only_outcomes_are_ahead(pool: Pool, lanes: LaneDatabase, lane_id: int) -> None:
    """The records that were lost with the database had no events: positions leap, sequences do not."""
    await pool.execute("update tm.published set position = 4, sequence = 4")
    tails = Tails(Tail(4, 4, event(4)), Tail(8, 4, None), None)
    done = await reconcile(lanes, lane_id, tails, "restored", Agreement(4, 4))
    assert (done.position, done.sequence, done.again) == (8, 4, 0)
    assert await OutboxDatabase(pool).published(lane_id) == Published(8, 4, event(4))


async def test_numbers_never_start_again(pool: Pool, lanes: LaneDatabase, lane_id: int) -> None:
    """The topics were emptied, and the outbox has let the first two positions go: what is left is sent as it is."""
    await pool.execute("delete from tm.outbox where position < 3")
    await pool.execute("update tm.published set position = 4, sequence = 4")
    checkpoint = (
        "insert into tm.checkpoint (projection, incarnation, aggregate, partition, sequence, next_offset)"
    )
    await pool.execute(f"{checkpoint} values ('seen', 1, 'market-data', 0, 4, 90)")
    done = await reconcile(
        lanes, lane_id, TopicsEnd(Tails(None, None, None), 1, 70), "emptied", Agreement(0, 0)
    )
    assert (done.position, done.sequence, done.again, done.moved) == (4, 4, 3, False)
    assert (done.withdrawn, done.lost) == (0, 1)
    assert await OutboxDatabase(pool).published(lane_id) == Published(2, 1, None)
    assert await pool.fetchval("select next_offset from tm.checkpoint") == 70
    (fork,) = (await OutboxDatabase(pool).end_with_history(lane_id, LaneEnd(4, 4, 2))).forks
    assert fork == Fork(2, 1, 1, 2, 0, None)


async def test_what_is_withdrawn_is_on_record_and_halts_who_has_folded_it(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    await pool.execute(
        "insert into tm.projection (projection, aggregate, incarnation, read_table) values "
        "('in time', 'market-data', 1, 'a'), ('too far', 'market-data', 1, 'b')"
    )
    await pool.execute(
        "insert into tm.checkpoint (projection, incarnation, aggregate, partition, sequence) values "
        "('in time', 1, 'market-data', 0, 4), ('too far', 1, 'market-data', 0, 5)"
    )
    tails = Tails(Tail(9, 7, "another:1"), Tail(9, 7, None), None)
    done = await reconcile(lanes, lane_id, TopicsEnd(tails, 5, 0), "restored", Agreement(4, 4))
    assert (done.sequence, done.timeline, done.withdrawn, done.again) == (7, 6, 3, 0)
    halts = await pool.fetch("select projection, code, expected, got from tm.projection_halt")
    assert [tuple(row) for row in halts] == [("too far", "WITHDRAWN", 5, 5)]
    end = await OutboxDatabase(pool).end_with_history(lane_id, LaneEnd(9, 7, 6))
    assert end.withdrawn == ((5, 7),)


async def test_what_somebody_else_wrote_is_accepted_with_a_reason(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    await lanes.accept(lane_id, {TOPICS.events: 77}, "a test of theirs", seen=await seen(pool))
    end = await OutboxDatabase(pool).end_with_history(lane_id, LaneEnd(4, 4, 1))
    assert end.accepted == {TOPICS.events: 77}
    state = await state_of(pool)
    assert (state.halt_code, state.epoch, state.next_offset, state.anchor_offset) == (None, 1, 104, 103)
    newest = (await OperationsDatabase(pool).ledger(lane_id, 1))[0]
    assert newest.reason is not None
    assert newest.reason.endswith(f"{TOPICS.events} up to offset 77: a test of theirs")


async def test_a_reconciliation_keeps_the_next_roll_and_the_numbering_right(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    await reconcile(lanes, lane_id, Tails(Tail(9, 7, "another:1"), Tail(9, 7, None), None), "restored")
    await pool.execute("call tm.roll_generation(1, 2)")
    state = await state_of(pool)
    assert (state.gen, state.position, state.sequence, state.timeline) == (2, 12, 10, 2)
    (audit_rows,) = (await OperationsDatabase(pool).audit_rows([])).ledger_sums
    assert (audit_rows["torn_at"], audit_rows["miscounted_at"], audit_rows["leapt"]) == (None, None, True)
    assert audit_rows["records"] == 4


@pytest.mark.parametrize("verb", ["reconcile", "skip", "accept"])
async def test_nothing_is_decided_about_a_lane_that_changed_meanwhile(
    pool: Pool, lanes: LaneDatabase, lane_id: int, verb: str
) -> None:
    """Somebody wrote to the lane, or decided about it, while its topics were compared."""

    def decide(at: Seen) -> Awaitable[object]:
        match verb:
            case "skip":
                return lanes.skip(lane_id, 104, "x", seen=at)
            case "accept":
                return lanes.accept(lane_id, {TOPICS.events: 77}, "x", seen=at)
        topics = TopicsEnd(Tails(None, None, None), timeline=1, first_offset=0)
        return lanes.reconcile(lane_id, topics, HINTED, "x", seen=at)

    state = await state_of(pool)
    for before in (Seen(state.epoch, state.batch - 1), Seen(state.epoch - 1, state.batch)):
        with pytest.raises(UsageError, match="changed while its topics were compared"):
            await decide(before)
    assert await state_of(pool) == state, "it is still halted, and nothing was decided"
    await decide(await seen(pool))


LOCK_WAITS = """
select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()
"""


async def test_a_verb_a_batch_and_a_roll_do_not_wait_for_each_other_in_a_circle(
    pool: Pool, lanes: LaneDatabase, lane_id: int
) -> None:
    """The batch has the lane and wants the log, the roll has the log and wants the generation's row."""

    async def waiting(count: int) -> None:
        async def are_waiting() -> bool:
            return int(await pool.fetchval(LOCK_WAITS)) == count

        await eventually(are_waiting, what=f"{count} that wait for a lock")

    async with pool.acquire() as batch, pool.acquire() as roll:
        batching, rolling = batch.transaction(), roll.transaction()
        await batching.start()
        await batch.execute("select from tm.lane where lane = $1 for update", lane_id)
        await rolling.start()
        await roll.execute("lock table tm.log_1 in share mode")
        verb = asyncio.create_task(lanes.resume(lane_id))
        await waiting(1)
        writing = asyncio.create_task(
            batch.execute("update tm.log set digest = digest where lane = $1", lane_id)
        )
        await waiting(2)
        await roll.execute("call tm.roll_generation(1, 2)")
        await rolling.commit()
        await writing
        await batching.commit()
        await verb
