"""The connections of a class of work: as many as configured, replaced by age or when broken, and left clean."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from tests.support.counting import calls_of
from tests.support.faults.proxy import Proxy
from tests.support.http.sizes import sized
from tests.support.waiting import eventually, next_turn
from tidemill.admin.service.pool_config import PoolConfig
from tidemill.domain.errors import RequestRefused, Unavailable
from tidemill.domain.request_codes import RequestCode, Retry
from tidemill.storage.database.pool import Timeouts, connection
from tidemill.storage.database.work_pool import PoolServer, WorkPool, WorkPools

OPERATIONS = "select count(*) from pg_stat_activity where application_name = $1"


class Stopwatch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now(self) -> datetime:
        return datetime(2026, 12, 1, tzinfo=UTC)

    def monotonic_s(self) -> float:
        return self.at_s


@pytest.fixture
def clock() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
async def made(database: str, clock: Stopwatch) -> AsyncIterator[Callable[..., WorkPool]]:
    opened: list[WorkPool] = []

    def make(url: str = database, **config: Any) -> WorkPool:
        given: dict[str, Any] = {"name": "read", "size": 2, "acquire_s": 60.0} | config
        server = PoolServer(url=url, label="tidemill tests", timeouts=Timeouts(connect_s=300.0))
        opened.append(WorkPool(server, PoolConfig(**given), clock=clock))
        return opened[-1]

    yield make
    for pool in opened:
        await pool.close()


async def backend(pool: WorkPool) -> int:
    async with connection(pool) as borrowed:
        return int(borrowed.get_server_pid())


async def test_a_pool_begins_with_its_minimum_and_opens_more_when_needed(
    made: Callable[..., WorkPool],
) -> None:
    pool = made(size=3, min_size=2)
    await pool.open()
    assert (pool.status().checked_in, pool.status().total_created) == (2, 2)
    async with connection(pool), connection(pool), connection(pool):
        assert (pool.status().checked_in, pool.status().checked_out, pool.status().total_created) == (0, 3, 3)
    assert (pool.status().checked_in, pool.status().checked_out, pool.status().overflow) == (3, 0, 0)


async def test_a_connection_is_used_again_until_it_is_too_old(
    made: Callable[..., WorkPool], clock: Stopwatch
) -> None:
    pool = made(recycle_s=60.0, ping_after_s=1_000.0)
    await pool.open()
    first = await backend(pool)
    clock.at_s += 59
    assert await backend(pool) == first
    clock.at_s += 1
    assert await backend(pool) != first
    assert pool.status().total_created >= 2, "the driver may open another one, to keep the minimum"
    assert pool.status().invalid == 0


async def test_one_that_grows_too_old_while_it_is_lent_is_closed_when_it_comes_back(
    made: Callable[..., WorkPool], clock: Stopwatch
) -> None:
    pool = made(size=1, recycle_s=60.0)
    await pool.open()
    async with connection(pool) as borrowed:
        first = borrowed.get_server_pid()
        clock.at_s += 61
        assert await borrowed.fetchval("select 1") == 1
    assert await backend(pool) != first


async def test_a_killed_backend_is_replaced_and_its_caller_sees_no_error(
    made: Callable[..., WorkPool], clock: Stopwatch, database: str
) -> None:
    """The driver is not given a turn between: only the question before lending can notice it."""
    pool = made(size=1, ping_after_s=5.0)
    await pool.open()
    first = await backend(pool)
    operator = await asyncpg.connect(database)
    await operator.fetchval("select pg_terminate_backend($1, 60000)", first)
    clock.at_s += 6
    assert await backend(pool) != first
    assert pool.status().total_created >= 2
    await operator.close()


async def test_a_connection_whose_server_is_silent_is_found_by_asking(
    made: Callable[..., WorkPool], clock: Stopwatch, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken wire of which nothing is heard: the question gets no answer in time."""
    pool = made(size=1, ping_after_s=5.0, acquire_s=60.0)
    await pool.open()
    first = await backend(pool)
    operator = await asyncpg.connect(database)
    async with operator.transaction():
        monkeypatch.setattr("tidemill.storage.database.work_pool._PING", "select pg_sleep(600)")
        monkeypatch.setattr("tidemill.storage.database.work_pool._PING_S", 0.05)
        clock.at_s += 6
        assert await backend(pool) != first
    assert pool.status().invalid == 1
    await operator.close()


async def test_a_pool_whose_connections_all_broke_recovers_within_one_request(
    made: Callable[..., WorkPool], clock: Stopwatch, database: str
) -> None:
    proxy = Proxy(database)
    await proxy.open()
    pool = made(proxy.url, size=3, ping_after_s=5.0, acquire_s=60.0)
    await pool.open()
    async with connection(pool), connection(pool), connection(pool):
        pass
    assert pool.status().checked_in == 3
    for wire in list(proxy._wires):
        wire.cancel()
    clock.at_s += 6
    async with connection(pool) as borrowed:
        assert await borrowed.fetchval("select 1") == 1
    await pool.close()
    await proxy.close()


