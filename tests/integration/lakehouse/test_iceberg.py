"""Commits to Iceberg whose answer is lost, refused or repeated: one copy, and nothing in use is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

from tests.support.archive.archival import DAY, START, TABLE
from tests.support.servers.databases import execute
from tidemill.domain.archive.slices import LakeColumn, LakeType, SliceId
from tidemill.domain.errors import CopyStands, Unavailable, UsageError
from tidemill.lakehouse import iceberg
from tidemill.lakehouse.iceberg import COMMITTED, IcebergLake, committed, name_of, open_catalog, unregistered

COLUMNS = (
    LakeColumn("time", "timestamp with time zone", LakeType.INSTANT, nullable=False),
    LakeColumn("value", "smallint", LakeType.INT16, nullable=True),
)
MORE = (*COLUMNS, LakeColumn("note", "text", LakeType.TEXT, nullable=True))
DAY_ONE, DAY_TWO = (SliceId(TABLE, START + number * DAY, START + (number + 1) * DAY) for number in range(2))
NAME = ("public", "readings")


@pytest.fixture
def catalog(database: str, tmp_path: Path) -> Iterator[Catalog]:
    execute(database, "create schema lake")
    opened = open_catalog(database, str(tmp_path), schema="lake")
    yield opened
    opened.close()


@pytest.fixture
def lake(catalog: Catalog, tmp_path: Path) -> IcebergLake:
    return IcebergLake(catalog, str(tmp_path))


def written(
    lake: IcebergLake, slice_: SliceId, event_id: str, columns: tuple[LakeColumn, ...] = COLUMNS
) -> Any:
    times = pa.array([slice_.start, slice_.start + timedelta(hours=1)], pa.timestamp("us", "UTC"))
    arrays = [times, pa.array([1, 2], pa.int16()), pa.array(["a", None], pa.string())]
    names = [column.name for column in columns]
    batch = pa.RecordBatch.from_arrays(arrays[: len(names)], names)
    return lake.write(slice_, event_id, columns, "time", [batch])


def manifest_of(copy: Any) -> Path:
    """The copy's manifest, beside the tables: `<root>/_tidemill/<table>/<stem>.manifest.json`."""
    rows = Path(copy.files[0].path)
    stem = rows.name.replace("-0.parquet", ".manifest.json")
    return rows.parents[2] / "_tidemill" / rows.parents[1].name / stem


def rows(catalog: Catalog) -> int:
    return int(catalog.load_table(NAME).scan().to_arrow().num_rows)


def interfere(
    monkeypatch: pytest.MonkeyPatch, catalog: Catalog, fault: Exception, *, commit: bool, times: int
) -> None:
    """Make commits fail `times` times, after they were done or instead."""
    whole, left = catalog.commit_table, [times]

    def commit_table(*arguments: Any, **options: Any) -> Any:
        if left[0] <= 0:
            return whole(*arguments, **options)
        left[0] -= 1
        if commit:
            whole(*arguments, **options)
        raise fault

    monkeypatch.setattr(catalog, "commit_table", commit_table)


@pytest.mark.parametrize("commit", [True, False])
def test_an_unknown_result_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, catalog: Catalog, lake: IcebergLake, commit: bool
) -> None:
    copy = written(lake, DAY_ONE, "one")
    interfere(monkeypatch, catalog, CommitStateUnknownException("lost"), commit=commit, times=1)
    place = lake.publish(TABLE, "one", {DAY_ONE: copy}, ())
    assert rows(catalog) == 2
    assert len(catalog.load_table(NAME).snapshots()) == 1
    assert place.snapshot_id == catalog.load_table(NAME).snapshots()[0].snapshot_id


def test_who_was_not_first_tries_again(
    monkeypatch: pytest.MonkeyPatch, catalog: Catalog, lake: IcebergLake
) -> None:
    copy = written(lake, DAY_ONE, "one")
    interfere(monkeypatch, catalog, CommitFailedException("another was first"), commit=False, times=3)
    lake.publish(TABLE, "one", {DAY_ONE: copy}, ())
    assert rows(catalog) == 2


def test_what_stays_unknown_is_said_and_nothing_is_deleted(
    monkeypatch: pytest.MonkeyPatch, catalog: Catalog, lake: IcebergLake
) -> None:
    copy = written(lake, DAY_ONE, "one")
    with monkeypatch.context() as patched:
        interfere(patched, catalog, CommitStateUnknownException("lost"), commit=False, times=100)
        with pytest.raises(Unavailable, match="the next try checks first"):
            lake.publish(TABLE, "one", {DAY_ONE: copy}, ())
    assert all(Path(file.path).exists() for file in copy.files)
    found = lake.find(DAY_ONE, "one")
    assert found is not None
    lake.publish(TABLE, "one", {DAY_ONE: found}, ())
    assert rows(catalog) == 2


def test_a_commit_is_known_when_its_snapshot_is_gone(catalog: Catalog, lake: IcebergLake) -> None:
    first = written(lake, DAY_ONE, "one")
    lake.publish(TABLE, "one", {DAY_ONE: first}, ())
    lake.publish(TABLE, "two", {DAY_TWO: written(lake, DAY_TWO, "two")}, ())
    table = catalog.load_table(NAME)
    table.maintenance.expire_snapshots().by_id(table.snapshots()[0].snapshot_id).commit()
    lake.publish(TABLE, "one", {DAY_ONE: first}, ())
    assert rows(catalog) == 4
    assert len(catalog.load_table(NAME).snapshots()) == 1


# --- what is known of old events ------------------------------------------------------------------------------------


