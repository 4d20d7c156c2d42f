"""The keeper on a real database: nothing leaves before its copy was read back, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.archive.operator import ADA, bring, owned, ranges
from tests.support.archive.site import TABLE, Archive
from tests.support.waiting import HANGING_S
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalStatus
from tidemill.domain.archive.slices import ArchiveState, schema_fingerprint
from tidemill.domain.errors import Fenced
from tidemill.retention import operator_actions
from tidemill.runtime.clock import SystemClock

TODAY = (datetime(2025, 12, 1, tzinfo=UTC), datetime(2025, 12, 2, tzinfo=UTC))


async def test_old_chunks_leave_when_their_copy_was_read_back(world: Archive) -> None:
    await world.fill(2010, 2011, 2025)
    rows = await world.hot()
    await world.settle()
    (request,) = await world.requests()
    assert set(await world.states()) == {"requested"}
    assert sum(chunk.row_count or 0 for chunk in request.chunks) == 40
    assert request.database == await world.pool.fetchval("select current_database()")
    assert request.schema_fingerprint == schema_fingerprint((await world.slices())[0].columns)
    assert await world.hot() == rows, "a request drops nothing"
    await world.answer()
    assert set(await world.states()) == {"confirmed"}
    await world.settle()
    assert set(await world.states()) == {"dropped"}
    assert await world.hot() == rows - 40
    asked, told = await world.events()
    assert (told.event_id, told.status) == (asked.event_id, ArchivalStatus.COMPLETED)
    assert [chunk.chunk_name for chunk in told.chunks] == [chunk.chunk_name for chunk in asked.chunks]
    assert {event.database for event in await world.events()} == {request.database}


async def test_a_table_that_is_not_as_expected_is_named_and_ends_nobody(world: Archive) -> None:
    await world.fill(2010)
    late = "tm_late." + TABLE.replace(".", "__")
    await world.pool.execute(f"alter table {late} rename column tm_generation to elsewhere")
    done = await world.round()
    (problem,) = done.problems
    assert problem.startswith(f"{TABLE}: TABLE_MISFIT: 42703: ")
    await world.pool.execute(f"alter table {late} rename column elsewhere to tm_generation")
    await world.settle()
    assert await world.states() == ["requested"]


async def test_one_answer_with_the_specified_fields_lets_all_chunks_go(world: Archive) -> None:
    """The rows of both are in one place, and are told apart by their time."""
    await world.fill(2010, 2011)
    await world.settle()
    (request,) = await world.requests()
    assert len(request.chunks) == 2
    copied = world.copy(request)
    await world.confirm(copied.model_copy(update={"chunks": (), "service_name": "another"}))
    assert all(each.copy is not None and not each.copy.files for each in await world.slices())
    await world.settle()
    assert (await world.states(), await world.hot()) == (["dropped"] * 2, 0)


async def test_of_two_chunks_one_is_dropped_and_the_other_goes_round_again(world: Archive) -> None:
    await world.fill(2010, 2011)
    await world.settle()
    (first,) = await world.requests()
    await world.confirm(partly(world.copy(first), "DATABASE_AWAY"))
    await world.settle()
    assert await world.states() == ["dropped", "requested"]
    assert await world.hot() == 20
    assert len(await world.events()) == 1, "the event is not over"
    await world.let_pass(timedelta(minutes=2))
    await world.settle()
    second = (await world.requests())[-1]
    assert (second.event_id, second.attempt) == (first.event_id, 2)
    assert [chunk.chunk_name for chunk in second.chunks] == [first.chunks[1].chunk_name]
    await world.answer()
    await world.settle()
    assert (await world.states(), await world.hot()) == (["dropped"] * 2, 0)
    assert await ends(world) == [(first.event_id, ArchivalStatus.COMPLETED, 2)]


def partly(copied: ArchivalConfirmation, code: str) -> ArchivalConfirmation:
    """Return the answer of an archiver that copied the first chunk of two."""
    done, failed = copied.chunks
    failed = failed.model_copy(update={"status": ArchivalStatus.FAILED, "files": (), "error_code": code})
    return copied.model_copy(update={"chunks": (done, failed)})


async def ends(world: Archive) -> list[tuple[str, ArchivalStatus, int]]:
    """Return what was told of the ends of requests: event, how, of how many chunks."""
    told = [event for event in await world.events() if event.status is not ArchivalStatus.PENDING]
    return [(event.event_id, event.status, len(event.chunks)) for event in told]


async def test_an_event_of_which_a_chunk_was_given_up_has_failed_once(world: Archive) -> None:
    await world.fill(2010, 2011)
    await world.settle()
    (request,) = await world.requests()
    await world.confirm(partly(world.copy(request), "NOT_REPRESENTABLE"))
    await world.settle()
    world.policy = replace(world.policy, enabled=False)
    await world.let_pass(timedelta(hours=25))
    await world.settle()
    assert await world.states() == ["dropped", "aborted"]
    assert await ends(world) == [(request.event_id, ArchivalStatus.FAILED, 2)]
    world.policy = replace(world.policy, enabled=True)
    await world.settle()
    await world.answer()
    await world.settle()
    again = (await world.requests())[-1].event_id
    assert (await ends(world))[1:] == [(again, ArchivalStatus.COMPLETED, 1)]


async def test_an_event_is_completed_though_what_left_first_came_back_and_is_asked_for_anew(
    world: Archive,
) -> None:
    await world.fill(2010, 2011)
    await world.settle()
    (request,) = await world.requests()
    copied = world.copy(request)
    await world.confirm(partly(copied, "DATABASE_AWAY"))
    await world.settle()
    await bring(world, (await ranges(world))[0])
    await world.thaw()
    await world.pool.execute("update public.market_data set price = price + 1 where time < '2010-12-01'")
    await world.pool.execute("update tm.archive set restore_until = now() where state = 'restored'")
    await world.settle()
    changed, _ = await world.slices()
    await operator_actions.retry(world.store, owned(world), changed.id, ADA)
    assert await ends(world) == [], "one of its chunks is still waited for"
    await world.confirm(copied)
    await world.settle()
    assert await ends(world) == [(request.event_id, ArchivalStatus.COMPLETED, 2)]
    await world.answer()
    await world.settle()
    again = (await world.requests())[-1].event_id
    assert (await ends(world))[1:] == [(again, ArchivalStatus.COMPLETED, 1)]
    assert await world.states() == ["dropped"] * 2


async def test_young_chunks_stay(world: Archive) -> None:
    await world.fill(SystemClock().now().year - 1)
    assert not (await world.round()).moved
    assert await world.slices() == []


async def test_a_repeated_round_changes_nothing(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    before = await world.slices()
    assert not (await world.round()).moved
    assert await world.slices() == before


async def test_an_external_writer_who_writes_behind_the_seal_stops_the_drop(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.thaw()
    await world.fill(2010, rows=1)
    await world.settle()
    assert await world.states() == ["requested"], "sealed anew, and asked for anew"
    first, second = await world.requests()
    assert second.supersedes == (first.event_id,)
    assert await ends(world) == [(first.event_id, ArchivalStatus.FAILED, 1)]
    await world.answer()
    await world.settle()
    assert await world.states() == ["dropped"]
    assert await world.hot() == 0
    assert (await ends(world))[1:] == [(second.event_id, ArchivalStatus.COMPLETED, 1)]


async def test_an_external_writer_who_writes_before_the_copy_is_made_has_another_one_asked_for(
    world: Archive,
) -> None:
    """The archiver sees that the rows are not those of the request; asked again, it would see so indefinitely."""
    await world.fill(2010)
    await world.settle()
    (first,) = await world.requests()
    await world.thaw()
    await world.fill(2010, rows=1)
    differs = world.copy(first).model_copy(
        update={"status": ArchivalStatus.FAILED, "chunks": (), "error_code": "DIGEST_DIFFERS"}
    )
    await world.confirm(differs)
    await world.let_pass(timedelta(minutes=2))
    await world.settle()
    second = (await world.requests())[-1]
    assert second.supersedes == (first.event_id,)
    assert second.chunks[0].row_count == (first.chunks[0].row_count or 0) + 1
    await world.answer()
    await world.settle()
    assert await world.states() == ["dropped"]


@pytest.mark.parametrize(
    "alteration",
    [
        "add column note text; update public.market_data set note = 'kept'",
        "add column note text default 'kept'",
        "alter column volume type numeric(20,3)",
    ],
)
async def test_values_of_a_column_that_came_behind_the_seal_do_not_leave_without_a_copy(
    world: Archive, alteration: str
) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.thaw()
    await world.pool.execute(f"alter table public.market_data {alteration}")
    await world.settle()
    assert await world.states() == ["requested"], "sealed anew, with the columns of now"
    asked = (await world.requests())[-1].columns
    assert {"note", "numeric(20,3)"} & {part for each in asked for part in (each.name, each.pg_type)}
    await world.answer()
    await world.settle()
    assert await world.states() == ["dropped"]


async def test_a_new_column_without_values_is_no_reason_to_copy_again(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.pool.execute("alter table public.market_data add column note text, add column price2 money")
    await world.settle()
    assert await world.states() == ["dropped"]


async def test_a_new_column_that_no_copy_can_hold_stops_the_drop(world: Archive) -> None:
    await world.fill(2010)
    rows = await world.hot()
    await world.settle()
    await world.answer()
    await world.pool.execute("alter table public.market_data add column cost money default 1")
    await world.settle()
    assert (await world.states(), await world.hot()) == (["verified"], rows)
    stops, waits = (await world.round()).problems
    assert "has a new column cost with values" in stops
    assert "column cost is missing" in waits, "late rows do not fit any more, so nothing else is sealed"


async def test_no_answer_leads_to_another_request_and_then_to_an_open_range(world: Archive) -> None:
    await world.fill(2010)
    rows = await world.hot()
    await world.settle()
    await world.let_pass(timedelta(minutes=16))
    await world.settle()
    first, second = await world.requests()
    assert (second.event_id, second.attempt) == (first.event_id, 2)
    await world.let_pass(timedelta(hours=25))
    await world.round()
    assert (await world.events())[-1].status is ArchivalStatus.FAILED
    assert await world.hot() == rows


async def test_late_rows_wait_and_are_archived_in_turn(world: Archive) -> None:
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.settle()
    await world.pool.execute("""
        insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
        select range_start + interval '3 days', 'L', 1.5, 'late', gen_random_uuid(), range_start from tm.archive
    """)
    await world.settle()
    assert await world.states() == ["dropped", "requested"]
    await world.answer()
    await world.settle()
    assert await world.states() == ["dropped", "dropped"]
    assert (await world.hot(), await world.late()) == (0, 0)


async def test_late_rows_do_not_join_the_chunk_that_an_external_writer_made_in_their_range(
    world: Archive,
) -> None:
    """They are in another place: whoever copies and drops that chunk does not copy and drop them."""
    await world.fill(2010)
    await world.settle()
    await world.answer()
    await world.settle()
    await world.fill(2010, rows=2)
    await world.pool.execute("""
        insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
        select range_start + interval '3 days', 'L', 1.5, 'late', gen_random_uuid(), range_start from tm.archive
    """)
    for _ in range(2):
        await world.settle()
        await world.answer()
        await world.settle()
    assert await world.states() == ["dropped"] * 3
    assert sorted(each.source.value for each in await world.slices()) == ["chunk", "chunk", "late"]
    assert (await world.hot(), await world.late()) == (0, 0)


async def test_late_rows_of_a_range_that_opens_again_go_back_to_the_table(world: Archive) -> None:
    await world.fill(2010)
    rows = await world.hot()
    await world.settle()
    await world.pool.execute("""
        insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
        select range_start + interval '3 days', 'L', 1.5, 'late', gen_random_uuid(), range_start from tm.archive
    """)
    world.policy = replace(world.policy, enabled=False)
    await world.let_pass(timedelta(hours=25))
    await world.settle()
    assert await world.states() == ["aborted"]
    assert (await world.hot(), await world.late()) == (rows + 1, 0)


async def test_a_value_that_no_copy_can_hold_is_named_and_stays(world: Archive) -> None:
    await world.pool.execute(
        "alter table public.market_data add column valid daterange, add column until date;"
        "call tm.prepare_late('public.market_data')"
    )
    await world.fill(2010)
    await world.pool.execute("update public.market_data set until = 'infinity' where symbol = 'S1'")
    rows = await world.hot()
    await world.round()
    (which,) = await world.slices()
    assert which.state is ArchiveState.ABORTED
    assert which.reason is not None
    assert "until" in which.reason
    assert await world.hot() == rows
    assert await world.events() == []


async def test_an_owner_who_lost_the_lane_moves_nothing(world: Archive) -> None:
    await world.fill(2010)
    stale = world.claim
    await world.own("another")
    world.claim = stale
    with pytest.raises(Fenced):
        await world.round()
    assert await world.slices() == []


async def test_an_external_writer_in_the_chunk_makes_the_seal_wait_and_nothing_counts_as_done(
    world: Archive,
) -> None:
    await world.fill(2010)
    async with world.pool.acquire() as external_writer, external_writer.transaction():
        await external_writer.execute("update public.market_data set price = price where symbol = 'S1'")
        found = await world.round()
        assert not found.moved, "else the next round begins at once, and so on until he is gone"
        assert found.problems
        assert await world.slices() == []
    await world.settle()
    assert await world.states() == ["requested"]


async def test_batches_do_not_wait_for_a_seal_that_waits_for_an_external_writer(world: Archive) -> None:
    await world.fill(2010)
    batches = 0
    async with world.pool.acquire() as external_writer, external_writer.transaction():
        await external_writer.execute("update public.market_data set price = price where symbol = 'S1'")
        sealing = asyncio.create_task(world.round())
        while not sealing.done():
            await batch(world)
            batches += 1
        assert not (await sealing).moved
    assert batches > 2, "or nobody would have had to wait"


async def batch(world: Archive) -> None:
    """Ask which ranges are closed, under the lock that every batch takes. Raises `LockNotAvailableError`."""
    async with world.pool.acquire() as writer, writer.transaction():
        await writer.execute(f"set local lock_timeout = '{HANGING_S} s'")
        await writer.fetch("select * from tm.closed_ranges($1, $2, $3)", TABLE, *TODAY)
