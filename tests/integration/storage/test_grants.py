"""Service and HTTP have the rights that their statements need: each may run, and each right is needed by one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

import tidemill
from tidemill.commands.rows import LedgerRow, LogRow, OutboxRow, ParkedRow
from tidemill.security.data_keys import SecretKeyRow
from tidemill.storage.database.statements import load_statements
from tidemill.storage.migrations.connection import Driver
from tidemill.storage.queries.archived import late_table, spans_left

FILES = sorted((Path(tidemill.__file__).parent / "storage").rglob("*.sql"))
COPIED = {
    "log": LogRow._fields,
    "outbox": OutboxRow._fields,
    "parked": ParkedRow._fields,
    "batch": LedgerRow._fields,
    "secret_key": SecretKeyRow._fields,
}
OF_THE_OWNER = {
    "create_lanes",
    "open_ledgers",
    "open_hints",
    "lock_rebuild",
    "unlock_rebuild",
    "next_incarnation",
    "drop_other_checkpoints",
    "shadow_definition",
    "obstacles",
    "hold_checkpoints",
    "withdrawn_checkpoints",
    "adopt_incarnation",
    "forget_halts",
    "note_verified",
    "lock_principals",
    "put_principal",
    "put_principal_grant",
    "put_principal_token",
    "remove_principal_grant",
}
"""Statements of `topics create`, `projections rebuild|verify` and `principals`, which run under the owner's login."""
OF_HTTP = {
    "journal": ("server_time", "append_entries", "entry_hash"),
    "operations": ("lanes", "commands_logged", "projections", "checkpoints", "projection_halts"),
    "principals": ("principal_version", "principals", "principal_grants", "principal_tokens"),
    "processes": ("note_process", "forget_process"),
}
"""What `serve http` runs, by file: all that its adapters may ask, in the files where not everything is for it."""
FILES_OF_HTTP = frozenset({"archived", "seen", "service", "submissions"})
"""Files whose statements `serve http` may all run."""
GENERATED_FOR_HTTP = {"spans_left": spans_left("public.market_data", has_late=True)}
"""Name -> a statement on tables of `tm` that is not in a file, as it is generated or copied."""
AHEAD_FOR_HTTP: dict[str, str] = {}
"""Rights that no statement needs yet, and what they are for: a line leaves with the statement that needs it."""

SERVICE, HTTP = "tidemill_service", "tidemill_http"
GRANTS = """
select c.oid::regclass::text as table_name, null as column_name, a.privilege_type as privilege
from pg_class c cross join lateral aclexplode(c.relacl) a
where c.relnamespace = 'tm'::regnamespace and a.grantee = $1::regrole and c.relkind in ('r', 'p', 'v')
union all
select c.oid::regclass::text, t.attname, a.privilege_type
from pg_class c join pg_attribute t on t.attrelid = c.oid cross join lateral aclexplode(t.attacl) a
where c.relnamespace = 'tm'::regnamespace and a.grantee = $1::regrole
"""


WRITABLE_ELSEWHERE = """
select c.oid::regclass::text as table_name from pg_class c
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid not in ('tm.journal'::regclass, 'tm.process'::regclass)
  and c.relnamespace::regnamespace::text not like 'pg_%' and c.relnamespace::regnamespace::text <> 'information_schema'
  and (has_table_privilege($1, c.oid, 'insert, update, delete, truncate')
       or has_any_column_privilege($1, c.oid, 'insert, update'))
"""


class Grant(NamedTuple):
    table: str
    column: str | None
    privilege: str
    role: str = SERVICE

    @property
    def revoke(self) -> str:
        columns = "" if self.column is None else f" ({self.column})"
        return f"revoke {self.privilege}{columns} on {self.table} from {self.role}"


def statements(*, of_retention: bool = False) -> Iterator[tuple[str, str]]:
    """Name and text of all that the service runs on tables of `tm`, calls of procedures aside.

    `of_retention`: also what the archive needs, of which the service may only run what reads.
    """
    for file in FILES:
        for name, sql in load_statements(file).items():
            is_ours = of_retention or file.parent.name != "retention"
            if is_ours and name not in OF_THE_OWNER and "call tm." not in sql:
                yield f"{file.stem}.{name}", sql
    for table, fields in COPIED.items():
        columns = ", ".join(fields)
        yield f"copy {table}", f"insert into tm.{table} ({columns}) select {columns} from tm.{table}"


@asynccontextmanager
async def rolled_back(connection: Driver, *before: str) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        for statement in before:
            await connection.execute(statement)
        yield
    finally:
        await transaction.rollback()


def statements_of_http() -> Iterator[tuple[str, str]]:
    """Name and text of all that `serve http` runs on tables of `tm`."""
    for file in FILES:
        for name, sql in load_statements(file).items():
            if file.stem in FILES_OF_HTTP or name in OF_HTTP.get(file.stem, ()):
                yield f"{file.stem}.{name}", sql
    yield from GENERATED_FOR_HTTP.items()


async def is_permitted(connection: Driver, sql: str, role: str = SERVICE) -> bool:
    """Tell whether a role may run a statement: its plan is begun, and ended before it does anything."""
    async with rolled_back(connection, f"set local role {role}"):
        try:
            is_lock = re.search(r"^lock ", sql, re.MULTILINE) is not None  # there is no plan of it
            await connection.execute(sql if is_lock else f"explain (generic_plan) {sql}")
        except asyncpg.InsufficientPrivilegeError:
            return False
        return True


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Driver]:
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


