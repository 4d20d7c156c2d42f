"""Rows of one stream that refer to rows of another, on the real database: no false refusal, nothing left dangling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.engine.commands import Harness, codes, create_lanes, outcomes
from tests.support.engine.entity_contexts import (
    ACCOUNTS,
    FOLDERS,
    JOBS,
    Commands,
    accounts,
    files,
    folders,
    jobs,
    linked,
    tables,
)
from tidemill.domain.errors import TransientError
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, create_pool

ACCOUNTS_STREAM, JOBS_STREAM, FOLDERS_STREAM = linked(ACCOUNTS, JOBS, FOLDERS)
account, job, folder, file = Commands(accounts), Commands(jobs), Commands(folders), Commands(files)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, application_name="tidemill-tests", size=8)
    async with made.acquire() as connection:
        for statement in tables(accounts.state, jobs.state, folders.state, files.state):
            await connection.execute(statement)
        for stream in (ACCOUNTS_STREAM, JOBS_STREAM, FOLDERS_STREAM):
            await create_lanes(connection, stream)
    yield made
    await close_pool(made)


@pytest.fixture
async def parents(pool: Pool) -> Harness:
    harness = Harness(ACCOUNTS_STREAM, CommandDatabase(pool))
    await harness.claim()
    return harness


@pytest.fixture
async def children(pool: Pool) -> Harness:
    harness = Harness(JOBS_STREAM, CommandDatabase(pool))
    await harness.claim()
    return harness


async def sent(harness: Harness, *commands: Any) -> Any:
    """Send commands as their owner does: a batch that met somebody in its way is tried again."""
    records = [harness.topic.record(command) for command in commands]
    while True:
        try:
            return await harness.apply(*records)
        except TransientError:
            continue


async def test_a_row_is_created_changed_and_deleted_in_place(pool: Pool, parents: Harness) -> None:
    await parents.send(account("Create", "a1", username="Ann"), account("Create", "a2", username="bob"))
    await parents.send(account("Update", "a1", full_name="Ann A."), account("Create", "a3", username="ANN"))
    assert codes(await parents.send(account("Create", "a4", username="ann"))) == ["USERNAME_TAKEN"]
    await parents.send(account("Update", "a1", username="carol"), account("Delete", "a2"))
    assert outcomes(await parents.send(account("Create", "a4", username="ann"))) == {"applied": 1}
    found = await pool.fetch("select id, username, full_name, deleted, version from accounts order by id")
    assert [tuple(row) for row in found] == [
        ("a1", "carol", "Ann A.", False, 3),
        ("a2", "bob", None, True, 2),
        ("a4", "ann", None, False, 1),
    ]


async def test_what_moves_no_unique_value_is_updated_in_place(pool: Pool, parents: Harness) -> None:
    await parents.send(account("Create", "a1", username="ann"))
    await pool.execute("alter table accounts add column remark text")
    await pool.execute("update accounts set remark = 'of a newer version'")
    await sent(parents, account("Update", "a1", full_name="Ann"))
    (row,) = await pool.fetch("select full_name, remark, version from accounts")
    assert tuple(row) == ("Ann", "of a newer version", 2)


async def test_rows_that_change_all_the_time_are_never_missed(parents: Harness, children: Harness) -> None:
    """In place and anew: of a row that is deleted and inserted, a lock alone finds nothing."""
    await parents.send(*(account("Create", f"a{number}", username=f"n{number}") for number in range(4)))

    async def change() -> None:
        for round_ in range(25):
            keys = [f"a{number}" for number in range(4)]
            await sent(parents, *(account("Update", key, full_name=f"{round_}") for key in keys))
            await sent(parents, *(account("Update", key, username=f"{key} {round_}") for key in keys))

    async def refer() -> list[Any]:
        found: list[Any] = []
        for round_ in range(40):
            commands = [
                job("Create", f"j{round_}-{number}", account_id=f"a{number}", name="n") for number in range(4)
            ]
            found += codes(await sent(children, *commands))
        return found

    _, found = await asyncio.gather(change(), refer())
    assert set(found) == {None}


async def test_of_a_deletion_and_a_reference_at_once_one_is_refused(
    pool: Pool, parents: Harness, children: Harness
) -> None:
    """Whoever is first: a job in force never refers to an account that is not."""
    for number in range(30):
        key = f"a{number}"
        await parents.send(account("Create", key, username=key))
        deleted, referred = await asyncio.gather(
            sent(parents, account("Delete", key)),
            sent(children, job("Create", f"j{number}", account_id=key, name="n")),
        )
        assert sorted([*codes(deleted), *codes(referred)], key=str) in (
            ["NO_ACCOUNT", None],
            [None, "STILL_REFERRED_TO"],
        )
    dangling = await pool.fetchval(
        "select count(*) from jobs j join accounts a on a.id = j.account_id where a.deleted and not j.deleted"
    )
    assert dangling == 0
