"""Whatever an archiver says of its copies, no row leaves but behind a true one: every lie, in many types of columns."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta

from tests.support.archive import lies
from tests.support.archive.lies import PAIRS, Once, copied, fill
from tests.support.archive.site import TABLE, Archive
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalStatus
from tidemill.domain.archive.slices import ArchiveState
from tidemill.domain.decision import Rejected

DIFFERENT = r"digest|rows|row_count"
LIES = {
    lies.no_file: "no such file",
    lies.truncated: "arquet",
    lies.rotten: "sha256",  # a bit
    lies.flipped: r"checksum|CRC|ZSTD|corrupt",  # a bit, in a page with a checksum
    lies.flipped_value: DIFFERENT,  # a bit of it
    lies.columns_swapped: DIFFERENT,
    lies.row_doubled: DIFFERENT,
    lies.row_doubled_for_another: DIFFERENT,
    lies.wrong_value: DIFFERENT,  # under the right count and digest
    lies.rows_swapped: DIFFERENT,  # their values in one column
    lies.value_lost: DIFFERENT,
    lies.column_left_out: "column",
}
"""Lie -> what the reason says."""


async def requested(world: Archive) -> tuple[ArchivalConfirmation, list[lies.Copied], int]:
    """An honest copy of a request for a chunk per type, before anything was said of it."""
    await fill(world)
    await world.settle()
    honest, copies = copied(world, (await world.requests())[-1])
    assert len(copies) == len(PAIRS)
    return honest, copies, await world.hot()


async def assert_all_set_aside(world: Archive, rows: int, reason: str, lie: str = "") -> None:
    """Every copy is quarantined with a reason; no row left, nobody was told so."""
    await world.settle()
    slices = await world.slices()
    found = {each.id.start.year: (each.state.value, each.reason) for each in slices}
    assert {each.state for each in slices} == {ArchiveState.QUARANTINED}, (lie, found)
    assert all(re.search(reason, each.reason or "") for each in slices), (lie, found)
    assert await world.hot() == rows, lie
    assert ArchivalStatus.COMPLETED not in {event.status for event in await world.events()}, lie


async def test_an_honest_archiver_is_believed_by_what_it_wrote(world: Archive) -> None:
    """The other trials' copies without their lies: else what they show is nothing."""
    honest, copies, _ = await requested(world)
    plain = tuple(copy.rewritten(copy.table) for copy in copies)
    await world.confirm(honest.model_copy(update={"chunks": plain}))
    await world.settle()
    assert set(await world.states()) == {"dropped"}
    assert await world.hot() == 0


async def test_a_lie_in_any_type_of_column_drops_nothing(world: Archive) -> None:
    honest, copies, rows = await requested(world)
    once = Once(world)
    await once.keep()
    for lie, reason in LIES.items():
        await once.come_back()
        await world.confirm(honest.model_copy(update={"chunks": tuple(lie(copy) for copy in copies)}))
        await assert_all_set_aside(world, rows, reason, lie.__name__)


async def test_a_lie_in_five_fields_drops_nothing(world: Archive) -> None:
    honest, copies, rows = await requested(world)
    once = Once(world)
    await once.keep()
    plain = {"event_id", "status", "completed_at", "lakehouse_path"}
    for lie in LIES.keys() - {lies.no_file, lies.rotten}:  # nobody told of single files, or their hashes
        await once.come_back()
        for copy in copies:
            lie(copy)
        await world.confirm(ArchivalConfirmation(**honest.model_dump(include=plain)))
        await assert_all_set_aside(world, rows, ".", lie.__name__)


async def test_one_lie_among_honest_copies_stays_alone(world: Archive) -> None:
    honest, copies, rows = await requested(world)
    lied = (lies.wrong_value(copies[0]), *honest.chunks[1:])
    await world.confirm(honest.model_copy(update={"chunks": lied}))
    await world.settle()
    assert await world.states() == ["quarantined", *["dropped"] * (len(copies) - 1)]
    assert await world.hot() == rows // len(copies)


async def test_the_files_of_another_event_are_no_copy(world: Archive) -> None:
    """Each chunk is said to be where another chunk's true copy is, of the same request and of one before."""
    await world.fill(1999)
    await world.pool.execute(lies.MORE_COLUMNS)
    await world.settle()
    earlier = world.copy((await world.requests())[-1])
    await world.confirm(earlier)
    await world.settle()
    await world.pool.execute(lies.MORE_COLUMNS.replace("add column", "add column if not exists"))
    await world.fill(*PAIRS)
    rows = await world.hot()
    await world.settle()
    honest, copies = copied(world, (await world.requests())[-1])
    files = [copies[number - 1].told.files for number in range(len(copies))]
    files[:3] = [earlier.chunks[0].files] * 3
    lied = tuple(
        copy.told.model_copy(update={"files": file}) for copy, file in zip(copies, files, strict=True)
    )
    await world.confirm(honest.model_copy(update={"chunks": lied}))
    await world.settle()
    assert set(await world.states()) == {"dropped", "quarantined"}
    assert (await world.states()).count("dropped") == 1
    assert await world.hot() == rows


async def resealed(world: Archive) -> tuple[ArchivalConfirmation, int]:
    """A request whose rows changed behind the seal, and the true copy of the one before."""
    await fill(world)
    await world.settle()
    stale = world.copy((await world.requests())[-1])
    await world.confirm(stale)
    await world.round()  # verified, and not dropped yet
    await world.thaw()
    await world.fill(*PAIRS, rows=1)
    await world.settle()
    assert set(await world.states()) == {"requested"}
    return stale, await world.hot()


