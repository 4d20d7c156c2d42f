"""Copies on a folder and on an object store: written once, found again, never half seen."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.engine.batches import batch_of
from tests.support.waiting import HANGING_S
from tidemill.domain.archive.slices import LakeColumn, LakeType, Measured, SliceId
from tidemill.domain.errors import CopyError, CopyStands, Unavailable
from tidemill.lakehouse.arrow import schema_of
from tidemill.lakehouse.layout import Names, from_json, table_folder
from tidemill.lakehouse.locations import LakeLocation
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader
from tidemill.lakehouse.uncommitted_files import alone

COLUMNS = (
    LakeColumn("at", "timestamptz", LakeType.INSTANT, nullable=False),
    LakeColumn("symbol", "text", LakeType.TEXT, nullable=True),
    LakeColumn("price", "numeric(18,4)", LakeType.DECIMAL, nullable=True, precision=18, scale=4),
)
MARCH = SliceId("public.ticks", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
STEM = "public.ticks/20260301T000000Z-g1-event-1"
MANIFEST = f"_tidemill/{STEM}.manifest.json"


def batches(count: int = 3, rows: int = 100) -> Iterator[pa.RecordBatch]:
    for number in range(count):
        yield batch_of(
            COLUMNS,
            [
                (f"2026-03-{number + 1:02d} 00:00:{row % 60:02d}", f"S{row}", f"{row}.5")
                for row in range(rows)
            ],
        )


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path)
        return
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").rm("/", recursive=True)


def listed(root: str) -> list[str]:
    place = LakeLocation.of_root(root)
    return [file.path.removeprefix(place.path + "/") for file in place.files()]


def test_a_copy_is_files_and_a_manifest_under_names_that_follow_from_slice_and_event(root: str) -> None:
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    assert listed(root) == [MANIFEST, f"{STEM}-0.parquet"]
    assert (made.measured.row_count, sum(file.row_count for file in made.files)) == (300, 300)
    assert LakeWriter(root).find(MARCH, "event-1") == made
    assert LakeWriter(root).find(MARCH, "event-2") is None
    reader = LakeReader([root])
    assert reader.read_back([file.path for file in made.files], COLUMNS, "at") == made.measured
    assert list(reader.manifests(root, "public.ticks")) == [made]
    assert [reader.damaged(file) for file in made.files] == [None]


def test_a_second_try_replaces_what_the_first_left_in_part_and_leaves_nothing_over(root: str) -> None:
    LakeWriter(root, file_bytes=1).write(MARCH, "event-1", COLUMNS, "at", large())
    manifest = LakeLocation.of_root(root).below(MANIFEST)
    manifest.storage.rm_file(manifest.path)
    assert len(listed(root)) > 1
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    assert listed(root) == [MANIFEST, f"{STEM}-0.parquet"]
    assert LakeWriter(root).find(MARCH, "event-1") == made


def contents(root: str) -> dict[str, bytes]:
    place = LakeLocation.of_root(root)
    return {name: place.storage.cat_file(place.below(name).path) for name in listed(root)}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "a file is missing"])
def test_a_copy_of_other_rows_is_never_replaced(root: str, whole: bool) -> None:
    LakeWriter(root, file_bytes=1).write(MARCH, "event-1", COLUMNS, "at", large())
    if not whole:
        missing = LakeLocation.of_root(root).below(f"{STEM}-1.parquet")
        missing.storage.rm_file(missing.path)
    before = contents(root)
    with pytest.raises(CopyStands, match=r"another copy of public\.ticks .* It was not changed") as refused:
        LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    assert refused.value.path == LakeLocation.of_root(root).below(MANIFEST).url
    assert contents(root) == before


def test_a_complete_copy_of_the_same_rows_stays_and_is_returned(root: str) -> None:
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    before = contents(root)
    late = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", reversed(list(batches())))
    assert late == made
    assert contents(root) == before


@pytest.mark.parametrize("before", [True, False], ids=["over a copy", "over nothing"])
def test_what_is_not_what_was_demanded_is_never_put_in_place(root: str, before: bool) -> None:
    if before:
        LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    there, seen = contents(root), []

    def demand(measured: Measured) -> None:
        seen.append((measured.row_count, [name for name in listed(root) if not name.endswith(".tmp")]))
        raise InterruptedError("other rows")

    with pytest.raises(Exception, match="other rows"):
        LakeWriter(root, file_bytes=1).write(MARCH, "event-1", COLUMNS, "at", large(), demand)
    assert seen == [(4_000_000, list(there))]
    assert contents(root) == there


def test_whoever_puts_a_copy_in_place_waits_for_another_process(tmp_path: Path) -> None:
    names = Names.of(LakeLocation.of_root(str(tmp_path)), MARCH, "event-1")
    with ThreadPoolExecutor(1) as pool:
        with alone(names.records):
            work = pool.submit(LakeWriter(str(tmp_path)).write, MARCH, "event-1", COLUMNS, "at", batches())
            wait([work], timeout=0.5)
            assert not work.done()
            assert not [name for name in listed(str(tmp_path)) if not name.endswith(".tmp")]
        assert work.result(timeout=HANGING_S).measured.row_count == 300


def large() -> Iterator[pa.RecordBatch]:
    """Two batches that are a row group each."""
    rows = 2_000_000
    for day in (1, 2):
        at = pa.array([1_772_323_200_000_000 + day * 86_400_000_000] * rows, pa.int64())
        symbol = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int8()), pa.array(["S"]))
        yield pa.record_batch(
            [at.view(pa.timestamp("us", "UTC")), symbol, pa.nulls(rows, pa.decimal128(18, 4))],
            names=["at", "symbol", "price"],
        )


def test_files_end_when_they_are_large_enough(root: str) -> None:
    made = LakeWriter(root, file_bytes=1).write(MARCH, "event-1", COLUMNS, "at", large())
    assert [file.row_count for file in made.files] == [2_000_000, 2_000_000]
    files = [file.path for file in made.files]
    assert LakeReader([root]).read_back(files, COLUMNS, "at") == made.measured


@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_breaks_off_leaves_an_earlier_copy_as_it_was(root: str, before: int) -> None:
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())

    def breaking() -> Iterator[pa.RecordBatch]:
        yield from batches(before)
        raise Unavailable("database", "it went away")

    with pytest.raises(Unavailable, match="went away"):
        LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", breaking())
    with pytest.raises(ValueError, match="no column named 'price'"):
        LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", (each.select([0, 1]) for each in batches()))
    assert listed(root) == [MANIFEST, f"{STEM}-0.parquet"]
    assert LakeWriter(root).find(MARCH, "event-1") == made
    assert [LakeReader([root]).damaged(file) for file in made.files] == [None]


def test_a_slice_without_rows_has_a_manifest_and_no_file(root: str) -> None:
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", iter(()))
    assert listed(root) == [MANIFEST]
    assert (made.files, made.measured.row_count) == ((), 0)
    assert LakeWriter(root).find(MARCH, "event-1") == made


def test_a_copy_without_all_of_its_files_is_none(root: str) -> None:
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    place = LakeLocation.of_root(root).below(f"{STEM}-0.parquet")
    place.storage.rm_file(place.path)
    assert LakeWriter(root).find(MARCH, "event-1") is None
    assert "no such file" in (LakeReader([root]).damaged(made.files[0]) or "")


def test_a_copy_whose_manifest_cannot_be_read_is_made_again(root: str) -> None:
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    place = LakeLocation.of_root(root).below(MANIFEST)
    place.storage.pipe_file(place.path, b"{")
    assert LakeWriter(root).find(MARCH, "event-1") is None
    assert LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches()) == made


def test_duckdb_reads_a_copy_and_knows_nothing_of_us(tmp_path: Path) -> None:
    columns = tuple(
        LakeColumn(f"a {kind}", str(kind), kind, nullable=True, precision=digits, scale=digits // 2)
        for kind in LakeType
        for digits in [20 if kind is LakeType.DECIMAL else 0]
    )
    rows = pa.RecordBatch.from_arrays(
        [pa.nulls(3, field.type) for field in schema_of(columns)], schema=schema_of(columns)
    )
    at = pa.array([1_772_323_200_000_000] * 3, pa.int64()).view(pa.timestamp("us", "UTC"))
    rows = rows.set_column(len(columns) - 1, schema_of(columns)[-1], at)
    LakeWriter(str(tmp_path)).write(MARCH, "event-1", columns, columns[-1].name, [rows])
    with duckdb.connect() as outsider:
        found = outsider.sql(
            f"select * from read_parquet('{tmp_path}/**/*.parquet', hive_partitioning = true)"
        )
        assert dict(zip(found.columns, map(str, found.types), strict=True)) == {
            "a boolean": "BOOLEAN",
            "a int16": "SMALLINT",
            "a int32": "INTEGER",
            "a int64": "BIGINT",
            "a float32": "FLOAT",
            "a float64": "DOUBLE",
            "a decimal": "DECIMAL(20,10)",
            "a text": "VARCHAR",
            "a bytes": "BLOB",
            "a uuid": "UUID",
            "a date": "DATE",
            "a time": "TIME",
            "a timestamp": "TIMESTAMP",
            "a instant": "TIMESTAMP WITH TIME ZONE",
        }
        counted = found.aggregate('count(*), epoch_us(max("a instant"))').fetchall()
        assert counted == [(3, 1_772_323_200_000_000)]


def test_a_copy_is_removed_whole_and_no_other_with_it(root: str) -> None:
    writer = LakeWriter(root)
    late = SliceId(MARCH.table, MARCH.start, MARCH.end, 2)
    others = [
        writer.write(*which, COLUMNS, "at", batches()) for which in ((late, "event-1"), (MARCH, "event-10"))
    ]
    writer.write(MARCH, "event-1", COLUMNS, "at", batches())
    assert writer.remove(MARCH, "event-1") == 2
    assert writer.remove(MARCH, "event-1") == 0
    assert [writer.find(other.slice, other.event_id) for other in others] == others


def test_to_publish_removes_what_is_superseded_of_these_slices_only(root: str) -> None:
    writer = LakeWriter(root)
    april = SliceId(MARCH.table, MARCH.end, datetime(2026, 5, 1, tzinfo=UTC))
    for which in (MARCH, april):
        writer.write(which, "event-0", COLUMNS, "at", batches())
    made = writer.write(MARCH, "event-1", COLUMNS, "at", batches())
    place = writer.publish(MARCH.table, "event-1", {MARCH: made}, ["event-0"])
    assert place.format == "parquet"
    assert place.path.endswith(table_folder(MARCH.table))
    assert writer.find(MARCH, "event-0") is None
    assert writer.find(april, "event-0") is not None


def test_pages_carry_checksums_and_encodings_that_fit_their_type(tmp_path: Path) -> None:
    made = LakeWriter(str(tmp_path)).write(MARCH, "event-1", COLUMNS, "at", batches(1, 5000))
    group = pq.ParquetFile(made.files[0].path).metadata.row_group(0)
    encodings = [set(group.column(index).encodings) for index in range(3)]
    assert "DELTA_BINARY_PACKED" in encodings[0] & encodings[2]
    assert "RLE_DICTIONARY" in encodings[1]
    assert {group.column(index).compression for index in range(3)} == {"ZSTD"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_a_page_is_an_error(tmp_path: Path, share: float) -> None:
    made = LakeWriter(str(tmp_path)).write(MARCH, "event-1", COLUMNS, "at", batches(1, 5000))
    path = Path(made.files[0].path)
    content = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    content[column.data_page_offset + int(column.total_compressed_size * share * 0.5) + 40] ^= 1
    path.write_bytes(content)
    reader = LakeReader([str(tmp_path)])
    with pytest.raises(CopyError):
        reader.read_back([str(path)], COLUMNS, "at")
    assert "sha256" in (reader.damaged(made.files[0]) or "")


@pytest.mark.parametrize("kept", [0, 4, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_an_error(root: str, kept: float) -> None:
    made = LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches(1, 5000))
    place = LakeLocation.of_root(root).below(f"{STEM}-0.parquet")
    whole = place.storage.cat_file(place.path)
    place.storage.pipe_file(place.path, whole[: int(len(whole) * kept) if kept < 1 else int(kept)])
    reader = LakeReader([root])
    with pytest.raises(CopyError):
        reader.read_back([made.files[0].path], COLUMNS, "at")
    assert "bytes, not" in (reader.damaged(made.files[0]) or "")


def test_a_file_that_is_not_there_is_an_error(root: str) -> None:
    LakeWriter(root).write(MARCH, "event-1", COLUMNS, "at", batches())
    missing = LakeLocation.of_root(root).below("nothing.parquet").url
    with pytest.raises(CopyError, match="no such file"):
        LakeReader([root]).read_back([missing], COLUMNS, "at")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 3}',
        b'{"version": 2}',
        b'{"version": 2, "folder": "../../etc"}',
        b'{"version": 2, "folder": 3}',
        b'{"version": 1, "slice": {}}',
    ],
    ids=["", "list", "none", "3", "2", "leads out", "number", "1"],
)
def test_a_manifest_that_is_none_says_so(text: bytes) -> None:
    with pytest.raises(CopyError):
        from_json(text, LakeLocation.of_root("memory://lake").below("x.manifest.json"))


@pytest.mark.parametrize(
    ("table", "folder"),
    [
        ("public.ticks", "public.ticks"),
        ("odd/../schema.a b", "odd%2F..%2Fschema.a%20b"),
        ("..", "%2E."),
        (".hidden.x", "%2Ehidden.x"),
        ("_hidden.x", "%5Fhidden.x"),
        ("public.a=b", "public.a%3Db"),
    ],
)
def test_a_table_is_one_folder_whatever_its_name(table: str, folder: str) -> None:
    assert table_folder(table) == folder


def test_an_event_cannot_lead_out_of_the_folder() -> None:
    names = Names.of(LakeLocation.of_root("memory://lake"), MARCH, "../../../x")
    assert names.file(0).path == "/lake/public.ticks/20260301T000000Z-g1-%2F..%2F..%2Fx-0.parquet"
    assert names.manifest.path.startswith("/lake/_tidemill/public.ticks/20260301T000000Z-g1-%2F..%2F..%2Fx.")
