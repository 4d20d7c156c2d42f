"""What a `UnitOfWork` promises of rows that are referred to, asked of the fake and of the real one alike."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.commands import MemoryCommandStore
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
from tidemill.commands.ports import CommandStore
from tidemill.domain.errors import TransientError
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool

STREAMS = linked(ACCOUNTS, JOBS, FOLDERS)
STATES = (accounts.state, jobs.state, folders.state, files.state)
account, job, folder, file = Commands(accounts), Commands(jobs), Commands(folders), Commands(files)


@pytest.fixture(params=["memory", "timescaledb"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[CommandStore]:
    if request.param == "memory":
        yield MemoryCommandStore(*STREAMS)
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        for statement in tables(*STATES):
            await connection.execute(statement)
        for stream in STREAMS:
            await create_lanes(connection, stream)
    yield CommandDatabase(pool)
    await close_pool(pool)


@pytest.fixture
async def harnesses(store: CommandStore) -> tuple[Harness, ...]:
    made = tuple(Harness(stream, store) for stream in STREAMS)
    for harness in made:
        await harness.claim()
    return made


async def test_a_row_that_is_referred_to_cannot_be_deleted(harnesses: tuple[Harness, ...]) -> None:
    parents, children, _ = harnesses
    await parents.send(account("Create", "a1", username="ann"))
    await children.send(job("Create", "j1", account_id="a1", name="n"))
    assert codes(await parents.send(account("Delete", "a1"))) == ["STILL_REFERRED_TO"]
    await children.send(job("Delete", "j1"))
    assert outcomes(await parents.send(account("Delete", "a1"))) == {"applied": 1}
    assert codes(await children.send(job("Create", "j2", account_id="a1", name="n"))) == ["NO_ACCOUNT"]


async def test_in_one_batch_a_file_finds_the_folder_before_it_and_not_the_one_after_it(
    harnesses: tuple[Harness, ...],
) -> None:
    *_, family = harnesses
    done = await family.send(
        file("Create", "f1", folder_id="d1", filename="a"),
        folder("Create", "d1", title="t"),
        file("Create", "f1", folder_id="d1", filename="a"),
        folder("Delete", "d1"),
        file("Create", "f2", folder_id="d1", filename="b"),
    )
    assert codes(done) == ["NO_FOLDER", None, None, None, "NO_FOLDER"]


async def test_a_row_that_changed_under_the_batch_is_not_overwritten(
    store: CommandStore, harnesses: tuple[Harness, ...]
) -> None:
    parents, *_ = harnesses
    await parents.send(account("Create", "a1", username="ann"))
    async with store.unit_of_work() as work:
        before = await work.load(accounts.state, ["a1"])
    await parents.send(account("Update", "a1", full_name="Ann"))
    with pytest.raises(TransientError):
        async with store.unit_of_work() as work:
            await work.replace(accounts.state, before, before)


async def test_only_rows_in_force_count(store: CommandStore, harnesses: tuple[Harness, ...]) -> None:
    parents, *_ = harnesses
    await parents.send(*(account("Create", key, username=key) for key in ("a1", "a2")))
    await parents.send(account("Delete", "a2"))
    async with store.unit_of_work() as work:
        assert await work.in_force(accounts.state, ["a1", "a2", "a3"]) == {"a1"}
