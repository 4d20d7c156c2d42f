"""Who may do what: the service works without DDL, readers read read models and facts, everybody else nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from tests.support.servers.databases import execute
from tidemill.app.context_loader import ALL, load_contexts
from tidemill.app.deployment import Deployment
from tidemill.catalog.collections import collections_of
from tidemill.domain.errors import UsageError
from tidemill.settings import Settings
from tidemill.storage.migrations.applied import check
from tidemill.storage.migrations.connection import Driver
from tidemill.storage.migrations.migrate import upgrade

Login = Callable[[str | None], AbstractAsyncContextManager[Driver]]


def url_of(database: str, user: str) -> str:
    parts = urlsplit(database)
    return parts._replace(netloc=f"{quote(user)}:secret@{parts.hostname}:{parts.port}").geturl()


@pytest.fixture
def login(database: str, unique_name: Callable[[str], str]) -> Login:
    """A login of its own that is a member of a role; it ends with the block."""

    @asynccontextmanager
    async def connect(role: str | None) -> AsyncIterator[Driver]:
        user = unique_name("login")
        execute(
            database, f"""create role "{user}" login password 'secret' {f"in role {role}" if role else ""}"""
        )
        try:
            connection = await asyncpg.connect(url_of(database, user))
            try:
                yield connection
            finally:
                await connection.close()
        finally:
            execute(database, f'drop owned by "{user}"', f'drop role "{user}"')

    return connect


A_LANE = """
insert into tm.lane
  (aggregate, partition, partitions, command_topic, event_topic, outcome_topic, dead_letter_topic)
  values ('x', 0, 1, 'c', 'e', 'o', 'd')
"""
SERVICE_WORK = """
update tm.lane set epoch = epoch + 1;
insert into tm.log values (1, 1, 1, null, 0, 'd', 0, 0, now());
insert into tm.outbox (lane, gen, position, item, sequence, at, seconds, record_offset, chain)
  values (1, 1, 1, 0, 0, now(), 0, 0, 0);
insert into tm.published values (1, 1, 0);
insert into tm.checkpoint (projection, incarnation, aggregate, partition) values ('p', 1, 'x', 0);
update tm.checkpoint set sequence = 1;
insert into tm.waiting (lane, record_offset, schema, type, detail, since, until)
  values (1, 0, '7', 't', 'd', now(), now());
update tm.waiting set over_at = now();
call tm.prepare_generation(3);
call tm.roll_generation(1, 2);
insert into tm.log values (1, 2, 2, null, 0, 'd', 0, 0, now());
call tm.prepare_generation(4);
call tm.roll_generation(2, 4);
insert into tm.log values (1, 4, 3, null, 0, 'd', 0, 0, now());
call tm.drop_generation(1, 'outbox');
insert into market_data (time, symbol, price, source, command_id)
  select make_timestamptz(year, 6, 1, 0, 0, 0), 'IBM', 1, 's', gen_random_uuid() from generate_series(2000, 2026) year;
