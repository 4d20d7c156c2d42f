"""Connections: set up alike, bounded in time, and their errors in the domain's words."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.waiting import eventually
from tidemill.domain.errors import ContractError, DataError, TransientError, Unavailable, UsageError
from tidemill.storage.database.pool import (
    Cutoff,
    Pool,
    Timeouts,
    close_pool,
    connection,
    create_pool,
    tls_context,
)
from tidemill_devkit.stack.ports import free_ports


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, application_name="tidemill-tests", size=2)
    yield made
    await close_pool(made)


async def test_every_session_is_set_up(pool: Pool) -> None:
    names = ["application_name", "search_path", "timezone", "statement_timeout", "lock_timeout"]
    names += ["idle_in_transaction_session_timeout"]
    async with connection(pool) as borrowed:
        found = [await borrowed.fetchval("select current_setting($1)", name) for name in names]
    assert found == ["tidemill-tests", "public", "UTC", "30s", "5s", "10s"]


async def test_nothing_of_a_transaction_survives_it(pool: Pool) -> None:
    async with connection(pool) as borrowed, borrowed.transaction():
        await borrowed.execute("set local statement_timeout = 7")
        pid = borrowed.get_server_pid()
    async with connection(pool) as borrowed:
        assert borrowed.get_server_pid() == pid
        assert await borrowed.fetchval("show statement_timeout") == "30s"


async def test_a_transaction_left_open_is_rolled_back(pool: Pool) -> None:
    async with connection(pool) as borrowed:
        await borrowed.execute("begin; create table public.left_open ()")
    async with connection(pool) as borrowed:
        assert await borrowed.fetchval("select to_regclass('public.left_open')") is None


async def test_json_is_text_both_ways_and_through_copy(pool: Pool) -> None:
    async with connection(pool) as borrowed, borrowed.transaction():
        await borrowed.execute("create temp table held (document jsonb) on commit drop")
        await borrowed.execute("insert into held values ($1)", '{"a": [1, null]}')
        await borrowed.copy_records_to_table("held", records=[('["\\u00e9"]',)])
        assert [row[0] for row in await borrowed.fetch("table held")] == ['{"a": [1, null]}', '["é"]']


async def test_a_slow_statement_is_transient(database: str) -> None:
    pool = await create_pool(
        database, application_name="tidemill-tests", size=1, timeouts=Timeouts(statement_ms=20)
    )
    with pytest.raises(TransientError, match="57014"):
        async with connection(pool) as borrowed:
            await borrowed.execute("select pg_sleep(10)")
    await close_pool(pool)


async def test_a_server_that_does_not_answer_is_away(database: str) -> None:
    pool = await create_pool(
        database, application_name="tidemill-tests", size=1, timeouts=Timeouts(command_s=0.05)
    )
    with pytest.raises(Unavailable, match="database is not available"):
        async with connection(pool) as borrowed:
            await borrowed.execute("select pg_sleep(10)")
    await close_pool(pool)


async def test_a_backend_that_was_ended_is_away(pool: Pool) -> None:
    async def end_ourselves() -> None:
        async with connection(pool) as borrowed, connection(pool) as other:
            await other.execute("select pg_terminate_backend($1)", borrowed.get_server_pid())
            await borrowed.execute("select 1")

    with pytest.raises(Unavailable):
        await end_ourselves()
    async with connection(pool) as borrowed:
        assert await borrowed.fetchval("select 1") == 1


async def test_no_free_connection_is_away(pool: Pool) -> None:
    async with connection(pool), connection(pool):
        with pytest.raises(Unavailable):
            async with connection(pool, timeout_s=0.05):
                pass


async def test_values_that_cannot_be_stored(pool: Pool) -> None:
    async with connection(pool) as borrowed:
        await borrowed.execute("create table public.held (number smallint, name text check (name <> 'x'))")
    refused: list[tuple[object, object]] = [(2**40, "a"), (1, "nul\x00"), (1, "\ud800"), (1, "x")]
    for row in refused:
        with pytest.raises(DataError):
            async with connection(pool) as borrowed:
                await borrowed.copy_records_to_table("held", schema_name="public", records=[row])
        with pytest.raises(DataError):
            async with connection(pool) as borrowed:
                await borrowed.execute("insert into public.held values ($1, $2)", *row)


async def test_a_missing_table_is_a_matter_of_migration(pool: Pool) -> None:
    with pytest.raises(ContractError, match="tidemill migrate"):
        async with connection(pool) as borrowed:
            await borrowed.execute("table tm.nowhere")


@pytest.mark.parametrize("change", ["database", "password"])
async def test_a_wrong_address_is_the_callers_to_mend(database: str, change: str) -> None:
    url = urlsplit(database)
    wrong = (
        url._replace(path="/nowhere")
        if change == "database"
        else url._replace(netloc=f"nobody:wrong@{url.hostname}:{url.port}")
    )
    with pytest.raises(UsageError, match="TIDEMILL_DATABASE_URL"):
        await create_pool(wrong.geturl(), application_name="tidemill-tests", size=1)


async def test_no_server_is_away() -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unavailable):
        await create_pool(f"postgresql://u:p@127.0.0.1:{port}/x", application_name="t", size=1)


async def test_closing_has_a_deadline(database: str) -> None:
    pool = await create_pool(database, application_name="tidemill-tests", size=1)
    borrowed = await pool.acquire()
    working = asyncio.ensure_future(borrowed.execute("select pg_sleep(3600)"))
    await close_pool(pool, timeout_s=0.1)
    with pytest.raises(Exception):  # noqa: B017, PT011  the driver's word for a cut connection is its own affair
        await working


async def test_what_is_cut_off_waits_for_nothing(database: str) -> None:
    """Neither for a statement, nor for the rollback behind it, nor for a connection that is free, or is being made."""
    cutoff = Cutoff()
    pool = await create_pool(database, application_name="tidemill-tests", size=1, cutoff=cutoff)
    inside = asyncio.Event()

    async def work() -> None:
        async with connection(pool) as borrowed, borrowed.transaction():
            inside.set()
            await borrowed.execute("select pg_sleep(3600)")

    async def wait_for_a_free_one() -> None:
        await inside.wait()
        async with connection(pool):
            pass

    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        connecting = cutoff.connect(f"postgresql://u:p@{host}:{port}/x?sslmode=disable")
        tasks = [asyncio.ensure_future(one) for one in (work(), wait_for_a_free_one(), connecting)]
        await eventually(lambda: inside.is_set() and silent_has_a_caller(silent), what="all to wait")
        cutoff.cut()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [Unavailable, Unavailable, TimeoutError]
    with pytest.raises(Unavailable):
        async with connection(pool):
            pass
    await close_pool(pool)


def silent_has_a_caller(silent: socket.socket) -> bool:
    readable, _, _ = select.select([silent], [], [], 0)
    return bool(readable)


def test_tls_is_verified_as_asked_for(tmp_path: Path) -> None:
    assert tls_context("disable") is False
    full, ca, some = tls_context("verify-full"), tls_context("verify-ca"), tls_context("require")
    assert full
    assert ca
    assert some
    assert (full.verify_mode, full.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (ca.verify_mode, ca.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert (some.verify_mode, some.check_hostname) == (ssl.CERT_NONE, False)
    with pytest.raises(UsageError, match="TLS files"):
        tls_context("verify-full", ca_file=tmp_path / "absent.pem")
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="TLS files"):
        tls_context("verify-full", cert_file=tmp_path / "bad.pem")


async def test_plain_text_is_refused_where_tls_is_asked_for(database: str) -> None:
    with pytest.raises((Unavailable, UsageError)):
        await create_pool(database, application_name="t", size=1, tls=tls_context("verify-full"))