async def grants(connection: Driver, role: str = SERVICE) -> list[Grant]:
    return [Grant(*row)._replace(role=role) for row in await connection.fetch(GRANTS, role)]


async def is_needed(connection: Driver, grant: Grant, candidates: Iterable[str]) -> bool:
    async with rolled_back(connection, grant.revoke):
        for sql in candidates:
            if not await is_permitted(connection, sql, grant.role):
                return True
    return False


async def too_wide(connection: Driver, role: str, texts: Iterable[str]) -> list[Grant]:
    """Rights of a role that none of its statements needs."""
    permitted = [sql for sql in texts if await is_permitted(connection, sql, role)]
    wide = []
    for grant in await grants(connection, role):
        naming = re.compile(rf"\b{re.escape(grant.table)}\b")
        if not await is_needed(connection, grant, [sql for sql in permitted if naming.search(sql)]):
            wide.append(grant)
    return wide


async def test_the_service_may_run_each_of_its_statements(connection: Driver) -> None:
    refused = [name for name, sql in statements() if not await is_permitted(connection, sql)]
    assert refused == []


async def test_the_service_has_no_right_that_no_statement_needs(connection: Driver) -> None:
    texts = [sql for _, sql in statements(of_retention=True)]
    assert await too_wide(connection, SERVICE, texts) == []


async def test_what_serves_http_may_run_each_of_its_statements(connection: Driver) -> None:
    known = dict(statements_of_http())
    refused = [name for name, sql in known.items() if not await is_permitted(connection, sql, HTTP)]
    assert refused == []
    assert len(known) >= sum(map(len, OF_HTTP.values()))


async def test_what_serves_http_has_no_right_that_no_statement_needs(connection: Driver) -> None:
    """A statement that needs a right of `AHEAD_FOR_HTTP` is red, too: then the line there leaves."""
    wide = await too_wide(connection, HTTP, [sql for _, sql in statements_of_http()])
    assert {grant.table for grant in wide} == AHEAD_FOR_HTTP.keys()


LATE_READABLE = """
select c.relname as table_name, a.attname as column_name
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'tm_late'::regnamespace and c.relkind = 'r'
  and has_column_privilege($1, c.oid, a.attnum, 'select') order by 1
"""


async def test_what_serves_http_reads_of_late_rows_only_which_range_they_belong_to(
    connection: Driver,
) -> None:
    async with rolled_back(
        connection,
        "create table public.later (time timestamptz not null, a int)",
        "call tm.prepare_late('public.later')",
    ):
        readable = [tuple(row) for row in await connection.fetch(LATE_READABLE, HTTP)]
        assert await is_permitted(connection, spans_left("public.later", has_late=True), HTTP)
        assert await connection.fetchval("select to_regclass($1)", late_table("public.later")) is not None
    assert {column for _, column in readable} == {"tm_range_start"}
    assert {table for table, _ in readable} >= {"public__market_data", "public__later"}


async def test_the_service_may_do_what_serves_http_does(connection: Driver) -> None:
    """Where no login of its own is set, `serve http` uses the service's."""
    refused = [name for name, sql in statements_of_http() if not await is_permitted(connection, sql)]
    assert refused == []


async def test_what_serves_http_writes_the_journal_and_its_own_row_and_nothing_else(
    connection: Driver,
) -> None:
    writing = {grant for grant in await grants(connection, HTTP) if grant.privilege != "SELECT"}
    own_row = {Grant("tm.process", None, privilege, HTTP) for privilege in ("INSERT", "UPDATE", "DELETE")}
    assert writing == {Grant("tm.journal", None, "INSERT", HTTP), *own_row}
    elsewhere = await connection.fetch(WRITABLE_ELSEWHERE, HTTP)
    assert [row["table_name"] for row in elsewhere] == []


async def test_a_right_too_many_is_seen(connection: Driver) -> None:
    sql = dict(statements())["operations.ledger_totals"]
    assert await is_needed(connection, Grant("tm.ledger_total", None, "select"), [sql])
    assert not await is_needed(connection, Grant("tm.ledger_total", None, "update"), [sql])


async def test_partitions_and_later_tables_get_no_grant(connection: Driver) -> None:
    async with rolled_back(connection, "call tm.prepare_generation(9)", "create table tm.later (a int)"):
        named = {grant.table for grant in await grants(connection)}
    assert not {name for name in named if re.search(r"_\d+$", name)}
    assert "tm.later" not in named


@pytest.mark.parametrize(
    "forbidden",
    [
        "delete from tm.batch",
        "update tm.batch set applied = 0",
        "delete from tm.log",
        "update tm.log set digest = 0",
        "update tm.outbox set payload = null",
        "delete from tm.lane",
        "update tm.ledger_total set applied = 0",
        "update tm.parked set value = null",
        "delete from tm.log_1",
        "insert into tm.generation (gen) values (9)",
        "insert into tm.principal (name, kind, created_at) values ('a', 'service', now())",
        "update tm.principal set revoked_at = null",
        "delete from tm.principal_token",
        "update tm.principal_version set version = gen_random_uuid()",
        "update tm.principal_grant set verbs = '{read}'",
        "delete from tm.journal",
        "update tm.journal set principal = null",
    ],
)
@pytest.mark.parametrize("role", [SERVICE, HTTP])
async def test_history_is_not_rewritten(connection: Driver, forbidden: str, role: str) -> None:
    assert not await is_permitted(connection, forbidden, role)
