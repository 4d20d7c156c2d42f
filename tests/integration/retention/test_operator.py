"""What operators do to the archive, on a real database: hold and lift, retry, release; restore, evict, scrub."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.archiving import TABLE, Archive
from tidemill.app.archive_restore import Restored, WayBack, scrub_one
from tidemill.app.lake_copies import LakeCopies
from tidemill.domain.archival import ArchivalStatus
from tidemill.domain.archive import ArchiveState
from tidemill.domain.errors import CopyError, UsageError
from tidemill.domain.lane import Claim
from tidemill.lakehouse.reading import LakeReader
from tidemill.retention import operating
from tidemill.retention.bringing_back import RangeBack, ranges_back
from tidemill.retention.operating import Operator
from tidemill.retention.ports import Overtaken
from tidemill.retention.slices import Slice

ADA = Operator("ada", "a law suit")
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
END = datetime(2020, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)
CONTENT = "select md5(string_agg(md5(each::text), '' order by command_id)) from public.market_data each"


def owned(world: Archive) -> Claim:
    assert world.claim is not None
    return world.claim


def copies(world: Archive) -> LakeCopies:
    return LakeCopies(LakeReader([str(world.lake)]))


async def archived(world: Archive, *years: int) -> str:
    """Archive these years' rows; return what they were."""
    await world.fill(*years)
    content = str(await world.pool.fetchval(CONTENT))
    await around(world)
    assert set(await world.states()) == {"dropped"}
    return content


async def around(world: Archive) -> None:
    """Go once from seal to drop."""
    await world.settle()
    await world.answer()
    await world.settle()


async def ranges(world: Archive) -> list[RangeBack]:
    return ranges_back(await world.store.facts(TABLE), BEGINNING, END)


async def bring(world: Archive, back: RangeBack, heard: list[int] | None = None) -> Restored:
    async def claim() -> Claim:
        return owned(world)

    way = WayBack(world.pool, copies(world), claim, "ada")
    return await way.bring(world.policy, back, MONTH, (heard if heard is not None else []).append)


async def late_row(world: Archive, days: int = 3) -> None:
    """What a batch does with a row for the first closed range."""
    await world.pool.execute(
        """
        insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
        select range_start + $1::interval, 'L', 1.5, 'late', gen_random_uuid(), range_start
        from tm.archive order by range_start limit 1
        """,
        timedelta(days=days),
    )


async def one(world: Archive) -> Slice:
    (which,) = await world.slices()
    return which


# --- restore ---------------------------------------------------------------------------------------------------------


async def test_a_range_comes_back_as_it_left(world: Archive) -> None:
    content = await archived(world, 2010)
    heard: list[int] = []
    before = await ranges(world)
    assert sum(each.row_count for each in before) == 20
    assert all(each.refused is None and each.files == 1 and each.size_bytes > 0 for each in before)
    done = [await bring(world, each, heard) for each in before]
    assert (sum(each.row_count for each in done), sum(heard)) == (20, 20)
    assert await world.pool.fetchval(CONTENT) == content
    for which, back in zip(await world.slices(), done, strict=True):
        assert (which.state, which.chunk, which.restore_until) == ("restored", back.chunk, back.until)
    assert await world.pool.fetchval("select to_regclass($1) is not null", done[0].chunk)


async def test_restored_rows_stay_until_their_time_is_over_and_leave_without_a_new_copy(
    world: Archive,
) -> None:
    await archived(world, 2010)
    for each in await ranges(world):
        await bring(world, each)
    requests = len(await world.requests())
    await world.settle()
    assert await world.hot() == 20, "it is not archived again"
    await world.let_pass(MONTH)
    await world.settle()
    assert set(await world.states()) == {"dropped"}
    assert await world.hot() == 0
    assert len(await world.requests()) == requests, "the copy that is there is the copy"
    trail = await world.store.trail((await world.slices())[0].id)
    assert [entry["after"] for entry in trail][-4:] == ["dropped", "restored", "restored", "dropped"], (
        "read again"
    )


async def test_all_generations_of_a_range_come_and_go_together(world: Archive) -> None:
    await archived(world, 2010)
    await late_row(world)
    await around(world)
    first, *others = await ranges(world)
    assert len(first.slices) == 2
    await bring(world, first)
    assert await world.hot() == first.row_count
    assert (await world.states())[:2] == ["restored", "restored"]
    await world.let_pass(MONTH)
    await world.settle()
    assert set(await world.states()) == {"dropped"}
    assert await world.hot() == 0
    assert [each.refused for each in await ranges(world)] == [None] * (1 + len(others))
    await bring(world, (await ranges(world))[0])
    assert await world.hot() == first.row_count, "and once more"


