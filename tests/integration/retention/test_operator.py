"""What operators do to the archive, on a real database: hold and lift, retry, release."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.archive.operator import (
    ADA,
    BEGINNING,
    END,
    MONTH,
    archived,
    around,
    bring,
    file_of,
    flip,
    late_row,
    one,
    owned,
    ranges,
    verified_only,
)
from tests.support.archive.site import TABLE, Archive
from tidemill.domain.archive.messages import ArchivalStatus
from tidemill.domain.archive.slices import ArchiveState
from tidemill.domain.errors import UsageError
from tidemill.retention import operator_actions
from tidemill.retention.slices import Slice

# --- hold, lift ------------------------------------------------------------------------------------------------------


async def test_a_hold_keeps_a_range_from_being_sealed(world: Archive) -> None:
    await world.fill(2010)
    await operator_actions.hold(world.store, owned(world), TABLE, (BEGINNING, END), ADA)
    await world.settle()
    assert await world.slices() == []
    lifted = await operator_actions.lift(world.store, owned(world), TABLE, (None, None), ADA)
    assert len(lifted.holds) == 1
    await around(world)
    assert set(await world.states()) == {"dropped"}


async def test_a_hold_stops_what_is_verified_and_survives_a_new_owner(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.pool.execute("begin; lock table public.market_data in access share mode; commit")
    await verified_only(world)
    held = await operator_actions.hold(world.store, owned(world), TABLE, (None, None), ADA)
    assert {each.held_from for each in held.stopped} == {ArchiveState.VERIFIED}
    await world.own("another")
    await world.let_pass(timedelta(days=900))
    await world.settle()
    assert set(await world.states()) == {"held"}
    assert await world.hot() == 20
    await world.pool.execute("update tm.archive set state = 'verified'")
    for which in await world.slices():
        with pytest.raises(Exception, match="is held"):
            await world.pool.execute("call tm.drop_slice($1, $2, 1)", TABLE, which.id.start)
    await world.pool.execute("update tm.archive set state = 'held'")
    lifted = await operator_actions.lift(world.store, owned(world), TABLE, (None, None), ADA)
    assert (len(lifted.going_on), lifted.still) == (len(held.stopped), ())
    await world.settle()
    assert set(await world.states()) == {"dropped"}


async def test_a_copy_that_was_lost_while_its_range_was_held_lets_nothing_go(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await verified_only(world)
    await operator_actions.hold(world.store, owned(world), TABLE, (None, None), ADA)
    for file in world.lake.rglob("*.parquet"):
        file.unlink()
    await world.let_pass(MONTH)
    await operator_actions.lift(world.store, owned(world), TABLE, (None, None), ADA)
    await world.settle()
    assert set(await world.states()) == {"quarantined"}
    assert await world.hot() == 20
    for which in await world.slices():
        again = await operator_actions.retry(world.store, owned(world), which.id, ADA)
        assert again.state is ArchiveState.SEALED
    await around(world)
    assert (await world.hot(), set(await world.states())) == (0, {"dropped"}), "a new copy"


async def test_what_another_hold_covers_stays_held(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await operator_actions.hold(world.store, owned(world), TABLE, (None, None), ADA)
    await operator_actions.hold(world.store, owned(world), TABLE, (BEGINNING, END), ADA)
    lifted = await operator_actions.lift(world.store, owned(world), TABLE, (BEGINNING, END), ADA)
    assert (lifted.going_on, {each.state for each in lifted.still}) == ((), {ArchiveState.HELD})
    with pytest.raises(UsageError, match="no hold"):
        await operator_actions.lift(world.store, owned(world), TABLE, (BEGINNING, END), ADA)


async def test_a_held_restored_range_is_not_evicted(world: Archive) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    await bring(world, back)
    await operator_actions.hold(world.store, owned(world), TABLE, (None, None), ADA)
    await world.let_pass(MONTH)
    await world.settle()
    assert await world.hot() == back.row_count
    await operator_actions.lift(world.store, owned(world), TABLE, (None, None), ADA)
    await world.settle()
    assert (await world.hot(), set(await world.states())) == (0, {"dropped"})


# --- retry, release --------------------------------------------------------------------------------------------------


async def quarantined(world: Archive) -> Slice:
    """Return a slice whose copy was damaged before it was read back."""
    await world.fill(2010, rows=2)
    await world.settle()
    await world.answer()
    flip(file_of(await one(world)))
    await world.settle()
    which = await one(world)
    assert which.state is ArchiveState.QUARANTINED
    return which


async def test_a_retry_makes_a_new_copy_and_leads_to_the_drop(world: Archive) -> None:
    which = await quarantined(world)
    await operator_actions.retry(world.store, owned(world), which.id, ADA)
    await around(world)
    assert (await one(world)).state is ArchiveState.DROPPED
    again = (await world.requests())[-1]
    assert again.supersedes == (which.event_id,)
    assert await world.hot() == 0
    told = [(each.event_id, each.status) for each in await world.events()]
    assert [each for each in told if each[1] is not ArchivalStatus.PENDING] == [
        (which.event_id, ArchivalStatus.FAILED),
        (again.event_id, ArchivalStatus.COMPLETED),
    ]


async def test_only_what_is_quarantined_is_retried(world: Archive) -> None:
    await world.fill(2010, rows=2)
    await world.settle()
    which = await one(world)
    with pytest.raises(UsageError, match="cannot retry"):
        await operator_actions.retry(world.store, owned(world), which.id, ADA)
    await operator_actions.hold(world.store, owned(world), TABLE, (None, None), ADA)
    with pytest.raises(UsageError, match="release"):
        await operator_actions.retry(world.store, owned(world), which.id, ADA)


async def lost_while_restored(world: Archive) -> tuple[Slice, Slice]:
    """Return both generations of a restored range when the first one's copy is found to be gone."""
    (back,) = [each for each in await ranges(world) if len(each.slices) == 2]
    await bring(world, back)
    first, _ = [each for each in await world.slices() if each.id.start == back.start]
    file_of(first).unlink()
    await world.let_pass(MONTH)
    await world.round()
    first, second = [each for each in await world.slices() if each.id.start == back.start]
    assert (first.state, second.state) == (ArchiveState.QUARANTINED, ArchiveState.RESTORED)
    return first, second