def days(count: int) -> list[SliceId]:
    return [SliceId(TABLE, START + number * DAY, START + (number + 1) * DAY) for number in range(count)]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch, lake: IcebergLake) -> IcebergLake:
    """Five days, each with an event, of which the table remembers two."""
    monkeypatch.setattr(iceberg, "KEPT", 2)
    for number, day in enumerate(days(5)):
        lake.publish(TABLE, f"event-{number}", {day: written(lake, day, f"event-{number}")}, ())
    return lake


def told(catalog: Catalog) -> set[str]:
    properties = catalog.load_table(NAME).properties
    return {name.removeprefix(COMMITTED) for name in properties if name.startswith(COMMITTED)}


def test_events_of_old_ranges_leave_the_properties(catalog: Catalog, brief: IcebergLake) -> None:
    assert told(catalog) == {"event-2", "event-3", "event-4"}, "two, and the one that came last"


def test_an_event_without_its_property_is_known_by_its_files(catalog: Catalog, brief: IcebergLake) -> None:
    first = days(1)[0]
    table = catalog.load_table(NAME)
    assert committed(table, "event-0") == {name_of(first)}
    assert committed(table, "0") == committed(table, "event-9") == frozenset()
    found = brief.find(first, "event-0")
    assert found is not None
    place = brief.publish(TABLE, "event-0", {first: found}, ())
    assert (rows(catalog), place.snapshot_id) == (10, table.metadata.current_snapshot_id), "nothing was done"
    Path(found.files[0].path).write_bytes(b"damaged")
    with pytest.raises(CopyStands):
        written(brief, first, "event-0")


def test_what_the_files_do_not_say_stays_in_the_properties(catalog: Catalog, brief: IcebergLake) -> None:
    """A copy that was replaced, and one without rows: their events, read again, must change nothing."""
    last = days(7)[5:]
    empty = brief.write(last[0], "empty", COLUMNS, "time", [])
    brief.publish(TABLE, "empty", {last[0]: empty}, ())
    old = brief.find(days(5)[4], "event-4")
    assert old is not None
    again = written(brief, days(5)[4], "again")
    brief.publish(TABLE, "again", {days(5)[4]: again}, ("event-4",))
    for number, day in enumerate(days(12)[7:]):
        brief.publish(TABLE, f"later-{number}", {day: written(brief, day, f"later-{number}")}, ())
    assert told(catalog) == {"event-4", "empty", "later-2", "later-3", "later-4"}
    before = rows(catalog)
    brief.publish(TABLE, "event-4", {days(5)[4]: old}, ())
    assert rows(catalog) == before


def test_an_old_event_is_remembered_again_when_its_copy_is_replaced(
    catalog: Catalog, brief: IcebergLake
) -> None:
    first = days(1)[0]
    old = brief.find(first, "event-0")
    assert old is not None
    brief.publish(TABLE, "again", {first: written(brief, first, "again")}, ("event-0", "never"))
    assert {"event-0", "again"} <= told(catalog)
    assert "never" not in told(catalog)
    brief.publish(TABLE, "event-0", {first: old}, ())
    assert rows(catalog) == 10


def test_files_that_the_table_refers_to_are_not_touched(catalog: Catalog, lake: IcebergLake) -> None:
    copy = written(lake, DAY_ONE, "one")
    lake.publish(TABLE, "one", {DAY_ONE: copy}, ())
    manifest_of(copy).unlink()
    with pytest.raises(CopyStands, match="it was committed"):
        written(lake, DAY_ONE, "one")
    assert rows(catalog) == 2


def test_rows_are_in_a_folder_of_their_own_beside_the_metadata(lake: IcebergLake, tmp_path: Path) -> None:
    for day, event_id in ((DAY_ONE, "one"), (DAY_TWO, "two")):
        lake.publish(TABLE, event_id, {day: written(lake, day, event_id)}, ())
    table = tmp_path / TABLE
    assert {path.name for path in table.iterdir()} == {"data", "metadata"}
    assert {path.suffix for path in (table / "data").iterdir()} == {".parquet"}
    assert pd.read_parquet(table / "data").shape == (4, 2)
    assert pl.scan_parquet(table / "data").collect().shape == (4, 2)


def test_files_that_no_commit_brought_are_unregistered(catalog: Catalog, lake: IcebergLake) -> None:
    manifest = written(lake, DAY_ONE, "e1")
    paths = [file.path for file in manifest.files]
    assert unregistered(catalog, TABLE, paths) == paths, "there is not even a table"
    lake.publish(TABLE, "e1", {DAY_ONE: manifest}, ())
    assert unregistered(catalog, TABLE, paths) == []
    loose = [file.path for file in written(lake, DAY_TWO, "e2").files]
    assert unregistered(catalog, TABLE, [*paths, *loose]) == loose
    again = written(lake, DAY_ONE, "e3")
    lake.publish(TABLE, "e3", {DAY_ONE: again}, ("e1",))
    assert unregistered(catalog, TABLE, paths) == paths, "superseded"


def test_a_table_grows_with_its_hypertable(catalog: Catalog, lake: IcebergLake) -> None:
    lake.publish(TABLE, "one", {DAY_ONE: written(lake, DAY_ONE, "one")}, ())
    lake.publish(TABLE, "two", {DAY_TWO: written(lake, DAY_TWO, "two", MORE)}, ())
    table = catalog.load_table(NAME).scan().to_arrow().sort_by("time")
    assert table["note"].to_pylist() == [None, None, "a", None]


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TIDEMILL_LAKE_CATALOG_URL"):
        open_catalog("mysql://somewhere", str(tmp_path), schema="lake")
    with pytest.raises(Unavailable):
        open_catalog("postgresql://nobody@127.0.0.1:1/nowhere", str(tmp_path), schema="lake")