async def test_a_restored_range_still_takes_no_rows_of_batches(world: Archive) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    await bring(world, back)
    closed = await world.pool.fetch("select * from tm.closed_ranges($1, $2, $3)", TABLE, back.start, back.end)
    assert (back.start, back.end) in [tuple(row) for row in closed]
    await late_row(world)
    await world.settle()
    assert await world.late() == 1, "it waits until the range is evicted"
    await world.let_pass(MONTH)
    await around(world)
    assert (await world.late(), await world.hot()) == (0, 0)


async def test_restored_rows_that_somebody_changed_are_set_aside(world: Archive) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    await bring(world, back)
    await world.thaw()
    await world.pool.execute("update public.market_data set price = price + 1 where symbol = 'S1'")
    await world.let_pass(MONTH)
    await world.settle()
    which = (await world.slices())[0]
    assert which.state is ArchiveState.QUARANTINED
    assert "changed since it was restored" in (which.reason or "")
    assert await world.hot() == back.row_count


async def test_changed_generations_are_archived_again_each_row_once(world: Archive) -> None:
    await archived(world, 2010)
    await late_row(world)
    await around(world)
    back = (await ranges(world))[0]
    await bring(world, back)
    await world.thaw()
    await world.pool.execute("delete from public.market_data where symbol = 'L'")
    await world.let_pass(MONTH)
    await world.settle()
    spoilt = [each for each in await world.slices() if each.state is ArchiveState.QUARANTINED]
    assert [each.id.generation for each in spoilt] == [1, 2]
    for each in spoilt:
        await operating.retry(world.store, owned(world), each.id, ADA)
        await around(world)
    assert set(await world.states()) == {"dropped"}
    again = (await ranges(world))[0]
    assert again.row_count == back.row_count - 1
    await bring(world, again)
    assert await world.hot() == again.row_count


async def test_what_strangers_wrote_meanwhile_is_not_mixed_with_what_comes_back(world: Archive) -> None:
    await archived(world, 2010)
    planned = await ranges(world)
    await world.fill(2010, rows=1)
    (refused, *_) = [each for each in await ranges(world) if each.refused]
    assert "past Tidemill" in (refused.refused or "")
    with pytest.raises(UsageError, match="past Tidemill"):
        await bring(world, refused)
    overtaken = next(each for each in planned if each.start == refused.start)
    with pytest.raises(UsageError, match="not what left"):
        await bring(world, overtaken)
    assert await world.hot() == 1
    assert set(await world.states()) == {"dropped"}


async def test_a_range_is_not_restored_twice(world: Archive) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    await bring(world, back)
    assert "restored already" in ((await ranges(world))[0].refused or "")
    with pytest.raises(Overtaken, match="look again"):
        await bring(world, back)
    assert await world.hot() == back.row_count


async def test_a_range_that_would_come_back_as_other_chunks_is_refused(world: Archive) -> None:
    await archived(world, 2010)
    await world.pool.execute("select set_chunk_time_interval('public.market_data', interval '1 day')")
    with pytest.raises(UsageError, match="set_chunk_time_interval"):
        await bring(world, (await ranges(world))[0])
    assert (await world.hot(), set(await world.states())) == (0, {"dropped"})


async def test_a_damaged_file_brings_nothing_back(world: Archive) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    flip(file_of(back.slices[0]))
    with pytest.raises(CopyError, match="sha256"):
        await bring(world, back)
    assert await world.hot() == 0


# --- hold, lift ------------------------------------------------------------------------------------------------------


async def test_a_hold_keeps_a_range_from_being_sealed(world: Archive) -> None:
    await world.fill(2010)
    await operating.hold(world.store, owned(world), TABLE, (BEGINNING, END), ADA)
    await world.settle()
    assert await world.slices() == []
    lifted = await operating.lift(world.store, owned(world), TABLE, (None, None), ADA)
    assert len(lifted.holds) == 1
    await around(world)
    assert set(await world.states()) == {"dropped"}


async def test_a_hold_stops_what_is_verified_and_survives_a_new_owner(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.pool.execute("begin; lock table public.market_data in access share mode; commit")
    await verified_only(world)
    held = await operating.hold(world.store, owned(world), TABLE, (None, None), ADA)
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
    lifted = await operating.lift(world.store, owned(world), TABLE, (None, None), ADA)
    assert (len(lifted.going_on), lifted.still) == (len(held.stopped), ())
    await world.settle()
    assert set(await world.states()) == {"dropped"}


async def test_a_copy_that_was_lost_while_its_range_was_held_lets_nothing_go(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await verified_only(world)
    await operating.hold(world.store, owned(world), TABLE, (None, None), ADA)
    for file in world.lake.rglob("*.parquet"):
        file.unlink()
    await world.let_pass(MONTH)
    await operating.lift(world.store, owned(world), TABLE, (None, None), ADA)
    await world.settle()
    assert set(await world.states()) == {"quarantined"}
    assert await world.hot() == 20
    for which in await world.slices():
        assert await operating.retry(world.store, owned(world), which.id, ADA)
    await around(world)
    assert (await world.hot(), set(await world.states())) == (0, {"dropped"}), "a new copy"


async def test_restored_rows_whose_copy_was_lost_stay(world: Archive) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    await bring(world, back)
    for file in world.lake.rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-8])
    await world.let_pass(MONTH)
    await world.settle()
    assert await world.hot() == back.row_count
    (which,) = [each for each in await world.slices() if each.id.start == back.start]
    assert which.state is ArchiveState.QUARANTINED


