"""The fixtures that every integration test stands on."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.servers.databases import Databases, execute, fetch
from tidemill_devkit.stack import Stack
from tidemill_devkit.stack.probes import postgres_answers


async def test_a_database_is_fresh_and_knows_hypertables(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("CREATE TABLE facts (at timestamptz NOT NULL, value int)")
        await connection.execute("SELECT create_hypertable('facts', by_range('at'))")
        await connection.execute("INSERT INTO facts VALUES (now(), 1)")
        assert await connection.fetchval("SELECT count(*) FROM show_chunks('facts')") == 1
    finally:
        await connection.close()


def test_no_test_sees_what_another_did(database: str) -> None:
    assert not fetch(database, "SELECT 1 FROM pg_tables WHERE tablename = 'facts'")


def test_a_database_costs_no_migration(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    with databases.fresh():
        pass  # the template is prepared now
    monkeypatch.setattr(databases, "prepare", lambda _: pytest.fail("prepared again"))
    with databases.fresh() as url:
        execute(url, "CREATE TABLE anything ()")


def test_two_databases_at_once(new_database: Callable[[], AbstractContextManager[str]]) -> None:
    with new_database() as first, new_database() as second:
        assert first != second
        execute(first, "CREATE TABLE only_here ()")
        assert not fetch(second, "SELECT 1 FROM pg_tables WHERE tablename = 'only_here'")


def test_nobody_can_go_on_with_a_database_afterwards(
    stack: Stack, new_database: Callable[[], AbstractContextManager[str]]
) -> None:
    with new_database() as url:
        name = url.rsplit("/", 1)[1]
        assert fetch(url, "SELECT current_database()")[0][0] == name
    assert not fetch(
        stack.database_url, "SELECT 1 FROM pg_database WHERE datname = $1 AND datallowconn", name
    )
    assert not fetch(stack.database_url, "SELECT 1 FROM pg_stat_activity WHERE datname = $1", name)
    with pytest.raises((asyncpg.InvalidCatalogNameError, asyncpg.ObjectNotInPrerequisiteStateError)):
        fetch(url, "SELECT 1")


def test_names_are_unique(unique_name: Callable[[str], str], topic_prefix: str) -> None:
    names = [unique_name("profiles") for _ in range(3)]
    assert len({*names, topic_prefix}) == 4


def test_the_database_would_let_us_log_in(stack: Stack) -> None:
    at = urlsplit(stack.database_url)
    assert postgres_answers(at.hostname or "", at.port or 5432)
