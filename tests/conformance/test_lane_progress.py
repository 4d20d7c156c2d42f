"""What every `LaneProgressReader` promises, asked of the fake and of the real one alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Protocol

import pytest

from tests.fakes.seen import MemoryLaneProgress
from tests.support.engine.commands import create_lanes
from tests.support.engine.projections import goods
from tidemill.queries.ports import LaneProgressReader, ProgressKey
from tidemill.queries.seen import HistoryFork, SeenLane, SeenNumber, SeenProgress
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.queries.seen import SeenDatabase

LANES = 2


class Subject(Protocol):
    @property
    def reader(self) -> LaneProgressReader: ...

    async def write(self, partition: int, sequence: int) -> None: ...

    async def fold(self, partition: int, sequence: int) -> None: ...

    async def fork(self, partition: int, fork: HistoryFork, sequence: int) -> None: ...

    async def halt(self, partition: int) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.reader = MemoryLaneProgress()
        for partition in range(LANES):
            self.reader.write("goods", partition, 0)

    async def write(self, partition: int, sequence: int) -> None:
        self.reader.write("goods", partition, sequence)

    async def fold(self, partition: int, sequence: int) -> None:
        self.reader.folded[ProgressKey("goods", partition, "stocks")] = sequence

    async def fork(self, partition: int, fork: HistoryFork, sequence: int) -> None:
        self.reader.fork("goods", partition, fork, sequence)

    async def halt(self, partition: int) -> None:
        lane = SeenLane("goods", partition)
        self.reader.lanes[lane] = replace(self.reader.lanes[lane], halted=True)


LEDGER = """
insert into tm.batch (lane, gen, batch, epoch, timeline, from_offset, to_offset, position, sequence, chain,
                      applied, rejected, duplicate, parked, events, at, reason)
select lane, 1, (select max(batch) + 1 from tm.batch b where b.lane = l.lane), 0, $2, 0, 0, 0, $3, 0,
       0, 0, 0, 0, 0, now(), $4
from tm.lane l where aggregate = 'goods' and partition = $1
"""
TIMELINE = """
insert into tm.timeline (lane, timeline, forked_at, continued_at, position, topic_sequence)
select lane, $2, $3, $4, 0, 0 from tm.lane where aggregate = 'goods' and partition = $1
"""
CHECKPOINT = """
with known as (insert into tm.projection (projection, aggregate, incarnation, read_table)
               values ('stocks', 'goods', 3, 'stocks') on conflict do nothing)
insert into tm.checkpoint as c (projection, incarnation, aggregate, partition, sequence)
values ('stocks', 3, 'goods', $1, $2), ('stocks', 4, 'goods', $1, 999)
on conflict (projection, incarnation, partition) do update set sequence = excluded.sequence
"""


class OnTheDatabase:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.reader = SeenDatabase(pool)
        self.timeline = 1

    async def write(self, partition: int, sequence: int) -> None:
        await self.pool.execute(LEDGER, partition, self.timeline, sequence, None)

    async def fold(self, partition: int, sequence: int) -> None:
        await self.pool.execute(CHECKPOINT, partition, sequence)

    async def fork(self, partition: int, fork: HistoryFork, sequence: int) -> None:
        self.timeline = fork.timeline
        await self.pool.execute(TIMELINE, partition, fork.timeline, fork.forked_at, fork.continued_at)
        await self.pool.execute(LEDGER, partition, fork.timeline, sequence, "reconciled: a test")

    async def halt(self, partition: int) -> None:
        await self.pool.execute(
            "insert into tm.halt (lane, code, detail) select lane, 'HISTORY_BEHIND', '' from tm.lane "
            "where aggregate = 'goods' and partition = $1",
            partition,
        )


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield InMemory()
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=2)
    async with pool.acquire() as connection:
        await create_lanes(connection, goods(LANES))
    await pool.execute("update tm.lane set compared_epoch = epoch")
    yield OnTheDatabase(pool)
    await close_pool(pool)


def lane(partition: int, projection: str = "") -> ProgressKey:
    return ProgressKey("goods", partition, projection)


async def one(subject: Subject, key: ProgressKey) -> SeenProgress:
    return (await subject.reader.progress([key]))[key]


async def test_a_new_lane_has_shown_nothing(subject: Subject) -> None:
    assert await one(subject, lane(0)) == SeenProgress(sequence=0)
    assert await one(subject, lane(0, "stocks")) == SeenProgress(sequence=0, folded=0)


async def test_the_end_of_the_ledger_counts_for_facts_and_the_checkpoint_for_read_models(
    subject: Subject,
) -> None:
    await subject.write(0, 3)
    await subject.write(0, 5)
    await subject.fold(0, 4)
    assert await one(subject, lane(0)) == SeenProgress(sequence=5)
    assert await one(subject, lane(0, "stocks")) == SeenProgress(sequence=5, folded=4)
    assert await one(subject, lane(1, "stocks")) == SeenProgress(sequence=0, folded=0)


async def test_several_are_asked_at_once_and_what_does_not_exist_is_left_out(subject: Subject) -> None:
    await subject.write(1, 2)
    keys = [lane(0), lane(1), lane(1, "stocks"), lane(7), ProgressKey("bads", 0), ProgressKey("", 0)]
    progress = await subject.reader.progress(keys)
    assert progress == {
        lane(0): SeenProgress(sequence=0),
        lane(1): SeenProgress(sequence=2),
        lane(1, "stocks"): SeenProgress(sequence=2, folded=0),
    }


async def test_forks_come_with_what_followed_them(subject: Subject) -> None:
    await subject.write(0, 10)
    lossless, withdrawing = HistoryFork(2, 8, 8, end=10), HistoryFork(3, 12, 15)
    await subject.fork(0, lossless, 10)
    assert (await one(subject, lane(0))).forks == (lossless,)
    await subject.write(0, 12)
    await subject.fork(0, withdrawing, 15)
    assert await one(subject, lane(0)) == SeenProgress(sequence=15, timeline=3, forks=(lossless, withdrawing))


async def test_a_halted_lane_says_so(subject: Subject) -> None:
    await subject.halt(1)
    assert (await one(subject, lane(1))).halted
    assert not (await one(subject, lane(0))).halted


async def test_what_all_lanes_show_is_a_token(subject: Subject) -> None:
    assert await subject.reader.seen("goods", None) == {}
    assert await subject.reader.seen("goods", "stocks") == {}
    await subject.write(0, 10)
    await subject.fork(0, HistoryFork(2, 8, 9), 12)
    await subject.fold(0, 9)
    assert await subject.reader.seen("goods", None) == {SeenLane("goods", 0): SeenNumber(2, 12)}
    assert await subject.reader.seen("goods", "stocks") == {SeenLane("goods", 0): SeenNumber(1, 9)}
    await subject.fold(0, 10)
    assert await subject.reader.seen("goods", "stocks") == {SeenLane("goods", 0): SeenNumber(2, 10)}
    assert await subject.reader.seen("bads", None) == {}
    assert await subject.reader.seen("goods", "nothing") == {}