async def test_overflow_is_opened_and_closed_again(made: Callable[..., WorkPool], database: str) -> None:
    pool = made(size=1, overflow=2)
    await pool.open()
    async with connection(pool), connection(pool), connection(pool):
        assert (pool.status().checked_out, pool.status().overflow) == (3, 2)
    assert (pool.status().checked_in, pool.status().overflow, pool.status().total_created) == (1, 0, 3)
    operator = await asyncpg.connect(database)
    await eventually(lambda: _is(operator, "tidemill tests read", 1), what="the others are closed")
    await operator.close()


async def _is(operator: Any, name: str, count: int) -> bool:
    return bool(await operator.fetchval(OPERATIONS, name) == count)


async def test_a_request_that_finds_none_free_in_time_is_refused_by_name(
    made: Callable[..., WorkPool],
) -> None:
    pool = made(size=1, acquire_s=0.05)
    await pool.open()
    async with connection(pool):
        with pytest.raises(RequestRefused, match=r"all 1 database connections .* \(read\)") as refused:
            async with connection(pool):
                pass
    assert refused.value.request_code is RequestCode.OVERLOADED
    assert (refused.value.request_code.status, refused.value.request_code.retry) == (503, Retry.SAME_KEY)
    assert refused.value.retry_after_s == 1.0
    assert await backend(pool)


async def test_a_server_that_lets_none_be_made_is_unavailable_and_not_overload(
    made: Callable[..., WorkPool], clock: Stopwatch, database: str
) -> None:
    proxy = Proxy(database)
    await proxy.open()
    pool = made(proxy.url, size=1, recycle_s=1.0, acquire_s=60.0)
    await pool.open()
    await proxy.close()
    clock.at_s += 2
    with pytest.raises(Unavailable):
        async with connection(pool):
            pass


async def test_a_connection_that_breaks_while_it_is_lent_is_counted_and_replaced(
    made: Callable[..., WorkPool], database: str
) -> None:
    pool = made(size=1)
    await pool.open()
    operator = await asyncpg.connect(database)

    async def break_it() -> None:
        async with connection(pool) as borrowed:
            await operator.execute("select pg_terminate_backend($1, 60000)", borrowed.get_server_pid())
            await borrowed.fetchval("select 1")

    with pytest.raises(Unavailable):
        await break_it()
    assert pool.status().invalid == 1
    assert await backend(pool)
    await operator.close()


async def test_a_waiting_request_that_is_cancelled_takes_no_connection_with_it(
    made: Callable[..., WorkPool],
) -> None:
    pool = made(size=1, acquire_s=60.0)
    await pool.open()
    async with connection(pool):
        waiting = asyncio.create_task(backend(pool))
        await next_turn()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await backend(pool)
    assert pool.status().checked_out == 0


async def test_a_connection_with_nothing_left_to_do_comes_back_without_a_task(
    made: Callable[..., WorkPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = made(size=1, cleans=False)
    await pool.open()
    first = await backend(pool)
    tasks = calls_of(monkeypatch, asyncio, "shield")
    assert await backend(pool) == first
    assert tasks() == 0
    heard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["message"]))
    async with connection(pool) as borrowed:
        await borrowed.execute("begin; set local statement_timeout = '123s'")
    assert (tasks(), len(heard)) == (1, 1), "what is left open is rolled back, and told"
    async with connection(pool) as borrowed:
        assert (borrowed.get_server_pid(), borrowed.is_in_transaction()) == (first, False)


async def test_the_configuration_shows_no_secret(database: str) -> None:
    server = PoolServer(url="postgresql://tidemill:s3cr3t@a:1,b:2/data?password=s3cr3t&sslpassword=s3cr3t")
    shown = WorkPool(server, PoolConfig(name="count", size=2, overflow=1, acquire_s=0.5)).configuration()
    assert "s3cr3t" not in shown.model_dump_json()
    assert (shown.database_url, shown.service_name) == (
        "postgresql://tidemill@a:1,b:2/data",
        "tidemill http count",
    )
    assert (shown.pool_size, shown.max_overflow, shown.pool_timeout, shown.pool_recycle) == (2, 1, 1, 1_800)


async def test_pools_are_opened_together_or_not_at_all(made: Callable[..., WorkPool], database: str) -> None:
    good, bad = made(), made("postgresql://127.0.0.1:1/none", name="count")
    pools = WorkPools({"read": good, "count": bad})
    with pytest.raises(Unavailable):
        await pools.open()
    operator = await asyncpg.connect(database)
    await eventually(lambda: _is(operator, "tidemill tests read", 0), what="the first pool is closed")
    await operator.close()
    assert [status.name for status in pools.statuses()] == ["read", "count"]
    assert [made_by.pool_size for made_by in pools.configurations()] == [2, 2]


# --- what a session leaves behind ------------------------------------------------------------------------------------

