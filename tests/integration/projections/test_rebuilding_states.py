"""Rebuilding the rows of a state on Kafka and TimescaleDB: every change by hand is undone, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import pytest

from tests.support.engine.commands import create_lanes
from tests.support.engine.entity_contexts import Commands
from tests.support.engine.market import Market, open_market
from tests.support.security.hashes import OF_PEARS
from tests.support.servers.databases import execute
from tests.support.waiting import eventually
from tidemill.contexts.users import context, users
from tidemill.domain.errors import Unavailable, UsageError
from tidemill.domain.messages import EventBase
from tidemill.domain.partitioner import partition_of
from tidemill.projections.fold import FoldFailed
from tidemill.projections.ports import Comparison, RebuildTargetLost, View
from tidemill.projections.rebuild import Rebuilt, rebuild
from tidemill.projections.replay import ReplayFailed, ReplayParts
from tidemill.projections.verify import verify
from tidemill.storage.read_models.state_rebuild import StateDatabase, StateRebuildDatabase, StateRows
from tidemill_devkit.stack import Stack

STATE = context.states[0].as_projection("users/state")
KEYS = [f"u{number}" for number in range(12)]
BY_HAND = {
    "changed": "update users set full_name = 'by hand' where id = 'u3'",
    "of a secret": "update users set hashed_password = 'by hand' where id = 'u3'",
    "a version": "update users set version = 9 where id = 'u3'",
    "a time": "update users set created_at = '2020-01-01Z' where id = 'u3'",
    "added": (
        'insert into users select (jsonb_populate_record(u, \'{"id": "x", "username_folded": "x", '
        '"email_folded": "x@example.org"}\')).* from users u where id = \'u3\''
    ),
    "removed": "delete from users where id = 'u3'",
    "soft-deleted": "update users set deleted = true where id = 'u3'",
    "deleted and gone": "delete from users where id = 'u0'",
    "deleted and back": "update users set deleted = false where id = 'u1'",
    "emptied": "truncate users",
}
"""What is done to a table: `u0` and `u1` are deleted, softly, `u3` is in force."""

WRITE_LEDGER = """
update tm.batch b set sequence = $2 from tm.lane l
where l.lane = b.lane and l.aggregate = 'users' and l.partition = $1
"""
TERMINATE = """
select pg_terminate_backend(pid) from pg_locks
where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
"""


@dataclass
class Site:
    """Users whose events are in a topic and whose lanes say so."""

    market: Market
    store: StateDatabase
    seen: list[tuple[int, int]] = field(default_factory=list)

    async def write(self, *events: EventBase) -> None:
        """Publish events, and count them in the ledger, as if batches had written them."""
        for event in events:
            lane = partition_of(self.market.stream.key(event).encode(), self.market.stream.partitions)
            await self.market.tell(lane, event)
        for lane, sequence in self.market.ends().items():
            await self.market.pool.execute(WRITE_LEDGER, lane, sequence)

    @property
    def parts(self) -> ReplayParts:
        targets = StateRebuildDatabase(self.market.pool)
        return replace(self.market.parts(), store=self.store, rebuild_targets=targets)

    async def rebuild(self) -> Rebuilt:
        return await rebuild(self.market.stream, STATE, self.parts, lambda *done: self.seen.append(done))

    async def verify(self) -> Comparison:
        return await verify(self.market.stream, STATE, self.parts, lambda *_: None)

    async def rows(self) -> list[Any]:
        return await self.market.pool.fetch("select * from users order by id")


def created(key: str, **changes: Any) -> EventBase:
    fields = {"username": f"Name-{key}", "email": f"{key}@example.org", "hashed_password": OF_PEARS}
    return users.messages.created.of(Commands(users)("Create", key, **(fields | changes)))


def events() -> list[EventBase]:
    """All are created; some are changed, some deleted, and one takes the name that another gave up."""
    user = Commands(users)
    updated = [users.messages.updated.of(user("Update", key, full_name=f"F {key}")) for key in KEYS[2:6]]
    deleted = [users.messages.deleted.of(user("Delete", key)) for key in KEYS[:2]]
    return [*map(created, KEYS), *updated, *deleted, created("heir", username=f"Name-{KEYS[0]}")]


@pytest.fixture
async def site(database: str, stack: Stack, unique_name: Callable[[str], str]) -> AsyncIterator[Site]:
    """The table is empty at first: a rebuild fills it."""
    async with open_market(database, stack.kafka_bootstrap, unique_name("users"), context) as market:
        await create_lanes(market.pool, market.stream)
        site = Site(market, StateDatabase(market.pool))
        await site.write(*events())
        rebuilt = await site.rebuild()
        assert rebuilt.events == len(events())
        assert rebuilt.corrected is not None
        assert rebuilt.corrected.differing == len(KEYS) + 1
        yield site


async def leftovers(site: Site) -> list[Any]:
    return await site.market.pool.fetch("select tablename from pg_tables where schemaname = 'tm_shadow'")


@pytest.mark.parametrize("change", BY_HAND)
async def test_what_was_done_by_hand_is_found_and_undone(site: Site, change: str) -> None:
    before = await site.rows()
    await site.market.pool.execute(BY_HAND[change])
    differing = len(before) if change == "emptied" else 1
    assert (await site.verify()).differing == differing
    rebuilt = await site.rebuild()
    assert rebuilt.corrected is not None
    assert rebuilt.corrected.differing == differing
    assert await site.rows() == before
    assert (await site.verify()).differing == 0
    assert await leftovers(site) == []
    again = await site.rebuild()
    assert again.corrected is not None
    assert (again.corrected.rows, again.corrected.differing) == (len(before), 0)


async def test_values_that_are_unique_change_hands_as_the_events_say(site: Site) -> None:
    """Neither row could be corrected alone."""
    before = await site.rows()
    await site.market.pool.execute(
        "update users set username_folded = id where id in ('u4', 'u5'); "
        "update users set username_folded = 'name-' || case id when 'u4' then 'u5' else 'u4' end "
        "where id in ('u4', 'u5')"
    )
    await site.rebuild()
    assert await site.rows() == before


async def test_columns_of_others_and_all_that_belongs_to_the_table_stay(site: Site) -> None:
    pool = site.market.pool
    await pool.execute("alter table users add column rank int not null default 7")
    await pool.execute("update users set rank = 1 where id in ('u3', 'u4')")
    await pool.execute("update users set full_name = 'by hand' where id = 'u3'")
    await pool.execute("delete from users where id = 'u5'")
    identity = "select 'users'::regclass::oid, (select count(*) from users_view)"
    (before,) = await pool.fetch(identity)
    await site.rebuild()
    ranks = await pool.fetch("select id, rank from users where id in ('u3', 'u4', 'u5', 'u6') order by id")
    assert [tuple(row) for row in ranks] == [("u3", 1), ("u4", 1), ("u5", 7), ("u6", 7)]
    (after,) = await pool.fetch(identity)
    assert tuple(after) == (before[0], len(KEYS) - 1)


async def test_a_batch_is_waited_for_and_its_events_are_in_the_rows(site: Site, database: str) -> None:
    """All lanes are locked: a batch that holds one is waited for, and its events are in the rows."""
    await site.market.pool.execute(BY_HAND["changed"])
    batch = await asyncpg.connect(database)
    await batch.execute("begin; select from tm.lane where aggregate = 'users' and partition = 0 for update")
    rebuilding = asyncio.create_task(site.rebuild())
    waiting = "select exists (select from pg_locks where not granted)"
    await eventually(lambda: batch.fetchval(waiting), what="the rebuild waits for the batch")
    late = [f"late-{number}" for number in range(99)]
    key = next(key for key in late if partition_of(key.encode(), site.market.stream.partitions) == 0)
    await site.market.tell(0, created(key))
    await batch.execute(WRITE_LEDGER, 0, site.market.ends()[0])
    await batch.execute("commit")
    await batch.close()
    rebuilt = await rebuilding
    assert rebuilt.events == len(events()) + 1
    assert key in {row["id"] for row in await site.rows()}
    assert (await site.verify()).differing == 0


async def test_a_lane_that_is_halted_is_decided_about_first(site: Site) -> None:
    await site.market.pool.execute(
        "insert into tm.halt (lane, code, detail) "
        "select lane, 'HISTORY_BEHIND', '' from tm.lane where aggregate = 'users' and partition = 2"
    )
    await site.market.pool.execute(BY_HAND["changed"])
    before = await site.rows()
    with pytest.raises(
        UsageError, match=r"while lane users/2 \(HISTORY_BEHIND\) is halted: `tidemill lanes show`"
    ):
        await site.rebuild()
    assert await site.rows() == before
    assert (await site.verify()).differing == 1  # to look is allowed


async def test_a_lane_that_halts_meanwhile_ends_the_rebuild(site: Site, database: str) -> None:
    await site.market.pool.execute(BY_HAND["changed"])
    before = await site.rows()
    halt = "insert into tm.halt (lane, code, detail) select min(lane), 'OUT_OF_STEP', '' from tm.lane"
    halts = iter([halt])

    def meanwhile(*_: int) -> None:
        for statement in halts:
            execute(database, statement)

    with pytest.raises(UsageError, match="is halted"):
        await rebuild(site.market.stream, STATE, site.parts, meanwhile)
    assert await site.rows() == before


async def test_an_event_that_cannot_follow_what_the_events_give_ends_the_rebuild(site: Site) -> None:
    """A command was accepted because a row had been removed by hand: nothing gives that row again."""
    await site.write(created("u3"))
    await site.market.pool.execute(BY_HAND["changed"])
    before = await site.rows()
    with pytest.raises(FoldFailed, match="UserCreated cannot happen to"):
        await site.rebuild()
    assert await site.rows() == before


async def test_a_crash_leaves_every_row_and_the_next_rebuild_corrects(site: Site, database: str) -> None:
    await site.market.pool.execute(BY_HAND["removed"])
    before = await site.rows()
    crashes = iter([TERMINATE])

    def crash(*_: int) -> None:
        for statement in crashes:
            execute(database, statement)

    with pytest.raises(RebuildTargetLost, match="run it again"):
        await rebuild(site.market.stream, STATE, site.parts, crash)
    assert await site.rows() == before
    assert await leftovers(site) != []
    rebuilt = await site.rebuild()
    assert rebuilt.corrected is not None
    assert rebuilt.corrected.differing == 1
    assert await leftovers(site) == []


class Forgetful(StateDatabase):
    """Its first commit takes effect, and the answer is lost."""

    lost = False

    @asynccontextmanager
    async def transaction(self, view: View) -> AsyncIterator[StateRows]:
        async with super().transaction(view) as rows:
            yield rows
        if not self.lost:
            self.lost = True
            raise Unavailable("database", "the answer was lost")


async def test_a_commit_whose_answer_is_lost_is_not_folded_twice(site: Site) -> None:
    """It cannot be told whether it took effect, and the rows would be wrong: the rebuild ends, and changes nothing."""
    before = await site.rows()
    site.store = forgetful = Forgetful(site.market.pool)
    with pytest.raises(ReplayFailed, match="another process has begun to build its rows"):
        await site.rebuild()
    assert forgetful.lost
    assert await site.rows() == before
    await site.rebuild()
    assert await site.rows() == before
