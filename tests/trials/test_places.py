"""True copies at places that nobody allowed, and what is no copy at all where they are allowed: none is dropped for."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.support.archive.lies import Copied, Pair
from tests.support.archive.site import Archive
from tests.support.waiting import HANGING_S
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalResult
from tidemill.domain.archive.slices import ArchiveState

TERABYTE = 1 << 40
FOOTER_BYTES = (1 << 27) - 1
"""What a terabyte says that its footer takes; a reader fetches so much of it before it sees that it is none."""

Naming = Callable[[Archive, Path], str]

# Each gets the true copy, which stands in a folder of its own outside of the lake, and returns the path that is told.


def absolute(world: Archive, copy: Path) -> str:
    return str(copy)


def by_dots(world: Archive, copy: Path) -> str:
    return f"{world.lake}/../{copy.relative_to(world.lake.parent)}"


def relative_by_dots(world: Archive, copy: Path) -> str:
    return f"../{copy.relative_to(world.lake.parent)}"


def link(world: Archive, copy: Path) -> str:
    told = world.lake / "link.parquet"
    told.symlink_to(copy)
    return str(told)


def linked_folder(world: Archive, copy: Path) -> str:
    folder = world.lake / "linked"
    folder.symlink_to(copy.parent)
    return str(folder / copy.name)


def neighbour(world: Archive, copy: Path) -> str:
    """The lake's own name is the beginning of its neighbour's."""
    folder = world.lake.with_name(world.lake.name + "-too")
    folder.mkdir()
    return str(copy.rename(folder / copy.name))


def of_a_scheme(scheme: str) -> Naming:
    return lambda world, copy: f"{scheme}://{copy}"


def within_the_lake(scheme: str) -> Naming:
    """The file is where it should be, but the path asks for another way to it."""
    return lambda world, copy: f"{scheme}://{copy.rename(world.lake / f'{scheme}.parquet')}"


def chained(world: Archive, copy: Path) -> str:
    return f"simplecache::file://{copy}"


def with_nul(world: Archive, copy: Path) -> str:
    return f"{world.lake}/copy.parquet\u2028{copy}"


SCHEMES = ["file", "local", "s3", "http", "memory", "ftp", "FILE"]
NAMINGS: dict[str, Naming] = {
    **{
        each.__name__: each
        for each in (absolute, by_dots, relative_by_dots, link, linked_folder, neighbour, chained, with_nul)
    },
    **{each: of_a_scheme(each) for each in SCHEMES},
    **{f"{each} within the lake": within_the_lake(each) for each in ("s3", "memory", "zip")},
}


async def copies_of(world: Archive, number: int) -> tuple[ArchivalConfirmation, list[Copied]]:
    """A request for so many chunks, and their true copies, each in a folder of its own outside of the lake."""
    await world.fill(*range(2001, 2001 + number))
    await world.settle()
    honest = world.copy((await world.requests())[-1])
    outside = world.lake.with_name("outside")
    copies = [moved_out(result, outside / str(place)) for place, result in enumerate(honest.chunks)]
    assert len(copies) == number
    return honest, copies


def moved_out(told: ArchivalResult, folder: Path) -> Copied:
    folder.mkdir(parents=True)
    path = Path(told.files[0].path).rename(folder / "copy.parquet")
    return Copied(path, told, Pair("price", "open"))


def told_there(naming: Naming, world: Archive, copy: Copied) -> ArchivalResult:
    data = copy.path.read_bytes()
    return copy.naming(naming(world, copy.path), data)


async def set_aside(
    world: Archive, honest: ArchivalConfirmation, told: Iterable[ArchivalResult]
) -> list[str]:
    """Say so of every chunk, and see that none is dropped for it; return the reasons, in the order of the chunks."""
    rows = await world.hot()
    await world.confirm(honest.model_copy(update={"chunks": tuple(told)}))
    await world.settle()
    slices = await world.slices()
    assert {each.state for each in slices} == {ArchiveState.QUARANTINED}, slices
    assert await world.hot() == rows
    return [each.reason or "" for each in slices]


async def test_true_copies_at_places_that_nobody_allowed_are_none(world: Archive) -> None:
    honest, copies = await copies_of(world, len(NAMINGS))
    told = [told_there(naming, world, copy) for naming, copy in zip(NAMINGS.values(), copies, strict=True)]
    reasons = dict(zip(NAMINGS, await set_aside(world, honest, told), strict=True))
    assert all("allowed root" in reason or "not plain" in reason for reason in reasons.values()), reasons


async def test_five_fields_lead_out_of_the_roots_by_no_way(world: Archive) -> None:
    honest, (copy,) = await copies_of(world, 1)
    (world.lake / "away").symlink_to(copy.path.parent)
    rows = await world.hot()
    plain = honest.model_copy(update={"chunks": (), "lakehouse_path": str(world.lake / "away")})
    await world.confirm(plain)
    await world.settle()
    (which,) = await world.slices()
    assert (which.state, await world.hot()) == (ArchiveState.QUARANTINED, rows)
    assert "allowed root" in (which.reason or "")


async def test_a_link_among_honest_files_leads_nowhere(world: Archive) -> None:
    """All rows of the event are below the path, but by way of a link that leads out of the root."""
    honest, (copy,) = await copies_of(world, 1)
    folder = world.lake / "event"
    folder.mkdir()
    (folder / "copy.parquet").symlink_to(copy.path)
    rows = await world.hot()
    await world.confirm(honest.model_copy(update={"chunks": (), "lakehouse_path": str(folder)}))
    await world.settle()
    (which,) = await world.slices()
    assert (which.state, await world.hot()) == (ArchiveState.QUARANTINED, rows)


# What is at an allowed place, and no copy.


def huge(place: Path) -> int:
    with place.open("wb") as file:
        file.truncate(TERABYTE)
    return TERABYTE


def huge_within_parquet_marks(place: Path) -> int:
    huge(place)
    with place.open("r+b") as file:
        file.write(b"PAR1")
        file.seek(-8, os.SEEK_END)
        file.write(FOOTER_BYTES.to_bytes(4, "little") + b"PAR1")
    return TERABYTE


def pipe(place: Path) -> int:
    os.mkfifo(place)
    return 1000


def listening_socket(place: Path) -> int:
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(
                f"/proc/self/fd/{folder}/{place.name}"
            )  # a socket's name may have 107 bytes, a test's path more
    finally:
        os.close(folder)
    return 1000


def folder(place: Path) -> int:
    place.mkdir()
    return 1000


def empty(place: Path) -> int:
    place.touch()
    return 0


def text(place: Path) -> int:
    return place.write_text("time,symbol\n" * 1000)


async def test_what_is_no_copy_is_set_aside_at_once(world: Archive) -> None:
    made = (huge, huge_within_parquet_marks, pipe, listening_socket, folder, empty, text)
    cases = [(make, told_size) for make in made for told_size in ("its own", "another")]
    honest, copies = await copies_of(world, len(cases))
    told = []
    for (make, told_size), copy in zip(cases, copies, strict=True):
        place = world.lake / f"{make.__name__} {told_size}.parquet"
        size = make(place) + (told_size == "another")
        result = copy.naming(str(place), b"")
        files = (result.files[0].model_copy(update={"size_bytes": size}),)
        told.append(result.model_copy(update={"files": files}))
    await asyncio.wait_for(set_aside(world, honest, told), HANGING_S)


@pytest.mark.parametrize("make", [huge, huge_within_parquet_marks, pipe, empty, text])
async def test_five_fields_about_what_is_no_copy_drop_nothing(
    world: Archive, make: Callable[[Path], int]
) -> None:
    honest, _ = await copies_of(world, 1)
    make(world.lake / "c.parquet")
    rows = await world.hot()
    await world.confirm(honest.model_copy(update={"chunks": ()}))
    await world.settle()
    (which,) = await world.slices()
    assert (which.state, await world.hot()) == (ArchiveState.QUARANTINED, rows)
