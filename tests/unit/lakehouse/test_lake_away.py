"""A lake that does not answer says nothing about a copy: what cannot be seen is neither wrong nor absent."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from tests.unit.lakehouse.test_copies import COLUMNS, MARCH, STEM, batches, contents
from tidemill.domain.errors import CopyError, Unavailable
from tidemill.lakehouse.layout import Manifest
from tidemill.lakehouse.locations import LakeLocation
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader

FAULTS = [
    PermissionError("Forbidden"),
    FSTimeoutError(),
    TimeoutError("read timed out"),
    ConnectionResetError("reset by peer"),
    OSError("An error occurred (SlowDown): reduce your request rate"),
    OSError(5, "Input/output error"),
]
"""As fsspec's storages raise them, most without an error number."""

CALLS = [
    (MemoryFileSystem, "ls"),
    (MemoryFileSystem, "info"),
    (MemoryFileSystem, "_open"),
    (MemoryFile, "read"),
]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").rm("/", recursive=True)


def ways(root: str, made: Manifest) -> list[Callable[[], object]]:
    reader, bounds = LakeReader([root]), [(MARCH.start, MARCH.end)]
    return [
        lambda: reader.read_back([made.files[0].path], COLUMNS, "at"),
        lambda: reader.split_by_bounds(root, COLUMNS, "at", bounds),
        lambda: reader.damaged(made.files[0]),
        lambda: LakeWriter(root).find(MARCH, "event-1"),
        lambda: LakeWriter(root).remove(MARCH, "event-0"),
    ]


@pytest.mark.parametrize(("kind", "call"), CALLS, ids=[call for _, call in CALLS])
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_storage_that_fails_is_unavailable_wherever_it_does(
    root: str, monkeypatch: pytest.MonkeyPatch, kind: type, call: str, fault: OSError
) -> None:
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    before = [read() for read in ways(root, made)]

    def failing(*_arguments: Any, **_named: Any) -> Any:
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(kind, call, failing)
        ended = [ended_of(read) for read in ways(root, made)]
    assert ended.count(Unavailable) >= 1
    assert CopyError not in ended
    assert [read() for read in ways(root, made)] == before


def ended_of(read: Callable[[], object]) -> type | None:
    """Return as what a way to read ended, None if it did not need the call that fails."""
    try:
        read()
    except (CopyError, Unavailable) as error:
        return type(error)
    return None


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_copy_whose_manifest_cannot_be_looked_at_is_not_replaced(
    root: str, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    LakeWriter(root, file_bytes=1).write(MARCH, "event-1", COLUMNS, "at", batches(2))
    before = contents(root)

    def failing(*_arguments: Any) -> bytes:
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(MemoryFile, "read", failing)
        with pytest.raises(Unavailable):
            LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    assert contents(root) == before


@pytest.mark.parametrize("is_there", [True, False], ids=["empty", "no folder"])
def test_a_root_without_anything_is_a_lake_that_is_not_mounted(tmp_path: Path, is_there: bool) -> None:
    lake = tmp_path / "lake"
    made = LakeWriter(str(lake)).write(MARCH, "event-1", COLUMNS, "at", batches())
    lake.rename(tmp_path / "elsewhere")
    if is_there:
        lake.mkdir()
    reader = LakeReader([str(lake)])
    for read in ways(str(lake), made)[:3]:
        with pytest.raises(Unavailable, match="check that it is mounted"):
            read()
    (lake / "another").mkdir(parents=True)
    assert "no such file" in (reader.damaged(made.files[0]) or "")


def test_what_the_storage_reads_well_and_arrow_does_not_is_the_copys_fault(root: str) -> None:
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    place = LakeLocation.of_root(root).below(f"{STEM}-0.parquet")
    place.storage.pipe_file(place.path, b"PAR1" + bytes(range(256)) + b"PAR1")
    with pytest.raises(CopyError):
        LakeReader([root]).read_back([made.files[0].path], COLUMNS, "at")
