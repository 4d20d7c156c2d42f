"""A session in a database that knows the odd types of the fidelity table."""

from collections.abc import AsyncIterator

import pytest

from tests.support.archive import fidelity
from tidemill.storage.database.pool import Connection, close_pool, connection, create_pool


@pytest.fixture
async def session(database: str) -> AsyncIterator[Connection]:
    pool = await create_pool(database, application_name="test", size=1)
    async with connection(pool) as borrowed:
        for statement in fidelity.PREPARATION:
            await borrowed.execute(statement)
        yield borrowed
    await close_pool(pool)
