"""What other programs read below a table's folder: its columns, the values that were archived, every row once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from tests.support.archive.former_copies import move_to_former_places
from tests.support.engine.batches import batch_of
from tests.unit.lakehouse.test_copies import MARCH
from tidemill.domain.archive.slices import LakeColumn, LakeType, SliceId
from tidemill.domain.errors import Unavailable
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.uncommitted_files import PendingFile

COLUMNS = (
    LakeColumn("time", "timestamptz", LakeType.INSTANT, nullable=False),
    LakeColumn("year", "integer", LakeType.INT32, nullable=True),
    LakeColumn("month", "text", LakeType.TEXT, nullable=True),
)
"""With columns that have the names of the folders of earlier versions."""

ROW = ("2015-03-01 00:00:00", "1999", "March")
VALUES = (1999, "March")
APRIL = SliceId(MARCH.table, MARCH.end, MARCH.end.replace(month=5), 1)


def with_duckdb(pattern: str, **how: Any) -> Callable[[Path], list[tuple[Any, ...]]]:
    def read(folder: Path) -> list[tuple[Any, ...]]:
        with duckdb.connect() as session:
            rows = session.read_parquet(f"{folder}/{pattern}", **how)
            assert rows.columns == [column.name for column in COLUMNS]
            return rows.project("year, month").fetchall()

    return read


def with_pandas(folder: Path) -> list[tuple[Any, ...]]:
    rows = pd.read_parquet(folder)
    assert list(rows.columns) == [column.name for column in COLUMNS]
    return [(int(row.year), row.month) for row in rows.itertuples()]


def with_polars(folder: Path) -> list[tuple[Any, ...]]:
    rows = pl.scan_parquet(folder).collect()
    assert rows.columns == [column.name for column in COLUMNS]
    return rows.select("year", "month").rows()


def with_pyarrow(folder: Path) -> list[tuple[Any, ...]]:
    rows = ds.dataset(folder, format="parquet", partitioning="hive").to_table()
    assert rows.column_names == [column.name for column in COLUMNS]
    return [(row["year"], row["month"]) for row in rows.to_pylist()]


READERS = {
    "duckdb": with_duckdb("*.parquet"),
    "duckdb, all folders": with_duckdb("**/*.parquet"),
    "as the README shows": with_duckdb("**/*.parquet", hive_partitioning=False),
    "duckdb, hive": with_duckdb("**/*.parquet", hive_partitioning=True),
    "pandas": with_pandas,
    "polars": with_polars,
    "pyarrow, hive": with_pyarrow,
}


@pytest.fixture(params=READERS)
def read(request: pytest.FixtureRequest) -> Callable[[Path], list[tuple[Any, ...]]]:
    return READERS[request.param]


def batches(count: int = 2) -> Iterator[pa.RecordBatch]:
    return (batch_of(COLUMNS, [ROW]) for _ in range(count))


def folder_of(root: Path) -> Path:
    return root / MARCH.table


Read = Callable[[Path], list[tuple[Any, ...]]]


def test_every_reader_of_a_folder_sees_the_columns_and_values_that_were_archived(
    tmp_path: Path, read: Read
) -> None:
    writer = LakeWriter(str(tmp_path))
    for archive_slice in (MARCH, APRIL):
        writer.write(archive_slice, "event-1", COLUMNS, "time", batches())
    assert read(folder_of(tmp_path)) == [VALUES] * 4


def test_a_copy_that_is_being_written_is_seen_by_no_reader(tmp_path: Path, read: Read) -> None:
    writer = LakeWriter(str(tmp_path), file_bytes=1)
    writer.write(MARCH, "event-1", COLUMNS, "time", batches())

    def stopped(_: Any) -> None:
        unfinished = list((tmp_path / "_tidemill" / MARCH.table / "unfinished").iterdir())
        assert [path.suffix for path in unfinished] == [".tmp"]
        assert read(folder_of(tmp_path)) == [VALUES] * 2
        raise Unavailable("database", "the archiver ends here")

    with pytest.raises(Unavailable, match="ends here"):
        writer.write(APRIL, "event-2", COLUMNS, "time", batches(), stopped)


def test_what_a_killed_archiver_leaves_is_seen_by_no_reader(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LakeWriter(str(tmp_path))
    writer.write(MARCH, "event-1", COLUMNS, "time", batches())
    with monkeypatch.context() as killed:
        killed.setattr(PendingFile, "discard", lambda _: None)
        with pytest.raises(Unavailable):
            writer.write(APRIL, "event-2", COLUMNS, "time", batches(), lambda _: raise_away())
    assert read(folder_of(tmp_path)) == [VALUES] * 2
    writer.write(APRIL, "event-2", COLUMNS, "time", batches())
    assert not list((tmp_path / "_tidemill" / MARCH.table / "unfinished").iterdir())
    assert read(folder_of(tmp_path)) == [VALUES] * 4


def raise_away() -> None:
    raise Unavailable("database", "it is gone")


def test_a_tables_folder_has_visible_parquet_files_and_nothing_else(tmp_path: Path) -> None:
    """Spark, Hive, Trino and Athena leave out names that begin with `_` or `.`, and take `name=value` for a column."""
    for table in ("public.ticks", "_own.ticks", ".own.ticks", "public.a=b"):
        archive_slice = SliceId(table, MARCH.start, MARCH.end)
        LakeWriter(str(tmp_path)).write(archive_slice, "event=1", COLUMNS, "time", batches())
    tables = [path for path in tmp_path.iterdir() if path.name != "_tidemill"]
    assert len(tables) == 4
    for folder in tables:
        (file,) = folder.iterdir()
        assert file.suffix == ".parquet"
        assert not {part for part in (folder.name, file.name) if part[0] in "._" or "=" in part}


@pytest.mark.parametrize("mixed", [False, True], ids=["old", "old and new"])
def test_what_the_readme_shows_reads_lakes_of_earlier_versions_too(tmp_path: Path, mixed: bool) -> None:
    writer = LakeWriter(str(tmp_path))
    move_to_former_places(tmp_path, writer.write(MARCH, "event-1", COLUMNS, "time", batches()))
    if mixed:
        writer.write(APRIL, "event-1", COLUMNS, "time", batches())
    assert READERS["as the README shows"](folder_of(tmp_path)) == [VALUES] * (4 if mixed else 2)