insert into connector_profiles values ('p', 'n', 's', '{}', true, 1, now(), now());
update connector_profiles set active = false;
insert into connector_directory values ('p', 'n', 's', null, true, 1, gen_random_uuid(), now(), now(), 1);
delete from connector_directory;
select * from latest_quotes, daily_bars, market_data;
select * from tidemill_version, tidemill_migration;
"""
LOG_COLUMNS = ("lane", "gen", "position", "digest", "outcome", "events", "sequence", "at")

NOT_FOR_THE_SERVICE = [
    "create table public.mine (a int)",
    "create table tm.mine (a int)",
    "create schema mine",
    "drop table tm.log_1",
    "alter table tm.lane add column a int",
    "truncate tm.batch",
    A_LANE,
    "delete from tm.checkpoint",
    "delete from market_data",
    "update market_data set price = 0",
    "truncate market_data",
    "update tm.generation set packs = true",
    "select drop_chunks('market_data', older_than => now())",
    "create or replace procedure tm.roll_generation(old int, new int) language sql as ''",
    "update tidemill_migration set revision = 'core_9999'",
    "delete from tidemill_version",
]

NOT_FOR_READERS = [
    "select * from tm.lane",
    "select * from tm.log_1",
    "call tm.prepare_generation(9)",
    "delete from market_data",
    "select * from connector_profiles",
    "select profile_data from connector_profiles",
    "select * from tidemill_version",
    "select * from tidemill_migration",
    "delete from latest_quotes",
    "insert into connector_directory select * from connector_directory",
    "create table public.mine (a int)",
]


NOT_FOR_HTTP = [
    "insert into tm.outbox select * from tm.outbox",
    "select payload from tm.outbox",
    "select * from tm.parked",
    "select * from tm.secret_key",
    "select detail from tm.journal",
    "update tm.journal set principal = null",
    "delete from tm.journal",
    "truncate tm.journal",
    "update tm.lane set epoch = 0",
    "call tm.prepare_generation(9)",
    "delete from market_data",
    "insert into market_data select * from market_data",
    "select * from users",
    "select profile_data from connector_profiles",
    "select * from tm_late.public__market_data",
    "update latest_quotes set price = 0",
    "create table public.mine (a int)",
    "drop table tm.journal",
]


async def allowed(connection: Driver, statements: list[str]) -> list[str]:
    """Those of `statements` that were not refused for want of a privilege."""

    async def is_refused(statement: str) -> bool:
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            return True
        return False

    return [statement for statement in statements if not await is_refused(statement)]


async def test_the_service_does_its_work(database: str, login: Login) -> None:
    execute(database, A_LANE)
    async with login("tidemill_service") as connection:
        for statement in SERVICE_WORK.strip().split(";\n"):
            await connection.execute(statement)
        row = (1, 4, 9, 0, b"r", 0, 0, await connection.fetchval("select now()"))
        copied = await connection.copy_records_to_table(
            "log", schema_name="tm", columns=LOG_COLUMNS, records=[row]
        )
        assert copied == "COPY 1"
        assert await connection.fetchval("select count(*) from tm.log") == 4


async def test_the_service_changes_no_structure_and_no_fact(login: Login) -> None:
    async with login("tidemill_service") as connection:
        assert await allowed(connection, NOT_FOR_THE_SERVICE) == []


async def test_readers_read_read_models_and_facts(login: Login) -> None:
    async with login("tidemill_reader") as connection:
        for view in ("latest_quotes", "daily_bars", "connector_directory", "market_data"):
            assert await connection.fetch(f"select * from {view}") == []


READABLE = """
select n.nspname || '.' || c.relname as table_name, array_agg(a.attname::text order by a.attname) as columns
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname = 'public' and c.relkind in ('r', 'v') and has_column_privilege($1, c.oid, a.attnum, 'select')
  and c.relname not like 'tidemill\\_%' group by 1
"""


@pytest.mark.parametrize("role", ["tidemill_reader", "tidemill_http"])
async def test_the_columns_of_collections_are_readable_and_no_others(database: str, role: str) -> None:
    """Also of a state without a view: of its table every column but the secret ones."""
    named = collections_of(Deployment.of(Settings(), load_contexts(ALL)).catalog).values()
    declared = {
        f"{collection.table.schema or 'public'}.{collection.table.name}": sorted(collection.columns)
        for collection in named
    }
    connection = await asyncpg.connect(database)
    readable = {row["table_name"]: sorted(row["columns"]) for row in await connection.fetch(READABLE, role)}
    await connection.close()
    assert readable == declared


async def test_readers_read_nothing_else(login: Login) -> None:
    async with login("tidemill_reader") as connection:
        assert await allowed(connection, NOT_FOR_READERS) == []


async def test_what_serves_http_reads_what_readers_read_and_changes_none_of_it(login: Login) -> None:
    async with login("tidemill_http") as connection:
        for view in ("latest_quotes", "daily_bars", "connector_directory", "market_data", "users_view"):
            assert await connection.fetch(f"select * from {view}") == []
        assert await allowed(connection, NOT_FOR_HTTP) == []


async def test_an_external_writer_sees_nothing(login: Login) -> None:
    async with login(None) as connection:
        assert await allowed(connection, [*NOT_FOR_READERS, "select * from daily_bars"]) == []


async def test_names_of_the_callers_do_not_lead_the_owners_procedures_astray(login: Login) -> None:
    async with login("tidemill_service") as connection:
        await connection.execute("create temp table generation (gen int, closed_at timestamptz)")
        await connection.execute("insert into pg_temp.generation values (1, now())")
        await connection.execute(
            "create function pg_temp.format(text, int) returns text language sql as $$ select 'a trap' $$"
        )
        await connection.execute("set search_path = pg_temp, tm, pg_catalog")
        with pytest.raises(asyncpg.PostgresError, match="generation 1 is not closed"):
            await connection.execute("call tm.drop_generation(1, 'log')")
        await connection.execute("call tm.prepare_generation(3)")
        assert await connection.fetchval("select count(*) from tm.lane") == 0


async def test_the_service_checks_and_cannot_migrate(
    database: str, login: Login, unique_name: Callable[[str], str]
) -> None:
    user = unique_name("checker")
    execute(database, f"create role \"{user}\" login password 'secret' in role tidemill_service")
    try:
        await check(url_of(database, user))
        execute(
            database,
            "delete from tidemill_version",
            "delete from tidemill_migration",
            "drop schema tm cascade",
        )
        with pytest.raises(UsageError, match="permission denied"):
            await upgrade(url_of(database, user))
    finally:
        execute(database, f'drop owned by "{user}"', f'drop role "{user}"')
