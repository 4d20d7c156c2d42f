"""True copies at places that nobody allowed, and what is no copy at all where they are allowed: none is dropped for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.archiving import Archive
from tests.support.lying import Copied, copied, fill
from tidemill.domain.archival import ArchivalConfirmation, ArchivalResult
from tidemill.domain.archive import ArchiveState

TERABYTE = 1 << 40
Naming = Callable[[Archive, Path], str]

# Each gets the true copy, which stands outside of the lake, and returns the path that is told for it.


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
    folder = world.lake / "folder"
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
    return lambda world, copy: f"{scheme}://{copy.rename(world.lake / 'copy.parquet')}"


def chained(world: Archive, copy: Path) -> str:
    return f"simplecache::file://{copy}"


def with_nul(world: Archive, copy: Path) -> str:
    return f"{world.lake}/copy.parquet\u2028{copy}"


NAMINGS = [absolute, by_dots, relative_by_dots, link, linked_folder, neighbour, chained, with_nul]
SCHEMES = ["file", "local", "s3", "http", "memory", "ftp", "FILE"]


async def one_copy(world: Archive) -> tuple[ArchivalConfirmation, Copied, Path]:
    """A request for one chunk, and its true copy outside of the lake."""
    await fill(world, [2002])
    await world.settle()
    honest, (copy,) = copied(world, (await world.requests())[-1])
    outside = world.lake.with_name("outside")
    outside.mkdir()
    return honest, copy, copy.path.rename(outside / "copy.parquet")


async def assert_set_aside(world: Archive, honest: ArchivalConfirmation, told: ArchivalResult) -> str:
    rows = await world.hot()
    await world.confirm(honest.model_copy(update={"chunks": (told,)}))
    await world.settle()
    (which,) = await world.slices()
    assert which.state is ArchiveState.QUARANTINED, which
    assert await world.hot() == rows
    assert which.reason
    return which.reason


@pytest.mark.parametrize(
    "naming",
    [
        *(pytest.param(each, id=each.__name__) for each in NAMINGS),
        *(pytest.param(of_a_scheme(each), id=each) for each in SCHEMES),
        *(
            pytest.param(within_the_lake(each), id=f"{each} within the lake")
            for each in ("s3", "memory", "zip")
        ),
    ],
)
async def test_a_true_copy_at_a_place_that_nobody_allowed_is_none(world: Archive, naming: Naming) -> None:
    honest, copy, outside = await one_copy(world)
    data = outside.read_bytes()
    reason = await assert_set_aside(world, honest, copy.naming(naming(world, outside), data))
    assert "allowed root" in reason or "not plain" in reason


async def test_five_fields_lead_out_of_the_roots_by_no_way(world: Archive) -> None:
    honest, _, outside = await one_copy(world)
    (world.lake / "away").symlink_to(outside.parent)
    rows = await world.hot()
    plain = honest.model_copy(update={"chunks": (), "lakehouse_path": str(world.lake / "away")})
    await world.confirm(plain)
    await world.settle()
    (which,) = await world.slices()
    assert (which.state, await world.hot()) == (ArchiveState.QUARANTINED, rows)
    assert "allowed root" in (which.reason or "")


async def test_a_link_among_honest_files_leads_nowhere(world: Archive) -> None:
    """All rows of the event are below the path, but by way of a link that leads out of the root."""
    honest, _, outside = await one_copy(world)
    folder = world.lake / "event"
    folder.mkdir()
    (folder / "copy.parquet").symlink_to(outside)
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
        file.write(b"\xff\xff\xff\x7fPAR1")
    return TERABYTE


def pipe(place: Path) -> int:
    os.mkfifo(place)
    return 1000


def listening_socket(place: Path) -> int:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place))
    return 1000


def folder(place: Path) -> int:
    place.mkdir()
    return 1000


def empty(place: Path) -> int:
    place.touch()
    return 0


def text(place: Path) -> int:
    return place.write_text("time,symbol\n" * 1000)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("told_size", ["its own", "another"])
@pytest.mark.parametrize(
    "make", [huge, huge_within_parquet_marks, pipe, listening_socket, folder, empty, text]
)
async def test_what_is_no_copy_is_set_aside_at_once(
    world: Archive, make: Callable[[Path], int], told_size: str
) -> None:
    honest, copy, _ = await one_copy(world)
    place = world.lake / "c.parquet"
    told = copy.naming(str(place), b"")
    size = make(place) + (told_size == "another")
    (file,) = told.files
    files = (file.model_copy(update={"size_bytes": size}),)
    began = world.clock.monotonic_s()
    await assert_set_aside(world, honest, told.model_copy(update={"files": files}))
    assert timedelta(seconds=world.clock.monotonic_s() - began) < timedelta(seconds=20)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [huge, huge_within_parquet_marks, pipe, empty, text])
async def test_five_fields_about_what_is_no_copy_drop_nothing(
    world: Archive, make: Callable[[Path], int]
) -> None:
    honest, _, _ = await one_copy(world)
    make(world.lake / "c.parquet")
    rows = await world.hot()
    await world.confirm(honest.model_copy(update={"chunks": ()}))
    await world.settle()
    (which,) = await world.slices()
    assert (which.state, await world.hot()) == (ArchiveState.QUARANTINED, rows)
