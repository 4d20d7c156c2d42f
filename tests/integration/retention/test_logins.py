"""Logins of their own: retention may let rows go, the archiver may only read them, the service may do neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from tests.support.archive.site import TABLE, Archive, archive
from tests.support.engine.commands import Harness, base, create_lanes, outcomes
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.errors import TidemillError
from tidemill.domain.stream import Stream
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.retention.arrow_reader import read

Login = Callable[[str], str]
IN_2010 = datetime(2010, 1, 12, tzinfo=UTC)

FORGERIES = (
    "update tm.archive set state = 'verified', verified = '{}', deadline = null",
    "update tm.archive set closed = false",
    "insert into tm.archive select * from tm.archive",
    "delete from tm.archive",
    "truncate tm.archive",
    "insert into tm.archive_hold (table_name, reason, who) values ('public.market_data', 'x', 'y')",
    "update tm.archive_hold set range_end = range_start",
    "delete from tm.archive_hold",
    "insert into tm.archive_trail overriding system value select * from tm.archive_trail",
    "delete from tm.archive_trail",
    "update tm_late.public__market_data set tm_generation = 1",
    "insert into tm_late.public__market_data (tm_generation) values (1)",
    "delete from tm_late.public__market_data",
    "truncate tm_late.public__market_data",
    "call tm.freeze_slice('public.market_data', now(), 1)",
)
LATE = """
insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
select range_start + interval '3 days', 'L', 1.5, 'late', gen_random_uuid(), range_start from tm.archive limit 1
"""


async def test_each_login_can_do_its_part_and_no_more(database: str, tmp_path: Path, login: Login) -> None:
    async with archive(database, tmp_path / "lake") as outsider:
        await outsider.fill(2010)
        pool = await create_pool(login("tidemill_retention"), application_name="retention", size=4)
        world = Archive(login("tidemill_archiver"), pool, outsider.lake)
        await world.own()
        await world.settle()
        await world.answer()
        await world.settle()
        await close_pool(pool)
        assert await outsider.states() == ["dropped"]
        assert await outsider.hot() == 0


async def test_the_service_cannot_drop(database: str, tmp_path: Path, login: Login) -> None:
    async with archive(database, tmp_path / "lake") as world:
        await world.fill(2010)
        await world.settle()
        service = await asyncpg.connect(login("tidemill_service"))
        (which,) = await world.slices()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute("call tm.drop_slice($1, $2, 1)", which.id.table, which.id.start)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute(f"drop table {which.chunk}")
        await service.close()


async def test_the_service_reads_the_registry_and_adds_late_rows_no_more(
    database: str, tmp_path: Path, login: Login
) -> None:
    async with archive(database, tmp_path / "lake") as world:
        await world.fill(2010)
        await world.settle()
        service = await asyncpg.connect(login("tidemill_service"))
        for statement in FORGERIES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await service.execute(statement)
        assert (
            len(await service.fetch("select * from tm.closed_ranges($1, '2010-02-01', '2010-03-01')", TABLE))
            == 1
        )
        await service.execute(LATE)
        await service.close()
        await world.settle()
        assert (await world.states(), await world.hot(), await world.late()) == (["requested"], 20, 1)


async def test_a_command_that_comes_late_is_diverted_by_the_login_of_the_service(
    database: str, tmp_path: Path, login: Login
) -> None:
    async with archive(database, tmp_path / "lake") as world:
        await world.fill(2010)
        await world.settle()
        stream = Stream.of(replace(market_data, partitions=1))
        async with world.pool.acquire() as connection:
            await create_lanes(connection, stream)
        pool = await create_pool(login("tidemill_service"), application_name="service", size=2)
        harness = Harness(stream, CommandDatabase(pool))
        await harness.claim()
        late = RecordMarketData(**base(symbol="L", time=IN_2010, price=1.5, source="s"))
        assert outcomes(await harness.send(late)) == {"applied": 1}
        await close_pool(pool)
        assert (await world.hot(), await world.late()) == (20, 1)


async def test_retention_keeps_tombstones_and_the_trail(database: str, tmp_path: Path, login: Login) -> None:
    async with archive(database, tmp_path / "lake") as world:
        await world.fill(2010)
        await world.settle()
        retention = await asyncpg.connect(login("tidemill_retention"))
        for statement in (
            "delete from tm.archive",
            "delete from tm.archive_trail",
            "update tm.archive_trail set who = 'nobody'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await retention.execute(statement)
        await retention.close()


async def test_the_archiver_writes_nothing_and_sees_no_ledger(
    database: str, tmp_path: Path, login: Login
) -> None:
    async with archive(database, tmp_path / "lake") as world:
        await world.fill(2010)
        await world.settle()
        reading = login("tidemill_archiver")
        (request,) = await world.requests()
        assert sum(batch.num_rows for batch in read(reading, request.chunks[0].read_sql or "")) == 20
        archiver = await asyncpg.connect(reading)
        for statement in (
            "insert into public.market_data select * from public.market_data",
            "delete from public.market_data",
            "select * from tm.archive",
            "select * from tm.log",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await archiver.execute(statement)
        await archiver.close()
        with pytest.raises(TidemillError):
            list(read(reading, "select * from tm.outbox"))


async def test_what_is_not_verified_cannot_be_dropped_by_hand(
    database: str, tmp_path: Path, login: Login
) -> None:
    async with archive(database, tmp_path / "lake") as world:
        await world.fill(2010)
        await world.settle()
        retention = await asyncpg.connect(login("tidemill_retention"))
        (which,) = await world.slices()
        with pytest.raises(asyncpg.PostgresError, match="is not verified"):
            await retention.execute("call tm.drop_slice($1, $2, 1)", which.id.table, which.id.start)
        with pytest.raises(asyncpg.PostgresError, match="is no chunk of"):
            await retention.execute("call tm.lock_slice($1, 'tm.log')", which.id.table)
        await retention.close()
        assert await world.hot() == 20
