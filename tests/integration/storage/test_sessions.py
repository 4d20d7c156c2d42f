"""A session at the wrong server, in the wrong mode, or with a table's past in mind is left, and its siblings too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager

import pytest

from tests.support.servers.databases import SESSIONS, database_of
from tidemill.domain.errors import TidemillError, TransientError, Unavailable
from tidemill.storage.database.pool import Pool, close_pool, connection, create_pool

SIZE = 3


@pytest.fixture(scope="module")
def shared(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The URL of a database that these tests leave as it is."""
    with new_database() as url:
        yield url


@asynccontextmanager
async def pool_of(url: str) -> AsyncIterator[Pool]:
    made = await create_pool(url, application_name="tidemill-tests", size=SIZE)
    yield made
    await close_pool(made)


@pytest.fixture
async def pool(shared: str) -> AsyncIterator[Pool]:
    async with pool_of(shared) as made:
        yield made


@pytest.fixture
def as_administrator(database: str) -> Callable[[str], None]:
    """Run a statement beside the database, whatever mode that is in; `{name}` is its name."""
    name = database.rpartition("/")[2]

    def run(statement: str) -> None:
        SESSIONS.run(
            database_of(database, "postgres"),
            lambda session: session.execute(statement.format(name=name)),
        )

    return run


END_ALL = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}'"
ONLY_READS = "alter database {name} set default_transaction_read_only = on"
WRITES_AGAIN = "alter database {name} reset default_transaction_read_only"


async def pids(pool: Pool) -> set[int]:
    """Return the servers' processes behind all sessions of the pool, each of which is borrowed at once."""
    async with AsyncExitStack() as borrowed:
        each = [await borrowed.enter_async_context(connection(pool)) for _ in range(SIZE)]
        return {session.get_server_pid() for session in each}


async def write(pool: Pool) -> None:
    async with connection(pool) as borrowed:
        await borrowed.execute("create table public.held (); drop table public.held")


async def test_no_session_is_made_where_nothing_can_be_written(
    database: str, as_administrator: Callable[[str], None]
) -> None:
    as_administrator(ONLY_READS)
    with pytest.raises(Unavailable, match="takes no writes"):
        await create_pool(database, application_name="tidemill-tests", size=1)
    reading = await create_pool(database, application_name="tidemill-tests", size=1, writes=False)
    async with connection(reading) as borrowed:
        assert await borrowed.fetchval("show transaction_read_only") == "on"
    await close_pool(reading)


async def test_the_first_attempt_works_behind_a_time_without_writes(
    database: str, as_administrator: Callable[[str], None]
) -> None:
    async with pool_of(database) as pool:
        await pids(pool)
        as_administrator(ONLY_READS)
        as_administrator(END_ALL)
        for _ in range(2 * SIZE):
            with pytest.raises(Unavailable):
                await write(pool)
        as_administrator(WRITES_AGAIN)
        await write(pool)


async def test_a_session_that_tells_that_it_only_reads_is_left_with_its_siblings(pool: Pool) -> None:
    """As a server does that was fenced off: its configuration is read again, its sessions stay."""
    before = await pids(pool)
    async with AsyncExitStack() as borrowed:
        for _ in range(SIZE):
            session = await borrowed.enter_async_context(connection(pool))
            await session.execute("set default_transaction_read_only = on")
    with pytest.raises(Unavailable, match="takes no writes"):
        async with connection(pool):
            pytest.fail("it would read what may be behind")
    assert not before & await pids(pool), "one attempt was enough for all"
    await write(pool)


async def test_a_statement_that_may_not_write_leaves_the_session_and_its_siblings(pool: Pool) -> None:
    before = await pids(pool)
    with pytest.raises(Unavailable, match="25006"):
        async with connection(pool) as borrowed, borrowed.transaction(readonly=True):
            await borrowed.execute("create table public.held (number int)")
    assert not before & await pids(pool)


async def test_a_server_that_stays_silent_is_left(pool: Pool) -> None:
    before = await pids(pool)
    with pytest.raises(Unavailable):
        async with connection(pool) as borrowed:
            await borrowed.execute("select pg_sleep(10)", timeout=0.05)
    assert not before & await pids(pool)


@pytest.mark.parametrize("state", ["XX000", "26000"])
async def test_what_nobody_expects_leaves_the_session(pool: Pool, state: str) -> None:
    before = await pids(pool)
    with pytest.raises(TransientError, match=state):
        await fail_with(pool, state)
    assert not before & await pids(pool)


@pytest.mark.parametrize("state", ["40001", "55P03", "57014", "23505", "42P01", "TM001"])
async def test_what_says_nothing_of_the_session_keeps_it(pool: Pool, state: str) -> None:
    before = await pids(pool)
    with pytest.raises(TidemillError):
        await fail_with(pool, state)
    assert before == await pids(pool)


async def fail_with(pool: Pool, state: str) -> None:
    async with connection(pool) as borrowed:
        await borrowed.execute(f"do $$ begin raise exception 'so it is' using errcode = '{state}'; end $$")


async def test_an_old_session_that_fails_late_does_not_end_the_young_ones(pool: Pool) -> None:
    """Otherwise each that was in use when the server went would have all others made anew once more."""
    failed, stay = asyncio.Event(), asyncio.Event()

    async def fail_late() -> None:
        async with connection(pool) as borrowed:
            failed.set()
            await stay.wait()
            await borrowed.execute("do $$ begin raise exception using errcode = '57P01'; end $$")

    late = asyncio.ensure_future(fail_late())
    await failed.wait()
    with pytest.raises(Unavailable):
        await fail_with(pool, "57P01")
    async with connection(pool) as young, connection(pool):
        pid = young.get_server_pid()
    stay.set()
    with pytest.raises(Unavailable):
        await late
    assert pid in await pids(pool)
