"""A database with hypertables, a login that may only read them, and the archive's topics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.support.archive.archivers import RetentionSide, retention_side_at
from tests.support.servers.databases import execute
from tidemill.storage.database.pool import Connection, close_pool, connection, create_pool
from tidemill_devkit.stack import Stack

PASSWORD = "reads-only"


@pytest.fixture
async def session(database: str) -> AsyncIterator[Connection]:
    pool = await create_pool(database, application_name="test", size=1)
    async with connection(pool) as borrowed:
        yield borrowed
    await close_pool(pool)


@pytest.fixture
def reading_role(database: str, unique_name: Callable[[str], str]) -> Iterator[str]:
    """A role that may log in and has no rights yet."""
    role = unique_name("archiver").replace("-", "_")
    execute(database, f"create role {role} login password '{PASSWORD}'")
    yield role
    execute(database, f"drop owned by {role}", f"drop role {role}")


@pytest.fixture
def reading_url(database: str, reading_role: str) -> str:
    """The database's URL for that role."""
    server = database.partition("@")[2]
    return f"postgresql://{reading_role}:{PASSWORD}@{server}"


@pytest.fixture
def prefix(unique_name: Callable[[str], str]) -> str:
    return unique_name("archiving")


@pytest.fixture
async def retention_side(stack: Stack, prefix: str) -> AsyncIterator[RetentionSide]:
    async with retention_side_at(stack.kafka_bootstrap, prefix) as retention_side:
        yield retention_side
