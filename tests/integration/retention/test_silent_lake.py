"""A lake that does not answer, as a remote one may not: nobody waits without end, and nothing is believed of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.support.archive.site import TABLE, Archive
from tests.support.waiting import eventually
from tidemill.admin.archive.restore import Restorer
from tidemill.domain.archive.slices import CopyPart
from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import Claim
from tidemill.lakehouse.copy_reader import LakeCopies
from tidemill.lakehouse.reader import LakeReader
from tidemill.retention.restore_plan import ranges_back
from tidemill.storage.retention.restore import restore_batches
from tidemill.storage.retention.restore_work import RestoreDatabase


class Silence:
    """Files are opened only once `over` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over = threading.Event()
        self.waiting = 0
        self._patch = monkeypatch
        self._open = LocalFileSystem._open

    def fall(self) -> None:
        def silent(storage: LocalFileSystem, *arguments: Any, **named: Any) -> Any:
            self.waiting += 1
            self.over.wait()
            return self._open(storage, *arguments, **named)

        self._patch.setattr(LocalFileSystem, "_open", silent)


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silence]:
    silence = Silence(monkeypatch)
    yield silence
    silence.over.set()


async def test_a_copy_that_cannot_be_read_back_in_time_is_left_for_later(
    world: Archive, silence: Silence
) -> None:
    await world.fill(2010, 2011)
    await world.settle()
    await world.answer()
    world.read_timeout_s = 0.2
    silence.fall()
    done = await world.round()
    assert silence.waiting == 2, "the second is not held up by the first"
    assert {problem.split("generation 1: ")[1] for problem in done.problems} == {
        "lake is not available: no answer within 0.2 s"
    }
    assert set(await world.states()) == {"confirmed"}, "and no row has left"
    assert await world.hot() == 40
    silence.over.set()
    world.read_timeout_s = 30
    await world.settle()
    assert set(await world.states()) == {"dropped"}


@pytest.mark.parametrize("place", ["elsewhere", "hidden"])
async def test_a_lake_that_is_not_mounted_is_waited_for(world: Archive, place: str) -> None:
    """Nothing is set aside: whoever mounts it need not look at every slice. An empty folder is its mount point."""
    await world.fill(2010, 2011)
    await world.settle()
    await world.answer()
    unmounted = world.lake.rename(world.lake.with_name(place))
    if place == "hidden":
        world.lake.mkdir()
    done = await world.round()
    assert len(done.problems) == 2
    assert all("check that it is mounted" in problem for problem in done.problems)
    assert set(await world.states()) == {"confirmed"}
    if place == "hidden":
        world.lake.rmdir()
    unmounted.rename(world.lake)
    await world.settle()
    assert set(await world.states()) == {"dropped"}


async def test_a_restore_gives_up_too(world: Archive, silence: Silence) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.settle()
    facts = await world.store.facts(TABLE)
    (back,) = ranges_back(facts, facts.slices[0].id.start, facts.slices[0].id.end)

    async def claim() -> Claim:
        assert world.claim is not None
        return world.claim

    way = Restorer(RestoreDatabase(world.pool), LakeCopies(LakeReader([str(world.lake)])), claim, "ada", 0.2)
    silence.fall()
    with pytest.raises(Unavailable, match=r"lake is not available: no answer within 0\.2 s"):
        await way.bring(world.policy, back, timedelta(days=1), lambda _: None)
    assert await world.hot() == 0


async def test_rows_that_stop_coming_end_their_copy(world: Archive, silence: Silence) -> None:
    """The first part comes, the second does not."""
    await world.fill(2010)
    await world.settle()
    columns = (await world.slices())[0].columns

    def parts() -> Iterator[CopyPart]:
        yield CopyPart(0, b"", ())
        silence.waiting += 1
        silence.over.wait()

    async with world.pool.acquire() as connection, connection.transaction():
        with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
            await restore_batches(connection, TABLE, columns, parts(), read_timeout_s=0.2)
    await eventually(lambda: silence.waiting == 1, what="the wait")
