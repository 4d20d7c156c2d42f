"""Drafted revisions on a real database: what they make is what was declared, and what they undo is as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.engine.entity_contexts import ACCOUNTS, FOLDERS, ITEMS, JOBS, TICKETS
from tests.support.servers.databases import Databases, execute, fetch, run_apart
from tidemill.admin.setup.tables import DraftedRevision, TableSetup
from tidemill.api import Context
from tidemill.catalog.misfits import breaking
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.catalog.tables import Difference, Kind
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.news_articles import context as news_articles
from tidemill.contexts.system_logs import context as system_logs
from tidemill.contexts.telemetry_events import context as telemetry_events
from tidemill.contexts.time_series import context as time_series
from tidemill.domain.errors import UsageError
from tidemill.domain.stream import Stream
from tidemill.queries.read_models import ReadModels
from tidemill.storage.catalog.declared import uses_of_stream
from tidemill.storage.catalog.structure import StructureDatabase
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.migrations.database import MigrationDatabase
from tidemill.storage.migrations.migrate import downgrade, upgrade
from tidemill.storage.read_models.pages import ReadModelDatabase

FACTS = (market_data, system_logs, telemetry_events, news_articles)
BUILT_IN = (*FACTS, time_series, connector_profiles)
DECLARED = (ACCOUNTS, JOBS, FOLDERS, ITEMS, TICKETS, *BUILT_IN)
NAMES = [context.aggregate for context in DECLARED]
MADE = """
select count(*) from pg_class where relnamespace in ('public'::regnamespace, 'tm_late'::regnamespace)
and relkind in ('r', 'v') and relname not like 'tidemill%'
"""
INDEXES = """
select tablename, indexdef from pg_indexes where schemaname = 'public' and tablename = any($1::text[]) order by indexdef
"""
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Site:
    """A database, and contexts whose revisions are in folders of a test's own."""

    url: str
    contexts: dict[str, Context]

    @property
    def folders(self) -> dict[str, Path | None]:
        return {context.name: context.migrations for context in self.contexts.values()}

    @property
    def catalog(self) -> StreamCatalog:
        return StreamCatalog(
            {name: ContextStream(context, Stream.of(context)) for name, context in self.contexts.items()}
        )

    @asynccontextmanager
    async def setup(self, role: str = "tidemill_service") -> AsyncIterator[TableSetup]:
        def server() -> tuple[str, None]:
            return self.url, None

        pool = await create_pool(f"{self.url}?role={role}", application_name="tidemill-tests", size=1)
        migrations = MigrationDatabase(owner=server, service=server, contexts=self.folders)
        try:
            yield TableSetup(self.catalog, migrations, StructureDatabase(pool))
        finally:
            await close_pool(pool)

    async def draft(self, aggregate: str, *, from_nothing: bool = False) -> DraftedRevision | None:
        async with self.setup() as setup:
            return await setup.draft(aggregate, from_nothing=from_nothing)

    async def differences(self, aggregate: str) -> list[Difference]:
        async with self.setup() as setup:
            return [item.difference for item in await setup.check([aggregate])]

    async def failing(self, aggregate: str) -> list[str]:
        return sorted(str(item) for item in await self.differences(aggregate) if item.kind is not Kind.EXTRA)

    async def apply(self) -> None:
        await upgrade(self.url, contexts=self.folders)


def without_server(context: Context) -> TableSetup:
    """What drafts where no database is."""

    def server() -> tuple[str, None]:
        raise AssertionError

    class Nowhere:
        async def open(self) -> None:
            raise AssertionError

    folders = {context.name: context.migrations}
    catalog = StreamCatalog({context.aggregate: ContextStream(context, Stream.of(context))})
    migrations = MigrationDatabase(owner=server, service=server, contexts=folders)
    return TableSetup(catalog, migrations, StructureDatabase(Nowhere()))  # type: ignore[arg-type]  # is never opened


