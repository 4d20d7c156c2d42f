"""Migrations on a real database: up and down, one at a time, and errors that say what to do."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from tests.support.servers.databases import Databases, execute, fetch
from tests.support.waiting import eventually
from tidemill.admin.setup.revisions import MigrationStep
from tidemill.app.context_loader import load_contexts
from tidemill.domain.context import AppendSpec
from tidemill.domain.errors import ContractError, Unavailable, UsageError
from tidemill.domain.table_shape import TableShape
from tidemill.storage.migrations import applied
from tidemill.storage.migrations.applied import NotMigrated, check
from tidemill.storage.migrations.connection import MigrationLimits
from tidemill.storage.migrations.migrate import downgrade, status, upgrade, upgrade_sql
from tidemill.storage.migrations.revisions import draft
from tidemill.storage.migrations.session import MigrationBlocked, MigrationFailed

MARKET_DATA = ["market_data_0001", "market_data_0002", "market_data_0003"]
PROFILES = ["connector_profiles_0001", "connector_profiles_0002"]
FILES = sorted((Path(__file__).parents[3] / "migrations").glob("*/[0-9]*.py"))
REVISIONS = [f"{file.parent.name}_{file.name[:4]}" for file in FILES]
BUILT_IN = set(REVISIONS)
HEADS = set({revision.rpartition("_")[0]: revision for revision in REVISIONS}.values())
(CORE_HEAD,) = (revision for revision in HEADS if revision.startswith("core_"))
CORE = {revision for revision in BUILT_IN if revision.startswith("core_")}
OBJECTS = """
select n.nspname || '.' || c.relname || ' ' || c.relkind::text as object
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('public', 'tm') union all
select n.nspname || '.' || p.proname || '()' from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'tm' union all
select 'chunk of ' || hypertable_name from timescaledb_information.chunks
"""

WAITING = """
select from pg_stat_activity
where application_name = 'tidemill-migrate' and wait_event_type = 'Lock' and datname = current_database()
"""


def names(steps: list[MigrationStep]) -> list[str]:
    return [step.revision for step in steps]


def objects(url: str) -> set[str]:
    return {row["object"] for row in fetch(url, OBJECTS)}


def recorded(url: str) -> list[list[str]]:
    """What both version tables say, without times and logins."""
    return [
        sorted(row[0] for row in fetch(url, f"select {what} from public.{table}"))
        for what, table in (
            ("version_num", "tidemill_version"),
            ("concat_ws(' ', revision, branch, description)", "tidemill_migration"),
        )
    ]


def revision(folder: Path, number: int, body: str, *, branch: str = "sensor_reading") -> None:
    """Write a revision of a plug-in."""
    before = repr(f"{branch}_{number - 1:04d}") if number > 1 else None
    (folder / f"{number:04d}_step.py").write_text(
        f'"""Step {number}."""\n'
        "from tidemill.migration import run_script\n"
        f"revision, down_revision = '{branch}_{number:04d}', {before}\n"
        f"branch_labels = {(branch,) if number == 1 else None}\n"
        f"depends_on = {'core_0001' if number == 1 else None!r}\n"
        f"def upgrade():\n    run_script('''{body}''')\n"
        f"def downgrade():\n    run_script('drop table sensor_{number}')\n",
        encoding="utf-8",
    )


@asynccontextmanager
async def holding(url: str, statement: str) -> AsyncIterator[None]:
    """A session called `busybody` that keeps a transaction open."""
    connection = await asyncpg.connect(url, server_settings={"application_name": "busybody"})
    try:
        await connection.execute("begin")
        await connection.execute(statement)
        yield
    finally:
        await connection.close()


# --- up and down -----------------------------------------------------------------------------------------------------


async def test_up_down_and_up_again(empty_database: str) -> None:
    seen: list[MigrationStep] = []
    applied = await upgrade(empty_database, on_step=seen.append)
    assert seen == applied
    assert set(names(applied)) == BUILT_IN
    assert names(applied)[0] == "core_0001"
    whole = objects(empty_database)

    undone = await downgrade(empty_database, targets=["base"])
    assert names(undone)[-1] == "core_0001"
    assert {step.direction for step in undone} == {"down"}
    left = objects(empty_database)
    assert left == {
        f"public.tidemill_{kind}"
        for kind in ("version r", "version_pkc i", "migration r", "migration_pkey i")
    }

    await upgrade(empty_database)
    assert objects(empty_database) == whole
    assert await upgrade(empty_database) == []


async def test_a_branch_goes_alone_and_core_takes_all_with_it(database: str) -> None:
    assert names(await downgrade(database, targets=["market_data@base"])) == MARKET_DATA[::-1]
    assert not any("market_data" in each for each in objects(database))
    assert any("public.connector_profiles" in each for each in objects(database))
    assert names(await upgrade(database, targets=["market_data@head"])) == MARKET_DATA
    assert set(names(await downgrade(database, targets=["core@base"]))) == BUILT_IN


async def test_status_tells_what_is_applied_since_when(database: str) -> None:
    await downgrade(database, targets=["market_data@base"])
    known = {info.revision: info for info in await status(database)}
    assert set(known) == BUILT_IN
    assert known["core_0001"].applied_at is not None
    assert known[CORE_HEAD].is_current
    assert not known["core_0001"].is_current, "a later one stands on it"
    assert known["market_data_0001"].applied_at is None
    assert not known["market_data_0001"].is_current
    assert known["market_data_0001"].service_name == "market_data"
    assert "hypertable" not in known["market_data_0001"].description  # one line, the first


async def test_a_service_is_told_what_is_missing(database: str, empty_database: str) -> None:
    await check(database)
    await downgrade(database, targets=["market_data@base"])
    with pytest.raises(NotMigrated, match=r"market_data_0002, market_data_0003: run `tidemill migrate`"):
        await check(database)
    with pytest.raises(NotMigrated) as none:
        await check(empty_database)
    assert set(none.value.missing) == BUILT_IN


async def test_a_service_does_not_start_on_an_old_timescaledb(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applied, "OLDEST_TIMESCALEDB", (99, 0))
    with pytest.raises(UsageError, match="too old"):
        await check(database)


async def test_the_extension_may_be_in_a_schema_of_its_own(empty_database: str) -> None:
    execute(empty_database, 'create schema "of its own"', 'create extension timescaledb schema "of its own"')
    assert set(names(await upgrade(empty_database))) == BUILT_IN
    await check(empty_database)
    execute(
        empty_database,
        "insert into public.market_data (time, symbol, price, source, command_id) "
        "values ('2013-02-01', 'AAPL', 1, 'test', gen_random_uuid())",
    )
    assert "chunk of market_data" in objects(empty_database)
    assert set(names(await downgrade(empty_database, targets=["base"]))) == BUILT_IN


async def test_a_database_that_cannot_hold_every_text_is_refused_by_name(databases: Databases) -> None:
    with databases.empty("encoding 'LATIN1' locale 'C' template template0") as url:
        for ask in (upgrade, check):
            with pytest.raises(UsageError, match=r"encoded in LATIN1, and must be in UTF8.*create database"):
                await ask(url)
        assert objects_of_ours(url) == []


def objects_of_ours(url: str) -> list[str]:
    return [row[0] for row in fetch(url, "select relname from pg_class where relname like 'tidemill%'")]


async def test_a_revision_that_is_refused_is_not_said_to_want_a_migration(
    database: str, tmp_path: Path
) -> None:
    revision(tmp_path, 1, "select by_what('time')")
    with pytest.raises(MigrationFailed, match=r"42883: function by_what\(unknown\)") as refused:
        await upgrade(database, contexts={"sensor_reading": tmp_path})
    assert "tidemill migrate" not in str(refused.value)


# --- one at a time ---------------------------------------------------------------------------------------------------


async def test_of_two_migrators_one_waits_and_both_succeed(empty_database: str) -> None:
    command = (sys.executable, "-m", "tidemill.storage.migrations.migrate", empty_database)
    both = [
        await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        for _ in range(2)
    ]
    said = [(await process.communicate())[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(sum(revision in text for revision in BUILT_IN) for text in said) == [0, len(BUILT_IN)]


async def test_one_process_may_migrate_two_databases_at_once(database: str, empty_database: str) -> None:
    await downgrade(database, targets=["base"])
    done = await asyncio.gather(*(upgrade(url) for url in (database, empty_database, database)))
    assert sorted(len(steps) for steps in done) == [0, len(BUILT_IN), len(BUILT_IN)]


async def test_who_waits_in_vain_for_his_turn_is_told_whose_it_is(empty_database: str) -> None:
    async with holding(empty_database, "select pg_advisory_lock(7018643070)"):
        with pytest.raises(MigrationBlocked, match=r"its turn.*busybody"):
            await upgrade(empty_database, limits=MigrationLimits(turn_s=0.5))
    await upgrade(empty_database)


async def test_a_lock_that_is_held_too_long_is_reported_with_its_holder(database: str) -> None:
    async with holding(database, "select 1 from connector_directory"):
        with pytest.raises(
            MigrationBlocked, match=r"revision connector_profiles_0001.*busybody.*directory"
        ) as blocked:
            await downgrade(
                database, targets=["market_data@base", "core@base"], limits=MigrationLimits(lock_s=0.6)
            )
        assert len(blocked.value.holders) == 1
    applied = {info.revision for info in await status(database) if info.applied_at}
    assert applied <= BUILT_IN - {*MARKET_DATA}, "what was undone before stays undone"
    assert applied >= CORE | {"connector_profiles_0001"}, "the rest stays"
    assert len(await downgrade(database, targets=["base"])) == len(applied)


async def test_a_waiting_migrator_goes_on_when_the_lock_is_free(database: str) -> None:
    async with holding(database, "select 1 from connector_directory"):
        going = asyncio.create_task(downgrade(database, targets=["connector_profiles@base"]))
        await eventually(lambda: fetch(database, WAITING), what="the migrator waits for the lock")
    assert names(await going) == PROFILES[::-1]


# --- plug-ins --------------------------------------------------------------------------------------------------------


async def test_a_plug_in_is_a_branch_of_its_own(database: str, tmp_path: Path) -> None:
    revision(
        tmp_path,
        1,
        "create table sensor_1 (a int); insert into sensor_1 values (1); insert into sensor_1 values (2)",
    )
    with pytest.raises(NotMigrated, match="sensor_reading_0001"):
        await check(database, contexts={"sensor_reading": tmp_path})
    assert names(await upgrade(database, contexts={"sensor_reading": tmp_path})) == ["sensor_reading_0001"]
    assert fetch(database, "select count(*) from sensor_1")[0][0] == 2
    await check(database, contexts={"sensor_reading": tmp_path})
    await check(database)  # a service without the plug-in does not mind
    with pytest.raises(UsageError, match=r"sensor_reading_0001.*not installed here, install it"):
        await upgrade(database)


async def test_a_refused_revision_is_undone_whole_and_those_before_it_stay(
    database: str, tmp_path: Path
) -> None:
    revision(tmp_path, 1, "create table sensor_1 (a int)")
    revision(tmp_path, 2, "create table sensor_2 (a int); create table sensor_1 (a int)")
    with pytest.raises(
        MigrationFailed, match=r'sensor_reading_0002 was refused.*relation "sensor_1" already exists'
    ):
        await upgrade(database, contexts={"sensor_reading": tmp_path})
    assert fetch(database, "select to_regclass('sensor_1'), to_regclass('sensor_2')")[0][1] is None
    current = {
        info.revision
        for info in await status(database, contexts={"sensor_reading": tmp_path})
        if info.is_current
    }
    assert current == HEADS | {"sensor_reading_0001"}


async def test_a_statement_that_takes_too_long_ends(database: str, tmp_path: Path) -> None:
    revision(tmp_path, 1, "select pg_sleep(30)")
    with pytest.raises(MigrationFailed, match="statement timeout"):
        await upgrade(
            database, contexts={"sensor_reading": tmp_path}, limits=MigrationLimits(statement_s=0.3)
        )


async def test_a_draft_runs_and_carries_the_rules(database: str, tmp_path: Path) -> None:
    first = draft("tide_gauge", "Count the tides.", folder=tmp_path)
    assert first.name == "0001_count_the_tides.py"
    assert "hypertable" in first.read_text(encoding="utf-8")
    second = draft("tide_gauge", "and the ebbs", folder=tmp_path)
    assert second.name == "0002_and_the_ebbs.py"
    done = await upgrade(database, contexts={"tide_gauge": tmp_path})
    assert [(step.revision, step.description) for step in done] == [
        ("tide_gauge_0001", "Count the tides"),
        ("tide_gauge_0002", "and the ebbs"),
    ]
    assert len(await downgrade(database, targets=["tide_gauge@base"], contexts={"tide_gauge": tmp_path})) == 2


def test_a_draft_wants_a_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Tide-Gauge"):
        draft("Tide-Gauge", "something", folder=tmp_path)


# --- what people get wrong -------------------------------------------------------------------------------------------


async def test_revisions_that_do_not_fit_are_refused_before_anything_is_touched(tmp_path: Path) -> None:
    revision(tmp_path, 1, "select 1")
    (tmp_path / "copy.py").write_text(
        (tmp_path / "0001_step.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    with pytest.raises(ContractError, match="sensor_reading_0001"):
        await upgrade("postgresql://127.0.0.1:1/nowhere", contexts={"sensor_reading": tmp_path})
    with pytest.raises(ContractError, match="no folder of migrations"):
        await upgrade("postgresql://127.0.0.1:1/nowhere", contexts={"sensor_reading": tmp_path / "missing"})


async def test_a_wrong_target_and_an_absent_server_are_named(database: str) -> None:
    with pytest.raises(UsageError, match="nonsense"):
        await upgrade(database, targets=["nonsense@head"])
    with pytest.raises(Unavailable):
        await upgrade("postgresql://postgres@127.0.0.1:1/nowhere")


async def test_a_login_without_rights_is_told_so(database: str, empty_database: str) -> None:
    await check(database)
    fetch(empty_database, "select 1")
    url = empty_database.replace("postgresql://postgres:", "postgresql://nobody_known:")
    with pytest.raises(UsageError, match="refuses this login"):
        await upgrade(url)


# --- drift -----------------------------------------------------------------------------------------------------------

COLUMNS = """
select attname as name, format_type(atttypid, atttypmod) as type, not attnotnull as nullable
from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum
"""
PRIMARY_KEY = """
select a.attname as name from pg_index i cross join unnest(i.indkey) with ordinality as k (attnum, place)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
where i.indrelid = $1::regclass and i.indisprimary order by k.place
"""


def declared_tables() -> dict[str, Table]:
    found: list[TableShape] = []
    for context in load_contexts("all"):
        found += [spec.table for spec in context.commands if isinstance(spec, AppendSpec)]
        found += [state.table for state in context.states]
        found += [projection.table for projection in context.projections]
    return {table.name: table for table in found if isinstance(table, Table)}


@pytest.mark.parametrize("name", sorted(declared_tables()))
def test_tables_are_what_the_migrations_made(name: str, database: str) -> None:
    table = declared_tables()[name]
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    declared = [
        (column.name, column.type.compile(dialect=dialect).lower(), bool(column.nullable))
        for column in table.columns
    ]
    made = [(row["name"], row["type"], row["nullable"]) for row in fetch(database, COLUMNS, table.fullname)]
    assert declared == made
    keys = [row["name"] for row in fetch(database, PRIMARY_KEY, table.fullname)]
    assert [column.name for column in table.primary_key.columns] == keys


def test_every_declared_guard_exists(database: str) -> None:
    guards = {
        unique.constraint
        for context in load_contexts("all")
        for state in context.states
        for unique in state.unique
    }
    query = "select indexrelid::regclass::text as name from pg_index where indisunique"
    assert guards <= {row["name"] for row in fetch(database, query)}


async def test_what_is_written_down_makes_the_same_database(empty_database: str, database: str) -> None:
    execute(empty_database, upgrade_sql())
    assert recorded(empty_database) == recorded(database)
    assert objects(empty_database) == objects(database)
    await check(empty_database)
    assert await upgrade(empty_database) == []
