"""What processes tell of themselves, and what the database knows of their connections."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tidemill import __version__
from tidemill.storage.admin.processes import ProcessDatabase
from tidemill.storage.database.pool import Pool, close_pool, connection, create_pool

NAME = "tidemill commands here 1 aaaaaa"
OTHER = "tidemill commands there 1 bbbbbb"


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, application_name=NAME, size=3)
    yield made
    await close_pool(made)


async def test_a_process_is_shown_with_what_it_told_last_and_its_connections(pool: Pool) -> None:
    processes = ProcessDatabase(pool)
    await processes.note(NAME, {NAME, "tidemill projections here 1 cccccc"}, 40, 1_024)
    (first,) = await processes.processes()
    await processes.note(NAME, {NAME}, 50, None)
    async with connection(pool), connection(pool):
        (found,) = await processes.processes()
    assert found._replace(started_at=None, at=None) == (NAME, 3, __version__, 50, None, None, None)
    assert first.started_at == found.started_at
    assert first.at is not None
    assert found.at is not None
    assert first.at < found.at
    await processes.forget(NAME)
    (silent,) = await processes.processes()
    assert silent == (NAME, 3, None, None, None, None, None), "its connections are still there"


async def test_a_process_that_died_is_told_of_for_minutes_and_its_row_is_removed(pool: Pool) -> None:
    processes = ProcessDatabase(pool)
    await processes.note(NAME, {NAME}, 40, 1_024)
    await processes.note(OTHER, {OTHER}, 30, 1_024)
    assert [(each.process, each.connections) for each in await processes.processes()] == [
        (NAME, 1),
        (OTHER, 0),
    ]
    await _age(pool, 3)
    assert [each.process for each in await processes.processes()] == [NAME]
    await processes.note(NAME, {NAME}, 40, 1_024)
    assert await _rows(pool) == [NAME, OTHER]
    await _age(pool, 11)
    await processes.note(NAME, {NAME}, 40, 1_024)
    assert await _rows(pool) == [NAME]


async def _age(pool: Pool, minutes: int) -> None:
    async with connection(pool) as borrowed:
        await borrowed.execute("update tm.process set at = at - make_interval(mins => $1)", minutes)


async def _rows(pool: Pool) -> list[str]:
    async with connection(pool) as borrowed:
        return [row[0] for row in await borrowed.fetch("select process from tm.process order by 1")]
