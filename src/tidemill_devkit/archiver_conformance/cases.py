"""The cases: requests to an archiver, and what it must not do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple
from uuid import uuid4

from tidemill.domain.archive.messages import ArchivalColumn, ArchivalConfirmation, ArchivalStatus
from tidemill.retention.slices import CopyLocation
from tidemill_devkit.archiver_conformance.bench import Bench, Failed


class Case(NamedTuple):
    """A case. `run` raises `Failed`, `NotTried`, `Silent` or `Unreadable`, and may leave notes."""

    name: str
    about: str
    run: Callable[[Bench], Awaitable[None]]


async def _plain(bench: Bench) -> None:
    await bench.place.table.fill(0)
    requested = bench.requested(await bench.chunk(0))
    bench.copied["plain"] = await bench.ask(requested)


async def _again(bench: Bench) -> None:
    before = bench.needed("plain")
    requested = bench.requested_again(bench.requested(await bench.chunk(0)))
    answer, after = await bench.ask_and_hear(requested)
    for old, new in zip(before, after, strict=True):
        if _places(old.copy) != _places(new.copy) and await bench.still_there([old]):
            raise Failed(f"there are two copies now, {_named(old.copy)} and {_named(new.copy)}")
    if answer.replayed is None:
        bench.notes.append("it does not say whether it found a copy (replayed)")
    bench.copied["plain"] = after


async def _several(bench: Bench) -> None:
    for number in (1, 2, 3):
        await bench.place.table.fill(number)
    requested = bench.requested(*[await bench.chunk(number) for number in (1, 2, 3)])
    bench.copied["several"] = await bench.ask(requested)


async def _empty(bench: Bench) -> None:
    await bench.place.table.empty(4)
    await bench.ask(bench.requested(await bench.chunk(4)))


async def _late(bench: Bench) -> None:
    first = bench.needed("plain")
    await bench.place.table.fill_late(0, 2)
    await bench.ask(bench.requested(await bench.late(0, 2)))
    if not await bench.still_there(first):
        raise Failed(f"the copy of generation 1 is missing or altered: {_named(first[0].copy)}")


async def _changed(bench: Bench) -> None:
    changed, *others = bench.needed("several")
    await bench.place.table.change(1)
    await bench.ask(bench.requested(await bench.resealed(changed)))
    left = await bench.still_there(others)
    if len(left) < len(others):
        raise Failed("copies of other chunks of the superseded request are missing: they were the only ones")
    if await bench.still_there([changed]):
        bench.notes.append(
            f"the superseded copy still exists: readers of the lake see both; {_named(changed.copy)}"
        )


async def _gone(bench: Bench) -> None:
    await bench.place.table.fill(5)
    requested = bench.requested(await bench.chunk(5))
    event = bench.event(requested)
    (chunk,) = event.chunks
    name = "_timescaledb_internal._hyper_0_0_chunk"
    read_sql = (chunk.read_sql or "").replace(chunk.chunk_name, name)
    gone = chunk.model_copy(update={"chunk_name": name, "read_sql": read_sql})
    asked = event.model_copy(update={"event_id": str(uuid4()), "chunks": (gone,)})
    await bench.ask(requested, asked)
    if any(_claims_a_copy(answer, asked.event_id) for answer in bench.line.answers):
        raise Failed("it says that it copied a chunk that does not exist")


async def _unknown(bench: Bench) -> None:
    await bench.place.table.fill(6)
    requested = bench.requested(await bench.chunk(6))
    event = bench.event(requested)
    column = ArchivalColumn(name="of_later", pg_type="hologram", lake_type="hologram", nullable=True)
    changes = {
        "event_id": str(uuid4()),
        "columns": (*event.columns, column),
        "digest_version": "v99",
        "required_verification": "hologram",
    }
    await bench.ask(requested, event.model_copy(update=changes))


async def _noise(bench: Bench) -> None:
    await bench.place.table.fill(7)
    requested = bench.requested(await bench.chunk(7))
    event = bench.event(requested)
    headers = [
        event.model_copy(update={"event_id": str(uuid4()), "status": status})
        for status in (ArchivalStatus.COMPLETED, ArchivalStatus.FAILED)
    ]
    await bench.ask(requested, None, b"this is not Avro", *headers)
    for each in headers:
        if any(answer.event_id == each.event_id for answer in bench.line.answers):
            raise Failed(f"it answered an event with status {each.status}, which is not a request")


CASES: Final = (
    Case("plain", "a chunk with every type is copied; the copy reads back equal", _plain),
    Case("again", "the same request again leaves one copy", _again),
    Case("several", "three chunks in one request", _several),
    Case("empty", "a chunk without rows", _empty),
    Case("late", "late rows of a range, its generation 2; generation 1 stays", _late),
    Case("changed", "rows that changed: a request that supersedes an earlier one", _changed),
    Case("gone", "no copy is claimed of a chunk that does not exist; the next request is answered", _gone),
    Case("unknown", "a type and a digest of a later version do not stop it", _unknown),
    Case("noise", "records that are not requests are skipped", _noise),
)


def _claims_a_copy(answer: ArchivalConfirmation, event_id: str) -> bool:
    if answer.event_id != event_id or answer.status is not ArchivalStatus.COMPLETED:
        return False
    return not answer.chunks or any(each.status is ArchivalStatus.COMPLETED for each in answer.chunks)


def _places(copy: CopyLocation | None) -> object:
    assert copy is not None
    return {file.path for file in copy.files} or copy.location


def _named(copy: CopyLocation | None) -> str:
    assert copy is not None
    return copy.files[0].path if copy.files else copy.location or "no file"
