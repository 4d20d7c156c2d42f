"""The way back, on a real database: restore, evict, and the scrub of what is in the lake."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.archive.operator import (
    ADA,
    CONTENT,
    MONTH,
    archived,
    around,
    bring,
    copies,
    file_of,
    flip,
    late_row,
    owned,
    ranges,
)
from tests.support.archive.site import TABLE, Archive
from tidemill.admin.archive.scrub import scrub_one
from tidemill.domain.archive.slices import ArchiveState, Source
from tidemill.domain.errors import CopyError, UsageError
from tidemill.retention import operator_actions
from tidemill.retention.ports import Overtaken
from tidemill.retention.slices import AWAITED, Slice


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


SPACE = "select add_dimension('public.market_data', by_hash('symbol', 2))"


async def test_a_table_that_is_partitioned_by_space_too_does_not_leave(world: Archive) -> None:
    await world.pool.execute(SPACE)
    await world.fill(2010)
    chunks = (await world.store.facts(TABLE)).chunks
    assert len(chunks) > len({each.start for each in chunks}), "several chunks of one range"
    done = await world.round()
    assert not done.moved
    assert "has another partitioning column" in done.problems[0]
    assert await world.states() == []


async def test_a_table_that_was_partitioned_since_takes_nothing_back_and_says_why(world: Archive) -> None:
    await archived(world, 2010)
    await world.pool.execute(SPACE)
    for each in await ranges(world):
        with pytest.raises(UsageError, match="has a second partitioning column"):
            await bring(world, each)
    assert await world.hot() == 0


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


async def test_late_rows_are_not_sealed_beside_what_came_back_in_that_moment(
    world: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    await late_row(world)
    look, came = type(world.store).shape, list[object]()

    async def shape(store: Any, which: Slice, *more: Any) -> Any:
        if which.source is Source.LATE and not came:
            came.append(await bring(world, back))
        return await look(store, which, *more)

    monkeypatch.setattr(type(world.store), "shape", shape)
    await world.settle()
    assert len(came) == 1
    assert (await world.states())[0] == "restored"
    assert not AWAITED.intersection(await world.states())
    assert await world.late() == 1, "it waits until the range is evicted"


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
    changed = [each for each in await world.slices() if each.state is ArchiveState.QUARANTINED]
    assert [each.id.generation for each in changed] == [1, 2]
    for each in changed:
        await operator_actions.retry(world.store, owned(world), each.id, ADA)
        await around(world)
    assert set(await world.states()) == {"dropped"}
    again = (await ranges(world))[0]
    assert again.row_count == back.row_count - 1
    await bring(world, again)
    assert await world.hot() == again.row_count


async def test_what_external_writers_wrote_meanwhile_is_not_mixed_with_what_comes_back(
    world: Archive,
) -> None:
    await archived(world, 2010)
    planned = await ranges(world)
    await world.fill(2010, rows=1)
    (refused, *_) = [each for each in await ranges(world) if each.refused]
    assert "an external writer has written rows" in (refused.refused or "")
    with pytest.raises(UsageError, match="an external writer has written rows"):
        await bring(world, refused)
    overtaken = next(each for each in planned if each.start == refused.start)
    with pytest.raises(UsageError, match="not those that left"):
        await bring(world, overtaken)
    assert await world.hot() == 1
    assert set(await world.states()) == {"dropped"}


async def test_a_range_is_not_restored_twice(world: Archive) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    await bring(world, back)
    assert "restored already" in ((await ranges(world))[0].refused or "")
    with pytest.raises(Overtaken, match="try again"):
        await bring(world, back)
    assert await world.hot() == back.row_count


async def test_a_range_that_would_come_back_as_other_chunks_is_refused(world: Archive) -> None:
    await archived(world, 2010)
    await world.pool.execute("select set_chunk_time_interval('public.market_data', interval '1 day')")
    with pytest.raises(UsageError, match="set_chunk_time_interval"):
        await bring(world, (await ranges(world))[0])
    assert (await world.hot(), set(await world.states())) == (0, {"dropped"})


@pytest.mark.parametrize(
    ("altered", "told"),
    [
        ("add column venue int default 7", "venue is new .* drop its default"),
        ("add column venue int not null", "venue is new .* NOT NULL"),
        ("add column venue money default 7", "venue is new"),
        ("drop column volume", "no longer has volume"),
        ("rename column volume to size", "no longer has volume .* size is new"),
        ("alter column source type int using 1", "source was text, and is now integer"),
    ],
)
async def test_a_copy_of_other_columns_is_refused_by_their_names(
    world: Archive, altered: str, told: str
) -> None:
    await archived(world, 2010)
    await world.pool.execute(f"alter table public.market_data {altered}")
    with pytest.raises(UsageError, match=told) as refused:
        await bring(world, (await ranges(world))[0])
    assert "scrub" not in str(refused.value)
    assert "migrate" not in str(refused.value)
    assert (await world.hot(), set(await world.states())) == (0, {"dropped"})


@pytest.mark.parametrize("default", ["", "default 7"])
async def test_a_copy_comes_back_into_a_table_with_a_new_column_without_default(
    world: Archive, default: str
) -> None:
    await archived(world, 2010)
    await world.pool.execute(f"alter table public.market_data add column venue int {default}")
    await world.pool.execute("alter table public.market_data alter column venue drop default")
    done = [await bring(world, each) for each in await ranges(world)]
    assert sum(each.row_count for each in done) == 20
    assert await world.pool.fetchval("select count(*) from public.market_data where venue is null") == 20


async def test_a_damaged_file_brings_nothing_back(world: Archive) -> None:
    await archived(world, 2010)
    back = (await ranges(world))[0]
    flip(file_of(back.slices[0]))
    with pytest.raises(CopyError, match="sha256"):
        await bring(world, back)
    assert await world.hot() == 0


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
