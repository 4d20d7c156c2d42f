"""What every `Lake` of the archiver promises: the fake, Parquet files in folders, Iceberg tables."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, get_args

import duckdb
import pyarrow as pa
import pytest

from tests.architecture import tree
from tests.fakes.archiver import MemoryLake, Row, Rows
from tests.support.archive.archival import DAY, START, TABLE
from tests.support.servers.databases import execute
from tidemill.archiver.ports import Lake
from tidemill.domain.archive.slices import LakeColumn, LakeType, Measured, SliceId
from tidemill.domain.errors import CopyStands
from tidemill.lakehouse.iceberg import IcebergLake, open_catalog
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.settings import LakeSettings

FORMATS: dict[str, type[Lake]] = {"parquet": LakeWriter, "iceberg": IcebergLake}
COLUMNS = (
    LakeColumn("time", "timestamp with time zone", LakeType.INSTANT, nullable=False),
    LakeColumn("value", "bigint", LakeType.INT64, nullable=True),
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = SliceId(TABLE, START, START + DAY)
SECOND = SliceId(TABLE, START + DAY, START + 2 * DAY)
LATE = SliceId(TABLE, START, START + DAY, generation=2)


class World(Protocol):
    """A lake, what it takes, and what its readers see."""

    @property
    def lake(self) -> Lake: ...
    def batch(self, rows: Sequence[Row]) -> Any: ...
    def seen(self) -> list[Row]: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.lake = MemoryLake()

    def batch(self, rows: Sequence[Row]) -> Rows:
        return Rows(tuple(rows))

    def seen(self) -> list[Row]:
        return sorted(self.lake.rows(TABLE))


def arrow_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    times, values = [row[0] for row in rows], [row[1] for row in rows]
    instants = pa.array(times, pa.timestamp("us", "UTC"))
    return pa.RecordBatch.from_arrays([instants, pa.array(values, pa.int64())], ["time", "value"])


class ParquetWorld:
    """Read by DuckDB, which knows nothing of us."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lake: Lake = LakeWriter(str(root))

    def batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        return arrow_batch(rows)

    def seen(self) -> list[Row]:
        if not list(self.root.rglob("*.parquet")):
            return []
        with duckdb.connect() as session:
            query = f"select epoch_us(time), value from '{self.root}/{TABLE}/**/*.parquet'"
            found = session.execute(query).fetchall()
        return sorted((EPOCH + timedelta(microseconds=micros), value) for micros, value in found)


class IcebergWorld:
    """Read by a scan of the table."""

    def __init__(self, root: Path, database: str) -> None:
        execute(database, "create schema lake")
        self.catalog = open_catalog(database, str(root), schema="lake")
        self.lake: Lake = IcebergLake(self.catalog, str(root))

    def batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        return arrow_batch(rows)

    def seen(self) -> list[Row]:
        identifier = tuple(TABLE.split("."))
        if not self.catalog.table_exists(identifier):
            return []
        rows = self.catalog.load_table(identifier).scan().to_arrow().to_pylist()
        return sorted((row["time"], row["value"]) for row in rows)


