"""What every `RequestedSlices` promises, asked of the fake and of the registry alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from tests.fakes.archive import MemorySlices
from tests.fakes.commands import MemoryCommandStore
from tests.support.archive.slices import COLUMNS, LIMITS, NOW, ROWS, live, slice_id
from tidemill.commands.ports import CommandStore
from tidemill.retention import transitions
from tidemill.retention.ports import Overtaken, RequestedSlices
from tidemill.retention.slices import Slice
from tidemill.retention.stream import OpenSlices
from tidemill.retention.transition_table import Moved, Transition
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.retention.archive import Registry

EVENT = "1e3f0d3c-6f0a-4c8e-9d57-0a1b2c3d4e5f"


@dataclass
class Subject:
    store: CommandStore
    open_slices: OpenSlices

    async def slices(self, event_id: str = EVENT) -> list[Slice]:
        async with self.store.unit_of_work() as work:
            return await work.join(self.open_slices).of_event(event_id)


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject(MemoryCommandStore(), MemorySlices)
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    yield Subject(CommandDatabase(pool), Registry)
    await close_pool(pool)


def step(moved: Moved) -> Transition:
    assert isinstance(moved, Transition), moved
    return moved


WAY: tuple[Callable[[Slice], Moved], ...] = (
    lambda one: transitions.choose(one, NOW),
    lambda one: transitions.seal(one, NOW, columns=COLUMNS, holds=()),
    lambda one: transitions.measure(one, NOW, seal=1, found=ROWS),
    lambda one: transitions.request(one, NOW, event_id=EVENT, limits=LIMITS),
)


async def ask_for(slices: RequestedSlices, day: int) -> Slice:
    """Store every step until a copy of the slice is asked for."""
    one = live(slice_id(day))
    for go in WAY:
        taken = step(go(one))
        await slices.store(taken)
        one = taken.after
    return one


async def test_a_request_has_its_slices_as_they_are_now_oldest_first(subject: Subject) -> None:
    async with subject.store.unit_of_work() as work:
        slices = work.join(subject.open_slices)
        later, earlier = await ask_for(slices, 1), await ask_for(slices, 0)
        assert await slices.of_event(EVENT) == [earlier, later], "the transaction sees its own steps"
    assert await subject.slices() == [earlier, later]
    assert await subject.slices("another") == []


async def test_a_step_from_what_is_not_so_any_more_is_refused(subject: Subject) -> None:
    async with subject.store.unit_of_work() as work:
        asked = await ask_for(work.join(subject.open_slices), 0)
    begun = step(transitions.heartbeat(asked, NOW, limits=LIMITS, who="archiver"))
    async with subject.store.unit_of_work() as work:
        slices = work.join(subject.open_slices)
        await slices.store(begun)
        with pytest.raises(Overtaken):
            await slices.store(begun)
    assert await subject.slices() == [begun.after]


async def test_nothing_is_stored_of_a_batch_that_fails(subject: Subject) -> None:
    with pytest.raises(ZeroDivisionError):
        await _fail_after_storing(subject)
    assert await subject.slices() == []


async def _fail_after_storing(subject: Subject) -> None:
    async with subject.store.unit_of_work() as work:
        await ask_for(work.join(subject.open_slices), 0)
        raise ZeroDivisionError
