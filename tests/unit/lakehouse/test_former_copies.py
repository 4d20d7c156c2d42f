"""Copies of versions before 0.5, in folders `year=2026/month=03`: read on, not made, removed when superseded."""

from pathlib import Path

import pytest

from tests.support.archive.former_copies import month_folder, move_to_former_places
from tests.unit.lakehouse.test_copies import COLUMNS, MANIFEST, MARCH, STEM, batches, contents, large
from tidemill.domain.archive.slices import Measured, SliceId
from tidemill.domain.errors import CopyStands, Unavailable
from tidemill.lakehouse import uncommitted_files
from tidemill.lakehouse.layout import Manifest
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """The manifest of a copy for `event-1`."""
    return move_to_former_places(tmp_path, written(tmp_path))


def written(root: Path, event_id: str = "event-1", count: int = 3) -> Manifest:
    return LakeWriter(str(root)).write(MARCH, event_id, COLUMNS, "at", batches(count))


def test_it_is_found_read_back_and_listed(tmp_path: Path, former: Path) -> None:
    copy = LakeWriter(str(tmp_path)).find(MARCH, "event-1")
    assert copy is not None
    assert [file.path for file in copy.files] == [str(former).replace(".manifest.json", "-0.parquet")]
    reader = LakeReader([str(tmp_path)])
    assert reader.read_back([file.path for file in copy.files], COLUMNS, "at") == copy.measured
    assert [reader.damaged(file) for file in copy.files] == [None]
    assert list(reader.manifests(str(tmp_path), MARCH.table)) == [copy]
    spans = reader.split_by_bounds(str(tmp_path / MARCH.table), COLUMNS, "at", [(MARCH.start, MARCH.end)])
    assert (spans.measured, spans.outside) == ((copy.measured,), 0)


def test_the_same_rows_again_are_answered_with_it_and_no_second_copy_is_made(
    tmp_path: Path, former: Path
) -> None:
    before = contents(str(tmp_path))
    assert written(tmp_path) == LakeWriter(str(tmp_path)).find(MARCH, "event-1")
    assert contents(str(tmp_path)) == before


def test_other_rows_do_not_replace_it(tmp_path: Path, former: Path) -> None:
    before = contents(str(tmp_path))
    with pytest.raises(CopyStands) as refused:
        written(tmp_path, count=2)
    assert refused.value.path == str(former)
    assert contents(str(tmp_path)) == before


@pytest.mark.parametrize("missing", ["manifest", "file"])
def test_an_incomplete_one_gives_way_to_a_whole_copy_in_the_new_place(
    tmp_path: Path, former: Path, missing: str
) -> None:
    (former if missing == "manifest" else Path(str(former).replace(".manifest.json", "-0.parquet"))).unlink()
    copy = written(tmp_path)
    assert list(contents(str(tmp_path))) == [MANIFEST, f"{STEM}-0.parquet"]
    assert LakeWriter(str(tmp_path)).find(MARCH, "event-1") == copy


def test_one_that_was_superseded_is_removed_and_no_other(tmp_path: Path, former: Path) -> None:
    april = SliceId(MARCH.table, MARCH.end, MARCH.end.replace(month=5))
    writer = LakeWriter(str(tmp_path))
    other = move_to_former_places(tmp_path, writer.write(april, "event-1", COLUMNS, "at", batches()))
    copy = written(tmp_path, "event-2")
    writer.publish(MARCH.table, "event-2", {MARCH: copy}, ["event-1"])
    assert not list(month_folder(tmp_path, MARCH).iterdir())
    assert other.exists()
    assert writer.find(april, "event-1") is not None


def test_leftovers_of_a_killed_archiver_beside_it_are_removed(tmp_path: Path, former: Path) -> None:
    left = former.with_name(f".{Path(STEM).name}-1.parquet.0a1b2c3d.tmp")
    left.write_bytes(b"")
    former.unlink()
    written(tmp_path)
    assert not left.exists()


def test_a_copy_of_an_iceberg_table_is_found_whatever_is_written_now(tmp_path: Path) -> None:
    """A request that was copied before the lake's format was changed has one copy, not two."""
    iceberg = LakeWriter(str(tmp_path), rows_in="data")
    copy = iceberg.write(MARCH, "event-1", COLUMNS, "at", batches())
    assert Path(copy.files[0].path).parent == tmp_path / MARCH.table / "data"
    assert written(tmp_path) == copy
    assert LakeWriter(str(tmp_path)).find(MARCH, "event-1") == copy
    assert list(LakeReader([str(tmp_path)]).manifests(str(tmp_path), MARCH.table)) == [copy]
    assert LakeWriter(str(tmp_path)).remove(MARCH, "event-1") == 2


def test_of_a_copy_that_is_removed_in_part_nothing_is_left_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LakeWriter(str(tmp_path), file_bytes=1)
    assert len(writer.write(MARCH, "event-1", COLUMNS, "at", large()).files) == 2
    removed: list[str] = []
    storage = type(writer._root.storage)
    remove = storage.rm_file

    def once(self: object, path: str) -> None:
        if len(removed) == 2:
            raise PermissionError("the lake became read-only")
        removed.append(path)
        remove(self, path)

    with monkeypatch.context() as broken:
        broken.setattr(storage, "rm_file", once)
        with pytest.raises(Unavailable):
            writer.remove(MARCH, "event-1")
    assert writer.find(MARCH, "event-1") is None
    assert writer.remove(MARCH, "event-1") == 1
    assert not contents(str(tmp_path))


def test_a_tables_folder_on_another_disk_is_written_within_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncommitted_files, "_disk_of", str)
    inside = tmp_path / MARCH.table / "_tidemill"
    with monkeypatch.context() as killed:
        killed.setattr(uncommitted_files.PendingFile, "discard", lambda _: None)
        with pytest.raises(Unavailable):
            LakeWriter(str(tmp_path)).write(MARCH, "event-1", COLUMNS, "at", batches(), unavailable)
    assert [path.suffix for path in inside.iterdir()] == [".tmp"]
    copy = written(tmp_path)
    assert LakeWriter(str(tmp_path)).find(MARCH, "event-1") == copy
    assert not list(inside.iterdir())


def unavailable(_: Measured) -> None:
    raise Unavailable("database", "it is gone")