async def test_rows_are_not_sealed_anew_with_those_of_a_restored_generation(world: Archive) -> None:
    """They are in one chunk, and would be in two copies: the second generation's, and the new one of the first."""
    await archived(world, 2010)
    await late_row(world)
    await around(world)
    first, second = await lost_while_restored(world)
    with pytest.raises(UsageError, match=f"{second.id} is restored until"):
        await operator_actions.retry(world.store, owned(world), first.id, ADA)
    await world.settle()
    for each in (first, second):
        await operator_actions.retry(world.store, owned(world), each.id, ADA)
        await around(world)
    assert (await world.hot(), set(await world.states())) == (0, {"dropped"})
    assert sum(each.row_count for each in await ranges(world)) == 21, "each row is in one copy"


async def test_a_restored_generation_without_rows_leaves_when_its_time_is_over(world: Archive) -> None:
    """Its chunk is the first one's, which stays as long as a person has to look at that."""
    await archived(world, 2010)
    await late_row(world)
    await world.settle()
    given_up = next(each for each in await world.slices() if each.state is ArchiveState.REQUESTED)
    await operator_actions.release(world.store, owned(world), given_up.id, ADA)
    await world.pool.execute("delete from tm_late.public__market_data")
    await around(world)
    first, empty = await lost_while_restored(world)
    await world.settle()
    assert not (await world.round()).problems
    left = {each.id: each.state for each in await world.slices()}
    assert (left[first.id], left[empty.id]) == (ArchiveState.QUARANTINED, ArchiveState.DROPPED)
    assert first.sealed is not None
    assert await world.hot() == first.sealed.row_count > 0


@pytest.mark.parametrize("state", ["requested", "quarantined"])
async def test_a_release_opens_the_range_and_returns_late_rows(world: Archive, state: str) -> None:
    if state == "quarantined":
        which = await quarantined(world)
    else:
        await world.fill(2010, rows=2)
        await world.settle()
        which = await one(world)
    rows = await world.hot()
    await late_row(world)
    done = await operator_actions.release(world.store, owned(world), which.id, ADA)
    assert (done.slice.state, done.returned) == (ArchiveState.ABORTED, 1)
    assert (await world.hot(), await world.late()) == (rows + 1, 0)
    told = (await world.events())[-1]
    assert (told.event_id, told.status, told.error_message) == (
        which.event_id,
        ArchivalStatus.FAILED,
        ADA.why,
    )


async def test_a_release_of_changed_rows_takes_back_no_completed_event(world: Archive) -> None:
    await archived(world, 2010)
    await bring(world, (await ranges(world))[0])
    await world.thaw()
    await world.pool.execute("update public.market_data set price = price + 1")
    await world.let_pass(MONTH)
    await world.settle()
    events = len(await world.events())
    which = (await world.slices())[0]
    done = await operator_actions.release(world.store, owned(world), which.id, ADA)
    assert done.slice.state is ArchiveState.ABORTED
    assert len(await world.events()) == events
