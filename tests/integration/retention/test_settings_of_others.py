"""No setting of database, login or environment reaches what the archive reads, compares or writes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.archive import fidelity
from tests.support.seeds import sample
from tests.support.servers.databases import Databases, execute
from tidemill.domain.archive.slices import LakeColumn, Measured, SliceId
from tidemill.domain.errors import ContractError
from tidemill.lakehouse.arrow import conform
from tidemill.lakehouse.digest import Digest
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader
from tidemill.storage.database.pool import Connection, close_pool, connection, create_pool
from tidemill.storage.retention import arrow_reader, digest_sql, measurement
from tidemill.storage.retention.restore import restore_batches

TABLE = "public.every_type"
SPAN = SliceId(TABLE, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))

HOSTILE = {
    "client_encoding": "LATIN1",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "backslash_quote": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "datestyle": "'German, DMY'",
    "intervalstyle": "iso_8601",
    "timezone": "'Asia/Kathmandu'",
    "timezone_abbreviations": "'India'",
    "extra_float_digits": "'-15'",
    "bytea_output": "escape",
    "xmlbinary": "hex",
    "xmloption": "document",
    "lc_messages": "'C'",
    "lc_monetary": "'C'",
    "lc_numeric": "'C'",
    "lc_time": "'C'",
    "default_text_search_config": "'pg_catalog.german'",
    "search_path": '\'"Odd ""place""", pg_catalog\'',
    "row_security": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "default_toast_compression": "pglz",
    "default_table_access_method": "heap",
    "check_function_bodies": "off",
    "constraint_exclusion": "on",
    "debug_parallel_query": "on",
    "gin_fuzzy_search_limit": "1",
    "plan_cache_mode": "force_generic_plan",
    "jit": "on",
    "jit_above_cost": "0",
    "enable_seqscan": "off",
    "enable_hashagg": "off",
    "enable_sort": "off",
    "enable_partition_pruning": "off",
    "synchronize_seqscans": "off",
    "work_mem": "'64kB'",
    "statement_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'1ms'",
    "timescaledb.enable_transparent_decompression": "off",
}
"""What a database or a login may have set; `default_transaction_read_only` is refused where rows are written."""

ENVIRONMENT = {
    "PGCLIENTENCODING": "LATIN1",
    "PGOPTIONS": "-c quote_all_identifiers=on -c standard_conforming_strings=off -c bytea_output=escape",
    "PGDATESTYLE": "SQL, DMY",
    "PGTZ": "Asia/Kathmandu",
    "PGGEQO": "off",
}


@dataclass(frozen=True)
class World:
    """A table with every type, measured before anything was set."""

    url: str
    columns: tuple[LakeColumn, ...]
    sealed: Measured
    root: Path

    async def compared(self) -> None:
        """Test the server, then let the service measure the rows and the reader read them: all as before."""
        async with session_of(self.url) as session, session.transaction():
            await measurement.check_vectors(session)
            assert (await measurement.columns_of(session, TABLE)).columns == self.columns
            assert await measurement.measure(session, self.columns, "at", TABLE) == self.sealed
        assert await asyncio.to_thread(self._read) == self.sealed

    def _read(self) -> Measured:
        digest = Digest(self.columns, "at")
        for batch in arrow_reader.read(self.url, digest_sql.read_sql(self.columns, TABLE)):
            digest.add(conform(batch, self.columns))
        return digest.measured()

    async def archived(self) -> Measured:
        """Copy, read back and restore; return what was restored."""
        rows = arrow_reader.read(self.url, digest_sql.read_sql(self.columns, TABLE))
        copy = await asyncio.to_thread(
            LakeWriter(str(self.root)).write, SPAN, "event-1", self.columns, "at", rows
        )
        assert copy.measured == self.sealed
        async with session_of(self.url) as session:
            async with session.transaction():
                assert not await measurement.preflight(session, self.columns, TABLE)
            return await restored(session, self.root, [file.path for file in copy.files], self.columns)