LEFT: tuple[tuple[str, str], ...] = (
    ("set role pg_monitor", "select current_user <> session_user"),
    ("set session authorization pg_monitor", "select session_user = 'pg_monitor'"),
    ("set statement_timeout = '123s'", "select current_setting('statement_timeout') = '123s'"),
    (
        "select set_config('canary.value', 'sung', false)",
        "select current_setting('canary.value', true) = 'sung'",
    ),
    ("set search_path = pg_catalog", "select current_setting('search_path') = 'pg_catalog'"),
    ("set timezone = 'Asia/Tokyo'", "select current_setting('timezone') = 'Asia/Tokyo'"),
    ("listen canary", "select exists (select from pg_listening_channels())"),
    (
        "select pg_advisory_lock(4711)",
        "select exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())",
    ),
    ("create temp table canary (a int)", "select to_regclass('pg_temp.canary') is not null"),
    (
        "declare canary cursor with hold for select 1",
        "select exists (select from pg_cursors where name = 'canary')",
    ),
    ("begin; set local role pg_monitor", "select current_user = 'pg_monitor'"),
    (
        "create temp sequence canary_seq; select nextval('canary_seq')",
        "select to_regclass('canary_seq') is not null",
    ),
)
"""What a user of a connection may do to its session, and how the next one would notice."""


@pytest.mark.parametrize(("leaving", "noticing"), LEFT, ids=[leaving for leaving, _ in LEFT])
async def test_nothing_of_a_session_reaches_the_next_user(
    made: Callable[..., WorkPool], leaving: str, noticing: str
) -> None:
    pool = made(size=1)
    await pool.open()
    async with connection(pool) as borrowed:
        await borrowed.execute(leaving)
        assert await borrowed.fetchval(noticing) is True, "it can be noticed at all"
        pid = borrowed.get_server_pid()
    async with connection(pool) as borrowed:
        assert borrowed.get_server_pid() == pid
        assert not await borrowed.fetchval(noticing)
        assert await borrowed.fetchval("show statement_timeout") == "30s", (
            "what the pool itself has set stays"
        )


async def test_interleaved_users_leave_nothing_behind(made: Callable[..., WorkPool], seed: int) -> None:
    """T4: many users of few connections, each of whom first looks for what others left, then leaves something."""
    pool = made(size=3, overflow=1, acquire_s=60.0)
    await pool.open()
    dice = random.Random(seed)
    leaks: list[str] = []

    async def use(plan: list[tuple[str, str]]) -> None:
        async with connection(pool) as borrowed:
            for leaving, noticing in LEFT:
                if await borrowed.fetchval(noticing):
                    leaks.append(leaving)
            for leaving, _ in plan:
                try:
                    await borrowed.execute(leaving)
                except asyncpg.PostgresError:
                    await borrowed.execute("rollback")  # after a change of role it may lack the right

    for _ in range(sized(1, 170)):
        await asyncio.gather(*(use(dice.sample(LEFT, 3)) for _ in range(60)))
    assert (leaks, pool.status().checked_out) == ([], 0)


async def test_prepared_statements_outlive_the_cleaning(made: Callable[..., WorkPool]) -> None:
    """Else each query after the first would fail, or be prepared anew."""
    pool = made(size=1)
    await pool.open()
    for _ in range(8):
        async with connection(pool) as borrowed:
            assert await borrowed.fetchval("select $1::int + 1", 41) == 42
    async with connection(pool) as borrowed:
        prepared = await borrowed.fetchval(
            "select count(*) from pg_prepared_statements where statement = 'select $1::int + 1'"
        )
    assert prepared == 1


async def test_a_session_that_cannot_be_cleaned_is_cut(made: Callable[..., WorkPool], database: str) -> None:
    pool = made(size=1)
    await pool.open()
    operator = await asyncpg.connect(database)
    async with AsyncExitStack() as stack:
        borrowed = await stack.enter_async_context(connection(pool))
        first = borrowed.get_server_pid()
        await borrowed.execute("select 1")
        await operator.execute("select pg_terminate_backend($1, 60000)", first)
    assert await backend(pool) != first
    await operator.close()


async def test_a_free_connection_is_lent_without_a_turn_of_the_loop(made: Callable[..., WorkPool]) -> None:
    """What is free is not waited for: no task and no timer."""
    pool = made(size=1, ping_after_s=1_000.0)
    await pool.open()
    block = pool.acquire(timeout=60.0)
    lending = block.__aenter__()
    with pytest.raises(StopIteration) as lent:
        lending.send(None)
    borrowed = lent.value.value
    assert await borrowed.fetchval("select 1") == 1
    await block.__aexit__(None, None, None)


async def test_who_comes_later_does_not_take_what_another_waits_for(made: Callable[..., WorkPool]) -> None:
    pool, order = made(size=1, ping_after_s=1_000.0), list[str]()
    await pool.open()

    async def use(name: str) -> None:
        async with connection(pool):
            order.append(name)

    async with connection(pool):
        first = asyncio.create_task(use("first"))
        await next_turn()
        assert pool._waiting == 1
    await use("second")
    await first
    assert order == ["first", "second"]
    assert pool._waiting == 0