async def write_first(context: Context) -> None:
    drafted = await without_server(context).draft(context.aggregate)
    assert drafted is not None
    assert drafted.changes.decisions == ()
    drafted.write()


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A database that has nothing but what was drafted without it."""
    folder = tmp_path_factory.mktemp("drafted")
    contexts = {context.aggregate: replace(context, migrations=folder / context.name) for context in DECLARED}

    async def make() -> None:
        for context in contexts.values():
            await write_first(context)
        await made.apply()

    with databases.empty() as url:
        made = Site(url, contexts)
        run_apart(make)
        yield made


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_drafted_from_nothing_leaves_no_difference(site: Site, name: str) -> None:
    assert await site.differences(name) == []
    assert await site.draft(name) is None


def test_facts_are_in_a_hypertable_and_late_rows_have_a_place(site: Site) -> None:
    query = "select hypertable_name, column_name from timescaledb_information.dimensions"
    assert {tuple(row) for row in fetch(site.url, query)} == {
        *((facts.name, "time") for facts in FACTS),
        ("time_series_data_points", "timestamp"),
    }
    assert fetch(site.url, "select to_regclass('tm_late.public__market_data') is not null")[0][0]


def test_drafted_indexes_are_those_of_the_migrations(site: Site, database: str) -> None:
    tables = sorted(
        use.table.name
        for context in BUILT_IN
        for use in uses_of_stream(Stream.of(site.contexts[context.aggregate]))
    )
    drafted, migrated = ([tuple(row) for row in fetch(url, INDEXES, tables)] for url in (site.url, database))
    assert drafted == migrated
    assert {table for table, _ in drafted} == {*tables}


async def test_readers_see_rows_in_force_and_nothing_hidden(site: Site) -> None:
    columns = (
        'id, service_name, name, pin, data, "order", name_folded, deleted, version, created_at, updated_at'
    )
    execute(
        site.url,
        f"insert into items ({columns}) values "
        "('i1', 's', 'Lamp', '1234', '{}', 1, 'lamp', false, 1, now(), now()), "
        "('i2', 's', 'Lid', '1235', '{}', 2, 'lid', true, 2, now(), now())",
    )
    pool = await create_pool(f"{site.url}?role=tidemill_reader", application_name="tidemill-tests", size=1)
    models = ReadModels(site.catalog.readable().values(), ReadModelDatabase(pool))
    page = await models.page("items")
    (row,) = page.rows
    await close_pool(pool)
    execute(site.url, "delete from items")
    assert page.columns == (
        "id",
        "service_name",
        "name",
        "data",
        "order",
        "version",
        "created_at",
        "updated_at",
    )
    assert (row["id"], row["name"], row["order"]) == ("i1", "Lamp", 1)
    assert "pin" not in row


def test_the_service_needs_nothing_of_a_view(site: Site) -> None:
    query = "select has_table_privilege('tidemill_service', 'items_view', 'select')"
    assert fetch(site.url, query)[0][0] is False


BROKEN = {
    "a column": ("jobs", "drop view jobs_view; alter table jobs drop column result"),
    "a column that a view has not": (
        "jobs",
        (
            "drop view jobs_view; alter table jobs drop column result; create view jobs_view as "
            "select id, service_name, account_id, name, status, started_at, version, created_at, updated_at "
            "from jobs where not deleted; "
            "grant select on jobs_view to tidemill_reader"
        ),
    ),
    "a narrower column that a view shows": (
        "items",
        (
            "drop view items_view; alter table items alter column name type varchar(300); create view "
            'items_view as select id, service_name, name, data, "order", version, created_at, updated_at '
            "from items where not deleted; "
            "grant select on items_view to tidemill_reader"
        ),
    ),
    "a view": ("folders", "drop view folder_files_view"),
    "a column of a view": (
        "folders",
        (
            "drop view folders_view; create view folders_view as select id, title from folders where not deleted; "
            "grant select on folders_view to tidemill_reader"
        ),
    ),
    "a view that shows what is hidden": (
        "items",
        (
            "drop view items_view; create view items_view as select id, service_name, name, pin, data, "
            '"order", version, created_at, updated_at from items where not deleted'
        ),
    ),
    "a view of deleted rows": (
        "accounts",
        (
            "drop view accounts_view; create view accounts_view as select id, service_name, username, full_name, "
            "version, created_at, updated_at from accounts; grant select on accounts_view to tidemill_reader"
        ),
    ),
    "indexes": ("items", "drop index items_data; drop index items_data_type; drop index items_order_name"),
    "a guard and a key": (
        "connector-profiles",
        (
            "drop index connector_profiles_active_name; alter table connector_directory drop constraint "
            "connector_directory_pkey"
        ),
    ),
    "indexes of facts": (
        "system-logs",
        "drop index system_logs_service_level_time; drop index system_logs_message",
    ),
    "a column under expressions": ("items", "drop view items_view; alter table items drop column data"),
    "guards": (
        "items",
        "drop index items_name_unique; alter index items_service_name_pin_unique rename to mine",
    ),
    "rights": (
        "market-data",
        (
            "revoke insert on market_data from tidemill_service; revoke select on latest_quotes from tidemill_reader; "
            "revoke all on daily_bars from tidemill_service"
        ),
    ),
    "the right on a view": ("jobs", "revoke select on jobs_view from tidemill_reader"),
    "a column of facts that leave": (
        "market-data",
        "alter table market_data drop column volume; alter table tm_late.public__market_data drop column volume",
    ),
    "the place of late rows": ("market-data", "drop table tm_late.public__market_data"),
    "what may not be null": ("jobs", "alter table jobs alter column result set not null"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_draft_ends_the_differences_and_its_downgrade_brings_them_back(site: Site, name: str) -> None:
    aggregate, broken = BROKEN[name]
    context = site.contexts[aggregate]
    execute(site.url, *broken.split("; "))
    before = await site.failing(aggregate)
    assert before
    drafted = await site.draft(aggregate)
    assert drafted is not None
    drafted.write()
    try:
        await site.apply()
        assert await site.failing(aggregate) == []
        await downgrade(site.url, targets=[f"{context.name}@-1"], contexts=site.folders)
        assert await site.failing(aggregate) == before
    finally:
        await site.apply()
        drafted.path.unlink()
        revision = f"{context.name}_0002"
        execute(
            site.url,
            f"update tidemill_version set version_num = '{context.name}_0001' where version_num = '{revision}'",
            f"delete from tidemill_migration where revision = '{revision}'",
        )
    assert await site.failing(aggregate) == []


async def test_a_missing_view_stops_no_lane(site: Site) -> None:
    execute(site.url, "alter view accounts_view rename to elsewhere")
    pool = await create_pool(f"{site.url}?role=tidemill_service", application_name="tidemill-tests", size=1)
    differences = await StructureDatabase(pool).stream_differences(Stream.of(ACCOUNTS))
    await close_pool(pool)
    execute(site.url, "alter view elsewhere rename to accounts_view")
    assert [str(item) for item in differences] == ["public.accounts_view: the view is missing"]
    assert breaking(differences) == []


async def test_what_is_wider_or_more_is_shown_and_needs_no_draft(site: Site) -> None:
    execute(
        site.url,
        "alter table accounts add column note text",
        "create index accounts_note on accounts (note)",
        "alter table accounts alter column full_name drop not null",
    )
    try:
        differences = await site.differences("accounts")
        assert {item.kind for item in differences} == {Kind.EXTRA}
        assert await site.draft("accounts") is None
    finally:
        execute(site.url, "alter table accounts drop column note")


async def test_what_a_person_has_to_decide_is_a_comment(site: Site) -> None:
    execute(
        site.url,
        "drop view jobs_view",
        "alter table jobs alter column name type bytea using name::bytea",
        "alter table jobs drop column status",
    )
    try:
        drafted = await site.draft("jobs")
        assert drafted is not None
        joined = " ".join(line.strip(" #") for line in drafted.text.splitlines())
        assert "public.jobs: column name is bytea, not text: nothing is drafted for it" in joined
        assert "public.jobs: column status may be null in rows that exist: fill it in them" in joined
        assert "bytea" not in "".join(drafted.changes.upgrade)
    finally:
        execute(
            site.url,
            "alter table jobs alter column name type text using encode(name, 'hex')",
            "alter table jobs add column status text not null",
            "create index jobs_account_id_status on jobs (account_id, status)",
            "create view jobs_view as select id, service_name, account_id, name, status, result, started_at, version, "
            "created_at, updated_at from jobs where not deleted",
            "grant select on jobs_view to tidemill_reader",
        )
    assert await site.failing("jobs") == []


async def test_a_database_that_lacks_revisions_of_the_context_is_not_compared(
    database: str, tmp_path: Path
) -> None:
    context = replace(ACCOUNTS, migrations=tmp_path / "accounts")
    await write_first(context)
    other = Site(database, {"accounts": context})
    with pytest.raises(
        UsageError, match="the database lacks accounts_0001 of accounts, which a draft would repeat"
    ):
        await other.draft("accounts")
    again = await other.draft("accounts", from_nothing=True)
    assert again is not None
    assert 'down_revision = "accounts_0001"' in again.text


async def test_everything_that_was_drafted_is_undone(databases: Databases, tmp_path: Path) -> None:
    context = replace(market_data, migrations=tmp_path / "market_data")
    await write_first(context)
    with databases.empty() as url:
        drafted = Site(url, {"market-data": context})
        await drafted.apply()
        assert fetch(url, MADE)[0][0] == 4
        await downgrade(url, targets=["market_data@base"], contexts=drafted.folders)
        assert fetch(url, MADE)[0][0] == 0
        await drafted.apply()
        assert await drafted.differences("market-data") == []