async def restored(
    session: Connection, root: Path, files: list[str], columns: tuple[LakeColumn, ...]
) -> Measured:
    async with session.transaction():
        await session.execute(f"create table public.restored (like {TABLE})")
        parts = LakeReader([str(root)]).copy_parts(files, columns, "at")
        await restore_batches(session, "public.restored", columns, parts)
        found = await measurement.measure(session, columns, "at", "public.restored")
        await session.execute("drop table public.restored")
    return found


@asynccontextmanager
async def session_of(url: str) -> AsyncIterator[Connection]:
    pool = await create_pool(url, application_name="test", size=1)
    try:
        async with connection(pool) as session:
            yield session
    finally:
        await close_pool(pool)


@pytest.fixture
async def world(database: str, tmp_path: Path) -> World:
    async with session_of(database) as session:
        for statement in (
            *fidelity.PREPARATION,
            fidelity.create_sql("every_type"),
            *fidelity.insert_sql("every_type"),
        ):
            await session.execute(statement)
        async with session.transaction():
            columns = (await measurement.columns_of(session, TABLE)).columns
            sealed = await measurement.measure(session, columns, "at", TABLE)
    return World(database, columns, sealed, tmp_path)


def alter(url: str, of: str, what: str) -> None:
    """Change a setting of the database, or of the login in it, from another database."""
    parts = urlsplit(url)
    name, login = parts.path[1:], parts.username
    target = f'database "{name}"' if of == "database" else f'role "{login}" in database "{name}"'
    execute(parts._replace(path="/postgres").geturl(), f"alter {target} {what}")


@pytest.mark.slow
async def test_no_setting_alone_changes_anything(world: World) -> None:
    """A few of them in each run; that all of them change nothing together is seen in every run, below."""
    for setting, value in sample(list(HOSTILE.items()), 10):
        await asyncio.to_thread(alter, world.url, "database", f"set {setting} = {value}")
        await world.compared()
        await asyncio.to_thread(alter, world.url, "database", f"reset {setting}")


@pytest.mark.parametrize("of", ["database", "role"])
async def test_all_settings_at_once_change_nothing(world: World, of: str) -> None:
    for setting, value in HOSTILE.items():
        await asyncio.to_thread(alter, world.url, of, f"set {setting} = {value}")
    await world.compared()
    assert await world.archived() == world.sealed


async def test_no_variable_of_libpq_changes_anything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
        await world.compared()
    assert await world.archived() == world.sealed


async def test_a_transaction_of_the_archive_has_no_time_limit_of_others(world: World) -> None:
    await asyncio.to_thread(alter, world.url, "database", "set transaction_timeout = '1h'")
    async with session_of(world.url) as session, session.transaction():
        assert await session.fetchval("show transaction_timeout") == "1h"
        await measurement.measure(session, world.columns, "at", TABLE)
        assert await session.fetchval("show transaction_timeout") == "0"


async def test_a_login_that_may_not_see_all_rows_is_refused_and_measures_none(database: str) -> None:
    """Otherwise the copy would be of the rows that it sees, and all of them would be dropped."""
    async with session_of(database) as session:
        await session.execute("""
            create table public.shared (at timestamptz not null, owner text);
            insert into public.shared values ('2026-01-01', 'ours'), ('2026-01-02', 'theirs');
            alter table public.shared enable row level security;
            create policy ours on public.shared using (owner = 'ours');
            grant select on public.shared to tidemill_retention;
        """)
        async with session.transaction():
            columns = (await measurement.columns_of(session, "public.shared")).columns
            await session.execute("set local role tidemill_retention")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await measurement.measure(session, columns, "at", "public.shared")


def test_rows_of_a_database_in_another_encoding_are_not_read(databases: Databases) -> None:
    with (
        databases.empty("encoding 'LATIN1' locale 'C' template template0") as url,
        pytest.raises(ContractError, match="encoded in LATIN1"),
    ):
        list(arrow_reader.read(url, "select 1 as one"))


def test_parameters_of_an_address_go_with_ours() -> None:
    made = arrow_reader._with_parameters(
        "postgresql://u:p@h/d?options=-c%20geqo%3Doff&connect_timeout=3", "x"
    )
    assert "client_encoding=UTF8" in made
    assert "connect_timeout=3" in made
    assert made.index("geqo%3Doff") < made.index("quote_all_identifiers%3Doff")