async def test_what_another_hold_covers_stays_held(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await operating.hold(world.store, owned(world), TABLE, (None, None), ADA)
    await operating.hold(world.store, owned(world), TABLE, (BEGINNING, END), ADA)
    lifted = await operating.lift(world.store, owned(world), TABLE, (BEGINNING, END), ADA)
    assert (lifted.going_on, {each.state for each in lifted.still}) == ((), {ArchiveState.HELD})
    with pytest.raises(UsageError, match="no hold"):
        await operating.lift(world.store, owned(world), TABLE, (BEGINNING, END), ADA)


async def test_a_held_restored_range_is_not_evicted(world: Archive) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    await bring(world, back)
    await operating.hold(world.store, owned(world), TABLE, (None, None), ADA)
    await world.let_pass(MONTH)
    await world.settle()
    assert await world.hot() == back.row_count
    await operating.lift(world.store, owned(world), TABLE, (None, None), ADA)
    await world.settle()
    assert (await world.hot(), set(await world.states())) == (0, {"dropped"})


async def verified_only(world: Archive) -> None:
    """Verify, with a reader in the way of every drop."""
    async with world.pool.acquire() as reader, reader.transaction():
        await reader.fetch("select count(*) from public.market_data")
        await world.settle()
    assert set(await world.states()) == {"verified"}


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
    await operating.retry(world.store, owned(world), which.id, ADA)
    await around(world)
    assert (await one(world)).state is ArchiveState.DROPPED
    assert (await world.requests())[-1].supersedes == (which.event_id,)
    assert await world.hot() == 0


async def test_only_what_is_quarantined_is_retried(world: Archive) -> None:
    await world.fill(2010, rows=2)
    await world.settle()
    which = await one(world)
    with pytest.raises(UsageError, match="cannot retry"):
        await operating.retry(world.store, owned(world), which.id, ADA)
    await operating.hold(world.store, owned(world), TABLE, (None, None), ADA)
    with pytest.raises(UsageError, match="release"):
        await operating.retry(world.store, owned(world), which.id, ADA)


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
    done = await operating.release(world.store, owned(world), which.id, ADA)
    assert (done.slice.state, done.returned) == (ArchiveState.ABORTED, 1)
    assert (await world.hot(), await world.late()) == (rows + 1, 0)
    told = (await world.events())[-1]
    assert (told.event_id, told.status, told.error_message) == (
        which.event_id,
        ArchivalStatus.FAILED,
        ADA.why,
    )


async def test_a_release_of_spoilt_rows_takes_back_no_completed_event(world: Archive) -> None:
    await archived(world, 2010)
    await bring(world, (await ranges(world))[0])
    await world.thaw()
    await world.pool.execute("update public.market_data set price = price + 1")
    await world.let_pass(MONTH)
    await world.settle()
    events = len(await world.events())
    which = (await world.slices())[0]
    done = await operating.release(world.store, owned(world), which.id, ADA)
    assert done.slice.state is ArchiveState.ABORTED
    assert len(await world.events()) == events


# --- scrub -----------------------------------------------------------------------------------------------------------


async def test_a_scrub_finds_a_flipped_byte_and_a_missing_file(world: Archive) -> None:
    await archived(world, 2010, 2011)
    slices = await world.slices()
    assert [scrub_one(copies(world), each, "time").wrong for each in slices] == [()] * len(slices)
    flip(file_of(slices[0]))
    file_of(slices[-1]).unlink()
    (flipped,), *whole, (missing,) = [scrub_one(copies(world), each, "time").wrong for each in slices]
    assert "sha256" in flipped
    assert "no such file" in missing
    assert whole == [()] * (len(slices) - 2)


def file_of(which: Slice) -> Path:
    copy = which.copy
    assert copy is not None
    return Path(copy.location) / copy.files[0].path


def flip(file: Path) -> None:
    """Turn one bit among a file's rows."""
    content = bytearray(file.read_bytes())
    content[64] ^= 1
    file.write_bytes(content)
