"""Two databases with the same table and one lake: neither touches what the other has there, whatever the ids say."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.archive.site import Archive, archive
from tests.support.servers.databases import execute
from tidemill.archiver.copier import Carried, Copier
from tidemill.archiver.copy_plan import plan
from tidemill.archiver.read_pace import Pace
from tidemill.domain.archive.messages import ArchivalEvent
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.storage.retention.chunk_reader import DatabaseChunks

Databases = Callable[[], AbstractContextManager[str]]


def contents(lake: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in lake.rglob("*") if path.is_file()}


async def dropped(world: Archive) -> ArchivalEvent:
    """Let a world archive 20 rows of 2010; return its request."""
    await world.fill(2010)
    await world.settle()
    (event,) = await world.requests()
    await carried(world, event)
    await world.answer()
    await world.settle()
    assert await world.states() == ["dropped"]
    return event


async def requested(world: Archive) -> ArchivalEvent:
    await world.fill(2010, rows=21)
    await world.settle()
    (event,) = await world.requests()
    return event


async def carried(world: Archive, event: ArchivalEvent) -> Carried:
    copier = Copier(DatabaseChunks(world.database), LakeWriter(str(world.lake)))
    return await asyncio.to_thread(copier.carry_out, plan(event), Pace(None))


async def test_two_databases_have_copies_of_their_own(new_database: Databases, tmp_path: Path) -> None:
    """Both are made of one template: their rows of `tm.archive_registry` are equal, they are not."""
    with new_database() as one, new_database() as two:
        async with archive(one, tmp_path) as first, archive(two, tmp_path) as second:
            theirs = await dropped(first)
            before = contents(tmp_path)
            ours = await requested(second)
            assert ours.chunks[0].range_start == theirs.chunks[0].range_start
            assert ours.event_id[:8] != theirs.event_id[:8]
            done = await carried(second, ours)
            assert done.copied == 1
            after = contents(tmp_path)
            assert len(after) == 2 * len(before)
            assert {path: after[path] for path in before} == before


async def test_the_id_of_another_registrys_copy_is_refused(new_database: Databases, tmp_path: Path) -> None:
    with new_database() as one, new_database() as two:
        async with archive(one, tmp_path) as first, archive(two, tmp_path) as second:
            theirs = await dropped(first)
            before = contents(tmp_path)
            ours = await requested(second)
            done = await carried(second, ours.model_copy(update={"event_id": theirs.event_id}))
            assert done.failure is not None
            assert (done.failure.code, done.failure.retryable) == ("COPY_STANDS", False)
            assert "21 were to be copied" in done.failure.reason
            assert contents(tmp_path) == before


async def test_a_replay_against_changed_rows_leaves_the_copy_as_it_is(
    new_database: Databases, tmp_path: Path
) -> None:
    """Its chunk was dropped, or has other rows now: whichever it reads, the copy is the one that there is."""
    with new_database() as one:
        async with archive(one, tmp_path) as world:
            event = await dropped(world)
            before = contents(tmp_path)
            again = await carried(world, event.model_copy(update={"attempt": 2}))
            assert again.replayed
            manifest = next(path for path in before if path.endswith(".manifest.json"))
            shutil.move(
                manifest, tmp_path / "aside"
            )  # it is not found: the rows are read, and there are none
            done = await carried(world, event.model_copy(update={"attempt": 3}))
            assert done.copied == 0
            shutil.move(tmp_path / "aside", manifest)
            assert contents(tmp_path) == before


@pytest.mark.parametrize("role", ["tidemill_service", "tidemill_retention"])
async def test_the_registrys_id_is_read_and_not_written(database: str, role: str) -> None:
    with pytest.raises(Exception, match="permission denied"):
        await asyncio.to_thread(
            execute, database, f"set role {role}; update tm.archive_registry set registry = gen_random_uuid()"
        )
    await asyncio.to_thread(execute, database, f"set role {role}; table tm.archive_registry")
