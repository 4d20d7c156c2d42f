"""The journal on a database that ends connections, loses answers or does not answer, and beside processes that die."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.servers.databases import execute, fetch
from tests.support.waiting import HANGING_S, eventually
from tidemill.admin.audit.journal import IntentResolution, JournalAudit, JournalAuditor
from tidemill.domain.errors import RequestRefused, Unavailable
from tidemill.domain.request_codes import RequestCode
from tidemill.security.journal import EntryKind, JournalEntry, JournalRow, WriterIdentity
from tidemill.security.journal_writer import Journal, JournalLimits
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.security.journal import JOURNAL_TIMEOUTS, JournalDatabase, JournalHistoryDatabase
from tidemill_devkit.stack import Stack

LIMITS = JournalLimits(deadline_s=HANGING_S, lazy_s=0.0)
WAITING = """
select pid from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and query like '%into tm.journal%'
"""
PROGRAM = """
import asyncio, sys
from datetime import UTC, datetime
from uuid import UUID
from tidemill.security.journal import EntryKind, JournalEntry, WriterIdentity
from tidemill.security.journal_writer import Journal
from tidemill.storage.database.pool import create_pool
from tidemill.storage.security.journal import JournalDatabase

async def main(url, *commands):
    pool = await create_pool(url, application_name="tidemill-doomed", size=1)
    process = WriterIdentity("http", "host-1", 17, "0.6.0", datetime(2026, 12, 1, tzinfo=UTC))
    async with Journal(JournalDatabase(pool), process) as journal:
        entries = [
            JournalEntry(kind=EntryKind.INTENT, action="create", command_id=UUID(command)) for command in commands
        ]
        await journal.intents(entries)
        print("durable", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""
LOGGED = """
insert into tm.log (lane, gen, position, command_id, digest, outcome, events, sequence, at, code)
values (1, 1, 1, '{command}', 0, '{outcome}', 0, 0, now(), {code})
"""


def intent() -> JournalEntry:
    return JournalEntry(kind=EntryKind.INTENT, action="create", command_id=uuid4())


class LosingAnswers(JournalDatabase):
    """The real one, whose next inserts are committed without an answer."""

    losses = 0

    async def append(self, rows: Sequence[JournalRow]) -> bool:
        is_stored = await super().append(rows)
        if self.losses:
            self.losses -= 1
            raise Unavailable("database", "the connection broke")
        return is_stored


@asynccontextmanager
async def pool_of(url: str) -> AsyncIterator[Pool]:
    pool = await create_pool(url, application_name="tidemill-tests", size=2, timeouts=JOURNAL_TIMEOUTS)
    yield pool
    await close_pool(pool)


def journal(store: JournalDatabase, limits: JournalLimits = LIMITS, first_id: int = 1) -> Journal:
    ids = count(first_id)
    process = WriterIdentity("http", "host-1", 17, "0.6.0", datetime(2026, 12, 1, tzinfo=UTC))
    return Journal(store, process, limits=limits, new_id=lambda: UUID(int=next(ids)))


async def audit(pool: Pool) -> JournalAudit:
    return await JournalAuditor(reader=JournalHistoryDatabase(pool)).run()


async def test_a_thousand_waiting_writes_cost_a_few_commits(database: str) -> None:
    async with pool_of(database) as pool:
        async with journal(JournalDatabase(pool)) as ours:
            tasks = [asyncio.create_task(ours.intents([intent()])) for _ in range(1_000)]
            refs = {ref for task in tasks for ref in await task}
        assert len(refs) == 1_000
        assert (await audit(pool)).finding_count == 0
    (row,) = fetch(database, "select count(distinct xmin::text) as commits from tm.journal")
    assert row["commits"] <= 3


async def test_an_insert_whose_connection_ends_is_stored_once(database: str) -> None:
    async with pool_of(database) as pool:
        async with journal(JournalDatabase(pool)) as ours:
            await ours.intents([intent()])
            blocker = await asyncpg.connect(database)
            await blocker.execute("begin; lock table tm.journal in share mode")
            waiting = asyncio.create_task(ours.intents([intent()]))
            (blocked,) = await eventually(lambda: fetch(database, WAITING), what="the insert to wait")
            await blocker.execute("select pg_terminate_backend($1)", blocked["pid"])
            await eventually(lambda: not ours.ok, what="the failure to be seen")
            await blocker.execute("commit")
            await blocker.close()
            (ref,) = await waiting
            assert ours.ok
        assert ref.number == 3
        assert (await audit(pool)).finding_count == 0
    assert [row["number"] for row in fetch(database, "select number from tm.journal order by 1")] == [1, 2, 3]


async def test_an_insert_whose_answer_was_lost_is_not_stored_again(database: str) -> None:
    async with pool_of(database) as pool:
        store = LosingAnswers(pool)
        async with journal(store) as ours:
            await ours.intents([intent()])
            store.losses = 1
            await ours.intents([intent(), intent()])
            (ref,) = await ours.intents([intent()])
        assert ref == (UUID(int=1), 5)
        checked = await audit(pool)
        assert (checked.entries, checked.chains, checked.finding_count) == (5, 1, 0)


async def test_two_that_take_the_same_chain_do_not_fork_it(database: str) -> None:
    async with pool_of(database) as pool:
        store = JournalDatabase(pool)
        async with journal(store) as first, journal(store, first_id=1) as second:
            for _ in range(5):
                await asyncio.gather(first.intents([intent()]), second.intents([intent()]))
        checked = await audit(pool)
        assert checked.finding_count == 0
        assert checked.open_count == 10
        assert checked.chains >= 2


@pytest.mark.breaks_servers
async def test_a_database_that_does_not_answer_refuses_writes_and_the_chain_goes_on(
    breakable_database: str, breakable_stack: Stack
) -> None:
    limits = JournalLimits(deadline_s=0.5, lazy_s=0.0)
    async with pool_of(breakable_database) as pool:
        async with journal(JournalDatabase(pool), limits) as ours:
            await eventually(lambda: ours.anchor.number == 1, what="the anchor")
            breakable_stack.postgres.freeze()
            with pytest.raises(RequestRefused) as refused:
                await ours.intents([intent()])
            breakable_stack.postgres.thaw()
            assert refused.value.request_code is RequestCode.JOURNAL_AWAY

            async def stored() -> bool:
                try:
                    return bool(await ours.intents([intent()]))
                except RequestRefused:
                    return False

            await eventually(stored, what="the journal to go on")
        checked = await audit(pool)
        assert checked.finding_count == 0
        assert checked.chains == 1


@pytest.mark.parametrize(
    ("logged", "resolution", "code"),
    [
        (None, IntentResolution.NOT_ARRIVED, None),
        (("a", "null"), IntentResolution.APPLIED, None),
        (("r", "'NOT_BELOW'"), IntentResolution.REJECTED, "NOT_BELOW"),
    ],
    ids=[
        "before the produce",
        "before the outcome of an applied one",
        "before the outcome of a rejected one",
    ],
)
async def test_a_process_that_is_killed_leaves_an_open_intent_that_the_log_resolves(
    logged: tuple[str, str] | None, resolution: IntentResolution, code: str | None, database: str
) -> None:
    command = uuid4()
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, database, str(command), stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    assert await program.stdout.readline() == b"durable\n"
    program.send_signal(signal.SIGKILL)
    await program.wait()
    if logged is not None:
        execute(database, LOGGED.format(command=command, outcome=logged[0], code=logged[1]))
    async with pool_of(database) as pool:
        checked = await audit(pool)
        (entry,) = checked.open
        assert (entry.command_id, entry.resolution, entry.code) == (command, resolution, code)
        assert checked.finding_count == 0
        assert (await audit(pool)).open == checked.open  # it reports, and writes nothing