async def test_a_stale_event_id_is_ignored(world: Archive) -> None:
    stale, rows = await resealed(world)
    for again in (stale, stale.model_copy(update={"chunks": ()})):
        folded = await world.confirm(again)
        assert isinstance(folded.rejected, Rejected)
        assert folded.rejected.code == "STALE_ARCHIVAL"
        assert len(folded.ignored) == len(PAIRS)
    await world.settle()
    assert set(await world.states()) == {"requested"}
    assert await world.hot() == rows


async def test_a_made_up_event_id_is_ignored(world: Archive) -> None:
    honest, _, rows = await requested(world)
    folded = await world.confirm(honest.model_copy(update={"event_id": honest.event_id[:-1] + "x"}))
    assert folded.rejected is not None
    assert folded.rejected.code == "UNKNOWN_ARCHIVAL"
    await world.settle()
    assert set(await world.states()) == {"requested"}
    assert await world.hot() == rows


async def test_the_copy_of_an_earlier_seal_is_no_copy(world: Archive) -> None:
    """The right event, chunks, counts and digests: but the files are those of the request before."""
    stale, rows = await resealed(world)
    honest = world.copy((await world.requests())[-1])
    lied = tuple(
        new.model_copy(update={"files": old.files})
        for new, old in zip(honest.chunks, stale.chunks, strict=True)
    )
    await world.confirm(honest.model_copy(update={"chunks": lied}))
    await assert_all_set_aside(world, rows, DIFFERENT)


async def given_up(world: Archive) -> tuple[ArchivalConfirmation, int]:
    """A request for the very rows of one that was given up, and the true copy of that one."""
    await fill(world)
    await world.settle()
    earlier = world.copy((await world.requests())[-1])
    await world.confirm(earlier)
    await world.let_pass(timedelta(days=2))
    await world.round()  # gives up
    await world.settle()
    assert set(await world.states()) == {"requested"}
    return earlier, await world.hot()


async def test_an_equal_copy_of_an_earlier_seal_is_no_copy(world: Archive) -> None:
    """Who deletes what the request supersedes, as it is told to, would delete the only copy."""
    earlier, rows = await given_up(world)
    event = (await world.requests())[-1]
    assert event.supersedes == (earlier.event_id,)
    chunks = tuple(
        new.model_copy(update={"files": old.files})
        for new, old in zip(world.copy(event).chunks, earlier.chunks, strict=True)
    )
    await world.confirm(earlier.model_copy(update={"event_id": event.event_id, "chunks": chunks}))
    await assert_all_set_aside(world, rows, f"request {earlier.event_id}, which this one supersedes")


async def test_a_folder_with_equal_copies_of_an_earlier_seal_is_no_copy(world: Archive) -> None:
    """Told by its place alone: the files below it have the earlier request's names."""
    earlier, rows = await given_up(world)
    event = (await world.requests())[-1]
    plain = earlier.model_copy(update={"event_id": event.event_id, "chunks": ()})
    await world.confirm(plain)
    await assert_all_set_aside(world, rows, f"request {earlier.event_id}, which this one supersedes")


async def test_where_a_copy_of_an_earlier_seal_was_said_to_be_there_is_none(world: Archive) -> None:
    """Names that tell nothing are known from the earlier confirmation."""
    await fill(world)
    await world.settle()
    honest = world.copy((await world.requests())[-1])
    plain = world.lake / "plain"
    shutil.copytree(world.lake / TABLE, plain)
    for number, file in enumerate(sorted(plain.rglob("*.parquet"))):
        file.rename(plain / f"{number}.parquet")
    told = honest.model_copy(update={"chunks": (), "lakehouse_path": str(plain)})
    await world.confirm(told)
    rows = await world.hot()
    await world.let_pass(timedelta(days=2))
    await world.round()
    await world.settle()
    again = (await world.requests())[-1].event_id
    assert again != honest.event_id
    await world.confirm(told.model_copy(update={"event_id": again}))
    await assert_all_set_aside(world, rows, "a copy for an earlier request")


async def test_a_new_copy_beside_one_of_an_earlier_seal_is_a_copy(world: Archive) -> None:
    await given_up(world)
    await world.confirm(world.copy((await world.requests())[-1]))
    await world.settle()
    assert set(await world.states()) == {"dropped"}


async def test_a_copy_that_changes_behind_its_confirmation_is_no_copy(world: Archive) -> None:
    honest, copies, rows = await requested(world)
    await world.confirm(honest)
    for copy in copies:
        lies.flipped_value(copy)
    await assert_all_set_aside(world, rows, "bytes|sha256")


async def test_what_is_set_aside_is_asked_for_again_by_an_operator_alone(world: Archive) -> None:
    """A second confirmation, even an honest one, moves nothing that a person has to look at."""
    honest, copies, rows = await requested(world)
    saved = world.lake.with_name("saved")
    shutil.copytree(world.lake, saved)
    await world.confirm(
        honest.model_copy(update={"chunks": tuple(lies.wrong_value(copy) for copy in copies)})
    )
    await world.settle()
    shutil.copytree(saved, world.lake, dirs_exist_ok=True)
    folded = await world.confirm(honest)
    assert {each.code for each in folded.ignored} == {"ARCHIVAL_QUARANTINED"}
    await assert_all_set_aside(world, rows, DIFFERENT)