@pytest.fixture(params=["memory", "parquet", "iceberg"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
    elif request.param == "parquet":
        yield ParquetWorld(tmp_path)
    else:
        new_database: Callable[[], AbstractContextManager[str]] = request.getfixturevalue("new_database")
        with new_database() as url:
            world = IcebergWorld(tmp_path, url)
            yield world
            world.catalog.close()


def lakes() -> set[str]:
    """The classes of the lake that have what the port asks for."""
    folder = Path("src/tidemill/lakehouse")
    port = {name for name in vars(Lake) if not name.startswith("_")}
    return {
        node.name
        for path in tree.python_files("src")
        if path.is_relative_to(folder)
        for node in ast.walk(tree.syntax(path))
        if isinstance(node, ast.ClassDef)
        if port <= {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    }


def test_every_format_there_is_is_tried() -> None:
    assert lakes() == {each.__name__ for each in FORMATS.values()}
    assert set(get_args(LakeSettings.model_fields["format"].annotation)) == FORMATS.keys()


def rows_of(slice_: SliceId, *values: int) -> list[Row]:
    return [(slice_.start + timedelta(minutes=number), value) for number, value in enumerate(values)]


def written(world: World, slice_: SliceId, event_id: str, *values: int) -> Any:
    rows = rows_of(slice_, *values)
    batches = [world.batch(rows[:1]), world.batch(rows[1:])] if rows else []
    return world.lake.write(slice_, event_id, COLUMNS, "time", batches)


def published(world: World, event_id: str, copies: dict[SliceId, Any], *superseded: str) -> Any:
    return world.lake.publish(TABLE, event_id, copies, superseded)


def test_a_copy_is_measured_found_and_seen(world: World) -> None:
    assert world.lake.find(FIRST, "one") is None
    copy = written(world, FIRST, "one", 1, 2, 3)
    assert copy.columns == COLUMNS
    assert copy.measured.row_count == sum(file.row_count for file in copy.files) == 3
    assert (copy.measured.min_time, copy.measured.max_time) == (START, START + timedelta(minutes=2))
    found = world.lake.find(FIRST, "one")
    assert found is not None
    assert (found.measured, found.files) == (copy.measured, copy.files)
    place = published(world, "one", {FIRST: found})
    assert TABLE in place.path
    assert world.seen() == rows_of(FIRST, 1, 2, 3)


def test_measurements_tell_what_the_rows_are_in_any_order(world: World) -> None:
    one, two = rows_of(FIRST, 1, 2)
    forth = world.lake.write(FIRST, "one", COLUMNS, "time", [world.batch([one, two])])
    back = world.lake.write(FIRST, "two", COLUMNS, "time", [world.batch([two]), world.batch([one])])
    other = world.lake.write(FIRST, "three", COLUMNS, "time", [world.batch([one, one])])
    assert forth.measured == back.measured
    assert forth.measured.digest != other.measured.digest


def test_copies_are_told_apart_by_slice_and_by_event(world: World) -> None:
    for slice_, event_id in ((FIRST, "one"), (SECOND, "one"), (LATE, "one"), (FIRST, "two")):
        written(world, slice_, event_id, 1)
    copies = {slice_: world.lake.find(slice_, "one") for slice_ in (FIRST, SECOND, LATE)}
    published(world, "one", copies)
    assert world.lake.find(SECOND, "two") is None
    assert len({file.path for copy in copies.values() if copy for file in copy.files}) == 3


def test_no_rows_make_a_copy_without_files(world: World) -> None:
    copy = written(world, FIRST, "one")
    assert (copy.measured.row_count, copy.measured.min_time, copy.files) == (0, None, ())
    assert world.lake.find(FIRST, "one") is not None
    published(world, "one", {FIRST: copy})
    published(world, "one", {FIRST: copy})
    assert world.seen() == []


def test_writing_again_leaves_the_copy_that_is_there(world: World) -> None:
    first = written(world, FIRST, "one", 1, 2, 3)
    again = written(world, FIRST, "one", 1, 2, 3)
    assert (again.measured, again.files) == (first.measured, first.files)
    with pytest.raises(CopyStands, match="another copy"):
        written(world, FIRST, "one", 4)
    with pytest.raises(CopyStands, match="another copy"):
        written(world, FIRST, "one")
    found = world.lake.find(FIRST, "one")
    assert found is not None
    assert (found.measured, found.files) == (first.measured, first.files)
    published(world, "one", {FIRST: found})
    assert world.seen() == rows_of(FIRST, 1, 2, 3)


@pytest.mark.parametrize("before", [(), (7, 8)], ids=["over nothing", "over a copy"])
def test_what_is_not_what_was_demanded_is_nowhere(world: World, before: tuple[int, ...]) -> None:
    there = written(world, FIRST, "one", *before) if before else None
    if there is not None:
        published(world, "one", {FIRST: there})
    asked = []

    def demand(measured: Measured) -> None:
        asked.append(measured.row_count)
        raise InterruptedError("not these")

    with pytest.raises(Exception, match="not these"):
        world.lake.write(
            FIRST, "one" if before == () else "two", COLUMNS, "time", [world.batch(rows_of(FIRST, 1))], demand
        )
    assert asked == [1]
    assert world.lake.find(FIRST, "two") is None
    assert (world.lake.find(FIRST, "one") is None) == (there is None)
    assert world.seen() == rows_of(FIRST, *before)


def test_what_raises_on_the_way_leaves_no_copy(world: World) -> None:
    def breaking() -> Iterator[Any]:
        yield world.batch(rows_of(FIRST, 1))
        raise InterruptedError("the reader's")

    with pytest.raises(Exception, match="the reader's"):
        world.lake.write(FIRST, "one", COLUMNS, "time", breaking())
    assert world.lake.find(FIRST, "one") is None
    assert world.seen() == []


def test_rows_of_other_columns_are_refused(world: World) -> None:
    more = (*COLUMNS, LakeColumn("more", "text", LakeType.TEXT, nullable=True))
    with pytest.raises(ValueError, match="column"):
        world.lake.write(FIRST, "one", more, "time", [world.batch(rows_of(FIRST, 1))])
    assert world.lake.find(FIRST, "one") is None


def test_publishing_again_changes_nothing(world: World) -> None:
    copy = written(world, FIRST, "one", 1, 2)
    place = published(world, "one", {FIRST: copy})
    assert published(world, "one", {FIRST: copy}) == place
    assert world.seen() == rows_of(FIRST, 1, 2)


def test_the_rest_of_an_event_is_added_to_what_it_brought(world: World) -> None:
    first = written(world, FIRST, "one", 1)
    published(world, "one", {FIRST: first})
    second = written(world, SECOND, "one", 2)
    published(world, "one", {SECOND: second})
    published(world, "one", {FIRST: first, SECOND: second})
    assert world.seen() == [*rows_of(FIRST, 1), *rows_of(SECOND, 2)]


def test_a_superseded_copy_of_the_same_slice_is_seen_no_more_and_no_other_is_touched(world: World) -> None:
    published(
        world,
        "old",
        {FIRST: written(world, FIRST, "old", 1), SECOND: written(world, SECOND, "old", 2)},
    )
    published(world, "other", {LATE: written(world, LATE, "other", 3)})
    newer = written(world, FIRST, "new", 4, 5)
    for _ in range(2):
        published(world, "new", {FIRST: newer}, "old", "new", "never-heard-of")
        assert world.seen() == sorted([*rows_of(FIRST, 4, 5), *rows_of(SECOND, 2), *rows_of(LATE, 3)])


def test_times_before_1970_and_far_ahead_have_their_place(world: World) -> None:
    for start in (
        datetime(1, 1, 1, tzinfo=START.tzinfo),
        datetime(1969, 12, 31, 23, 59, 59, 1, START.tzinfo),
    ):
        slice_ = SliceId(TABLE, start, start + DAY)
        copy = written(world, slice_, "one", 1)
        published(world, "one", {slice_: copy})
        assert world.lake.find(slice_, "one") is not None
    assert len(world.seen()) == 2
