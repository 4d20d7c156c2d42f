"""Declared tables beside those of a real database: every kind of difference, and what is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, Numeric, String, Table, Text, UniqueConstraint, or_
from sqlalchemy.dialects.postgresql import ENUM, TIMESTAMP

from tests.support.servers.databases import execute
from tidemill.catalog.tables import Difference, Kind
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.stream import Stream
from tidemill.storage.catalog.declared import TableUse, use_of_projection, uses_of_stream
from tidemill.storage.catalog.structure import differences
from tidemill.storage.database.pool import Pool, close_pool, create_pool

CONTEXTS = (connector_profiles, market_data)
USES = [
    use
    for context in CONTEXTS
    for use in (*uses_of_stream(Stream.of(context)), *map(use_of_projection, context.projections))
]
ROLE = "tidemill_service"
NAMES = "public.connector_profiles"
FACTS = "public.market_data"
GUARD = "connector_profiles_active_name"
GUARDED = "create unique index {} on connector_profiles ({}) {}"


@pytest.fixture(scope="module")
def shared(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """One database for cases that each leave it as it was."""
    with new_database() as url:
        yield url


@pytest.fixture
async def service(shared: str) -> AsyncIterator[Pool]:
    """Connections with the rights of the service."""
    pool = await create_pool(f"{shared}?role={ROLE}", application_name="tidemill-tests", size=1)
    yield pool
    await close_pool(pool)


async def broken(pool: Pool, *uses: TableUse) -> list[Difference]:
    return [each for each in await differences(pool, uses or USES) if each.breaks]


@dataclass(frozen=True)
class Case:
    """What is done to a database, what is said of it, and how it is undone where no draft does that."""

    done: str
    what: str
    kind: Kind = Kind.DIFFERS
    undo: str | None = None


CASES = {
    "table renamed": Case(
        "alter table market_data rename to elsewhere",
        f"{FACTS}: the table is missing",
        Kind.MISSING,
        "alter table elsewhere rename to market_data",
    ),
    "table that is a view": Case(
        "alter table market_data rename to elsewhere; create view market_data as table elsewhere",
        f"{FACTS}: it is a view, not a table",
        undo="drop view market_data; alter table elsewhere rename to market_data",
    ),
    "column missing": Case(
        "alter table market_data drop column source",
        f"{FACTS}: column source (text) is missing",
        Kind.MISSING,
    ),
    "column renamed": Case(
        "alter table latest_quotes rename column volume to amount",
        "public.latest_quotes: column volume (double precision) is missing",
        Kind.MISSING,
        "alter table latest_quotes rename column amount to volume",
    ),
    "narrower text": Case(
        "alter table connector_profiles alter column name type varchar(402)",
        f"{NAMES}: column name is character varying(402), narrower than text",
    ),
    "narrower number": Case(
        "alter table connector_profiles alter column version type integer",
        f"{NAMES}: column version is integer, narrower than bigint",
    ),
    "narrower decimal": Case(
        "alter table daily_bars alter column volume type numeric(20, 9)",
        "public.daily_bars: column volume is numeric(20,9), narrower than numeric",
    ),
    "domain of a narrower type": Case(
        "create domain short as varchar(9); alter table connector_directory alter column name type short",
        "public.connector_directory: column name is character varying(9), narrower than text",
    ),
    "other type": Case(
        "alter table connector_directory alter column name type bytea using name::bytea",
        "public.connector_directory: column name is bytea, not text",
        undo="alter table connector_directory alter column name type text using encode(name, 'hex')",
    ),
    "time without its zone": Case(
        "alter table latest_quotes alter column time type timestamp",
        "public.latest_quotes: column time is timestamp without time zone, not timestamp with time zone",
        undo="alter table latest_quotes alter column time type timestamptz",
    ),
    "null refused": Case(
        "alter table market_data alter column open set not null",
        f"{FACTS}: column open is NOT NULL, but null may be written",
    ),
    "required column that nobody fills": Case(
        "alter table market_data add column more integer not null",
        f"{FACTS}: column more is NOT NULL without a default, and nothing fills it",
    ),
    "computed column": Case(
        "alter table connector_directory drop column type, "
        "add column type text generated always as (upper(service_name)) stored",
        "public.connector_directory: column type is computed by the database, and takes no value",
    ),
    "guard missing": Case(f"drop index {GUARD}", f"{NAMES}: unique index {GUARD} is missing", Kind.MISSING),
    "guard under another name": Case(
        f"alter index {GUARD} rename to mine", f"{NAMES}: unique index {GUARD} is named mine"
    ),
    "guard of other columns": Case(
        f"drop index {GUARD}; {GUARDED.format(GUARD, 'name', 'where active')}",
        f"{NAMES}: unique index {GUARD} is on (name), not on (service_name, name)",
        undo=f"drop index {GUARD}; {GUARDED.format(GUARD, 'service_name, name', 'where active')}",
    ),
    "guard of all rows": Case(
        f"drop index {GUARD}; {GUARDED.format(GUARD, 'service_name, name', '')}",
        f"{NAMES}: unique index {GUARD} guards all rows, not rows where active",
        undo=f"drop index {GUARD}; {GUARDED.format(GUARD, 'service_name, name', 'where active')}",
    ),
    "guard of other rows": Case(
        f"drop index {GUARD}; {GUARDED.format(GUARD, 'service_name, name', 'where not active')}",
        f"{NAMES}: unique index {GUARD} guards rows where (NOT active), not rows where active",
        undo=f"drop index {GUARD}; {GUARDED.format(GUARD, 'service_name, name', 'where active')}",
    ),
    "guard that guards nothing": Case(
        f"update pg_index set indisvalid = false where indexrelid = '{GUARD}'::regclass",
        f"{NAMES}: unique index {GUARD} is not valid: its build was interrupted",
    ),
    "index that is not unique": Case(
        f"drop index {GUARD}; create index {GUARD} on connector_profiles (service_name, name) where active",
        f"{NAMES}: unique index {GUARD} is not unique",
        undo=f"drop index {GUARD}; {GUARDED.format(GUARD, 'service_name, name', 'where active')}",
    ),
    "primary key missing": Case(
        "alter table connector_profiles drop constraint connector_profiles_pkey",
        f"{NAMES}: the primary key (id) is missing",
        Kind.MISSING,
    ),
    "right taken": Case(
        "revoke insert, update on latest_quotes from tidemill_service",
        "public.latest_quotes: this login may not insert, update",
        Kind.MISSING,
    ),
    "right on a column alone": Case(
        "revoke select on connector_directory from tidemill_service; "
        "grant select (profile_id, name) on connector_directory to tidemill_service",
        "public.connector_directory: this login may not select",
        Kind.MISSING,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_what_breaks_a_promise_is_named_and_its_draft_mends_it(
    shared: str, service: Pool, name: str
) -> None:
    case = CASES[name]
    execute(shared, *case.done.split("; "))
    (told,) = await broken(service)
    assert (str(told), told.kind) == (case.what, case.kind)
    mends = case.undo or told.sql
    assert mends is not None
    execute(shared, *mends.split("; "))
    assert await broken(service) == []


EXTRAS = {
    "wider number": (
        "alter table latest_quotes alter column lane type bigint",
        "public.latest_quotes: column lane is bigint, wider than integer",
    ),
    "numbers that are never read as decimals": (
        "alter table market_data alter column price type numeric",
        f"{FACTS}: column price is numeric, wider than double precision",
    ),
    "null allowed": (
        "alter table market_data alter column source drop not null",
        f"{FACTS}: column source takes null too",
    ),
    "column of others": (
        "alter table market_data add column seen timestamptz not null default now()",
        f"{FACTS}: column seen is not declared",
    ),
    "index of others": (
        "create unique index ids on latest_quotes (id)",
        "public.latest_quotes: unique index ids on (id) is not declared",
    ),
}


@pytest.mark.parametrize("name", EXTRAS)
async def test_what_is_wider_or_extra_passes_and_is_told(database: str, name: str) -> None:
    done, what = EXTRAS[name]
    execute(database, done)
    pool = await create_pool(database, application_name="tidemill-tests", size=1)
    told = {str(each): each for each in await differences(pool, USES)}
    await close_pool(pool)
    assert told[what].kind is Kind.EXTRA
    assert not any(each.breaks for each in told.values())


async def test_the_built_in_tables_are_as_declared(database: str) -> None:
    pool = await create_pool(f"{database}?role={ROLE}", application_name="tidemill-tests", size=1)
    told = await differences(pool, USES)
    await close_pool(pool)
    assert told == []


async def test_a_table_that_is_missing_is_drafted_with_all_that_belongs_to_it(
    shared: str, service: Pool
) -> None:
    execute(shared, "alter table connector_profiles rename to elsewhere")
    own = (GUARD, "connector_profiles_data", "connector_profiles_type")
    execute(shared, *(f"alter index {name} rename to {name}_elsewhere" for name in own))
    (told,) = await broken(service)
    assert told.sql is not None
    execute(shared, *told.sql.split("; "))
    assert await broken(service) == []
    execute(shared, "drop table connector_profiles", "alter table elsewhere rename to connector_profiles")
    execute(shared, *(f"alter index {name}_elsewhere rename to {name}" for name in own))
    assert await broken(service) == []


# --- what a declaration may say ---


STATE = connector_profiles.state
assert STATE is not None
(UNIQUE,) = STATE.unique
assert isinstance(STATE.table, Table)
ACTIVE = STATE.table.c.active
SAME_ROWS = {
    "compared with true": ("where active = true", ACTIVE),
    "with more around it": ("where (active and true)", ACTIVE),
    "as either": ("where service_name in ('a', 'b')", STATE.table.c.service_name.in_(["a", "b"])),
    "several": (
        "where active or version > 3 or name <> 'x'",
        or_(ACTIVE, STATE.table.c.version > 3, STATE.table.c.name != "x"),
    ),
    "all rows": ("", None),
}


@pytest.mark.parametrize("name", SAME_ROWS)
async def test_conditions_are_compared_by_what_the_server_makes_of_them(
    shared: str, service: Pool, name: str
) -> None:
    where, declared = SAME_ROWS[name]
    assert STATE is not None
    state = replace(STATE, unique=(replace(UNIQUE, constraint="as_declared", where=declared),))
    use = uses_of_stream(Stream.of(replace(connector_profiles, state=state)))[0]
    execute(shared, GUARDED.format("as_declared", "name, service_name", where))
    assert await broken(service, use) == []
    execute(shared, "drop index as_declared")


async def test_a_condition_that_the_table_refuses_hides_nothing(shared: str, service: Pool) -> None:
    execute(shared, "alter table connector_profiles rename column active to alive")
    assert [str(each) for each in await broken(service)] == [
        f"{NAMES}: column active (boolean) is missing",
        f"{NAMES}: column alive is NOT NULL without a default, and nothing fills it",
    ]
    execute(shared, "alter table connector_profiles rename column alive to active")
    assert await broken(service) == []


def table(*items: Any) -> TableUse:
    declared = Table("things", MetaData(), *items)
    names = frozenset(declared.columns.keys())
    return TableUse(declared, frozenset({"usage", "insert", "select"}), names, names)


DECLARED = {
    "text of any length": ("a varchar", Column("a", Text)),
    "text of a length": ("a varchar(20)", Column("a", String(20))),
    "longer text": ("a text", Column("a", String(20))),
    "a decimal": ("a numeric(10)", Column("a", Numeric(10))),
    "a decimal with more digits": ("a numeric(12, 4)", Column("a", Numeric(10, 2))),
    "a time": ("a timestamptz(3)", Column("a", TIMESTAMP(timezone=True, precision=3))),
    "an enum": ("a mood", Column("a", ENUM("good", "bad", name="mood", schema="public"))),
    "an enum by its bare name": ("a mood", Column("a", ENUM("good", "bad", name="mood"))),
    "no type at all": ("a integer", Column("a")),
    "a name that wants quotes": ('"order" integer', Column("order", Integer)),
    "a domain": ("a plenty", Column("a", Integer)),
    "required, as SQLAlchemy would not": ("a integer not null default 1", Column("b", Integer)),
}


@pytest.mark.parametrize("name", DECLARED)
async def test_one_thing_is_written_in_many_ways(shared: str, service: Pool, name: str) -> None:
    created, column = DECLARED[name]
    execute(
        shared,
        "create type mood as enum ('good', 'bad')",
        "create domain plenty as integer check (value > 3)",
        f"create table things ({created}, b integer)",
        "grant select, insert on things to tidemill_service",
    )
    try:
        assert await broken(service, table(column)) == []
    finally:
        execute(shared, "drop table things", "drop type mood", "drop domain plenty")


async def test_indexes_that_sqlalchemy_declares_are_looked_for(shared: str, service: Pool) -> None:
    use = table(
        Column("a", Integer), Column("b", Integer), UniqueConstraint("a", name="one"), Index("two", "b")
    )
    execute(
        shared,
        "create table things (a integer, b integer)",
        "grant select, insert on things to tidemill_service",
    )
    told = {each.what: each for each in await differences(service, [use])}
    assert told.keys() == {"unique index one is missing", "index two is missing"}
    assert told["unique index one is missing"].breaks
    assert not told["index two is missing"].breaks, "without it we are slower, and no more"
    execute(shared, *(each.sql for each in told.values() if each.sql))
    assert await differences(service, [use]) == []
    execute(shared, "drop table things")
