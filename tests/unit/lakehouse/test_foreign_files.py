"""Files of other writers: read where nothing changes, refused by name where something would."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.support.engine.batches import batch_of
from tidemill.domain.archive.slices import LakeColumn, LakeType
from tidemill.domain.errors import CopyError
from tidemill.lakehouse.arrow import conform
from tidemill.lakehouse.digest import Digest
from tidemill.lakehouse.reader import LakeReader
from tidemill.lakehouse.spans import Bounds

NOON = datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
US = 1_772_366_400_000_001
U = UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")


def column(kind: LakeType, name: str = "value", precision: int = 0, scale: int = 0) -> LakeColumn:
    return LakeColumn(name, str(kind), kind, nullable=True, precision=precision, scale=scale)


def conformed(array: pa.Array, wanted: LakeColumn) -> pa.Array:
    return conform(pa.record_batch([array], names=["value"]), [wanted]).column(0)


@pytest.mark.parametrize(
    ("array", "kind", "value"),
    [
        (pa.array([US * 1000, None], pa.timestamp("ns", "UTC")), LakeType.INSTANT, NOON),
        (pa.array([US, None], pa.timestamp("us")), LakeType.INSTANT, NOON),
        (pa.array([US, None], pa.timestamp("us", "Europe/Berlin")), LakeType.INSTANT, NOON),
        (
            pa.array([US // 1_000_000, None], pa.timestamp("s", "+02:00")),
            LakeType.INSTANT,
            NOON.replace(microsecond=0),
        ),
        (pa.array([US * 1000, None], pa.timestamp("ns")), LakeType.TIMESTAMP, NOON.replace(tzinfo=None)),
        (pa.array([date(2026, 3, 1), None], pa.date64()), LakeType.DATE, date(2026, 3, 1)),
        (
            pa.array([1000, None], pa.time64("ns")),
            LakeType.TIME,
            time(0, 0, 0, 1),
        ),
        (pa.array(["é", None], pa.large_string()), LakeType.TEXT, "é"),
        (pa.array(["é", None], pa.string_view()), LakeType.TEXT, "é"),
        (pa.array(["é", None]).dictionary_encode(), LakeType.TEXT, "é"),
        (pa.array(["é".encode(), None], pa.binary()), LakeType.TEXT, "é"),
        (pa.array([b"\xff", None], pa.large_binary()), LakeType.BYTES, b"\xff"),
        (pa.array([b"\xff", None], pa.binary(1)), LakeType.BYTES, b"\xff"),
        (pa.array([str(U), None]), LakeType.UUID, U),
        (pa.array([str(U).upper(), None]), LakeType.UUID, U),
        (pa.array([U.hex, None], pa.large_string()).dictionary_encode(), LakeType.UUID, U),
        (pa.array([U.bytes, None], pa.binary()), LakeType.UUID, U),
        (pa.array([7, None], pa.int8()), LakeType.INT64, 7),
        (pa.array([7, None], pa.uint64()), LakeType.INT16, 7),
        (pa.array([1.5, None], pa.float32()), LakeType.FLOAT64, 1.5),
        (pa.array([Decimal("1.5"), None], pa.decimal128(38, 10)), LakeType.DECIMAL, Decimal("1.5000")),
        (pa.array([Decimal("1.5"), None], pa.decimal256(50, 1)), LakeType.DECIMAL, Decimal("1.5000")),
        (pa.array([None, None], pa.null()), LakeType.UUID, None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_values_pass_that_stay_what_they_are(array: pa.Array, kind: LakeType, value: Any) -> None:
    wanted = column(
        kind, precision=18 if kind is LakeType.DECIMAL else 0, scale=4 if kind is LakeType.DECIMAL else 0
    )
    assert conformed(array, wanted).to_pylist() == [value, None]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([US * 1000 + 1], pa.timestamp("ns", "UTC")), LakeType.INSTANT),
        (pa.array([US], pa.int64()), LakeType.INSTANT),
        (pa.array(["2026-03-01"]), LakeType.DATE),
        (pa.array([1], pa.time64("ns")), LakeType.TIME),
        (pa.array([2**31], pa.int64()), LakeType.INT32),
        (pa.array([1], pa.int64()), LakeType.BOOLEAN),
        (pa.array([1], pa.int64()), LakeType.FLOAT64),
        (pa.array([1.0], pa.float64()), LakeType.FLOAT32),
        (pa.array([1.0], pa.float64()), LakeType.INT64),
        (pa.array([1.0], pa.float64()), LakeType.DECIMAL),
        (pa.array([Decimal("1.00001")]), LakeType.DECIMAL),
        (pa.array([Decimal(10**15)]), LakeType.DECIMAL),
        (pa.array([1]), LakeType.TEXT),
        (pa.array([b"\xff"]), LakeType.TEXT),
        (pa.array(["a"]), LakeType.BYTES),
        (pa.array(["6f9619ff"]), LakeType.UUID),
        (pa.array([b"short"]), LakeType.UUID),
        (pa.array([[1]]), LakeType.TEXT),
        (pa.array([{"a": 1}]), LakeType.TEXT),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else str(value),
)
def test_values_are_refused_that_would_change(array: pa.Array, kind: LakeType) -> None:
    wanted = column(
        kind, precision=18 if kind is LakeType.DECIMAL else 0, scale=4 if kind is LakeType.DECIMAL else 0
    )
    with pytest.raises(ValueError, match=r"column 'value' is .* without loss"):
        conformed(array, wanted)


TICKS = (column(LakeType.INSTANT, "at"), column(LakeType.TEXT, "symbol"))


def day(number: int) -> datetime:
    return datetime(2026, 3, number, tzinfo=UTC)


def bounds(first: int, last: int) -> Bounds:
    return day(first), day(last)


def ticks(*days: int) -> pa.RecordBatch:
    return batch_of(TICKS, [(f"2026-03-{each:02d} 00:00:00", f"S{each}") for each in days])


def written(path: Path, batch: pa.RecordBatch, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_batches([batch]), path, **options)


def measured(*days: int) -> Any:
    digest = Digest(TICKS, "at")
    digest.add(ticks(*days))
    return digest.measured()


def test_all_files_below_a_path_are_split_by_spans_in_one_pass(tmp_path: Path) -> None:
    written(tmp_path / "a" / "1.parquet", ticks(3, 1, 9, 2))
    written(tmp_path / "b.PARQUET", ticks(5, 4), compression="snappy", use_dictionary=False)
    for beside in ("_SUCCESS", "_temporary/x.parquet", ".hidden.parquet", "notes.txt"):
        (tmp_path / beside).parent.mkdir(exist_ok=True)
        (tmp_path / beside).write_bytes(b"no rows")
    spans = [bounds(4, 7), bounds(1, 3), bounds(7, 8), bounds(3, 4)]
    split = LakeReader([str(tmp_path)]).split_by_bounds(str(tmp_path), TICKS, "at", spans)
    assert split.measured == (measured(4, 5), measured(1, 2), measured(), measured(3))
    assert split.outside == 1


def test_one_file_may_be_named_itself(tmp_path: Path) -> None:
    written(tmp_path / "rows", ticks(1, 2))
    split = LakeReader([str(tmp_path)]).split_by_bounds(str(tmp_path / "rows"), TICKS, "at", [bounds(1, 3)])
    assert (split.measured, split.outside) == ((measured(1, 2),), 0)


def test_the_bounds_of_one_slice_leave_out_other_rows(tmp_path: Path) -> None:
    written(tmp_path / "rows.parquet", ticks(1, 2, 3))
    found = LakeReader([str(tmp_path)]).read_back([str(tmp_path / "rows.parquet")], TICKS, "at", bounds(2, 3))
    assert found == measured(2)


def test_names_count_and_neither_order_nor_more_columns_do(tmp_path: Path) -> None:
    batch = ticks(1, 2)
    more = pa.record_batch(
        [pa.array([1, 2]), batch.column(1), batch.column(0)], names=["year", "symbol", "at"]
    )
    written(tmp_path / "rows.parquet", more)
    assert LakeReader([str(tmp_path)]).read_back([str(tmp_path / "rows.parquet")], TICKS, "at") == measured(
        1, 2
    )


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (ticks(1).select([0]), "no column named 'symbol'"),
        (ticks(1).rename_columns(["at", "Symbol"]), "no column named 'symbol'"),
        (
            pa.record_batch([ticks(1).column(0), pa.array([1])], names=["at", "symbol"]),
            "column 'symbol' is int64",
        ),
        (
            pa.record_batch([pa.array(["x"]), pa.array(["x"])], names=["at", "symbol"]),
            "column 'at' is string",
        ),
    ],
)
def test_columns_that_do_not_fit_are_named(tmp_path: Path, batch: pa.RecordBatch, said: str) -> None:
    written(tmp_path / "rows.parquet", batch)
    with pytest.raises(CopyError, match=said):
        LakeReader([str(tmp_path)]).split_by_bounds(str(tmp_path), TICKS, "at", [bounds(1, 2)])


def test_spans_that_overlap_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="overlap"):
        LakeReader([str(tmp_path)]).split_by_bounds(str(tmp_path), TICKS, "at", [bounds(1, 3), bounds(2, 4)])


def test_a_path_without_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "_metadata").touch()
    with pytest.raises(CopyError, match="no Parquet file"):
        LakeReader([str(tmp_path)]).split_by_bounds(str(tmp_path), TICKS, "at", [bounds(1, 2)])


@pytest.mark.parametrize("kind", [LakeType.DATE, LakeType.TIMESTAMP])
def test_times_without_zone_are_in_utc(tmp_path: Path, kind: LakeType) -> None:
    columns = (column(kind, "at"),)
    at = pa.array([day(1), day(2), None], pa.timestamp("us", "UTC"))
    plain = pc.cast(at.cast(pa.timestamp("us")), pa.date32() if kind is LakeType.DATE else pa.timestamp("us"))
    written(tmp_path / "rows.parquet", pa.record_batch([plain], names=["at"]))
    split = LakeReader([str(tmp_path)]).split_by_bounds(str(tmp_path), columns, "at", [bounds(2, 3)])
    assert [(each.row_count, each.min_time, each.max_time) for each in split.measured] == [
        (1, day(2), day(2))
    ]
    assert split.outside == 2
