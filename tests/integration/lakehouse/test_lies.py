"""A copy that is not what was sealed is seen, whatever an archiver says of it: in several types each."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.domain.archive.slices import LakeColumn, Measured
from tidemill.domain.errors import CopyError
from tidemill.lakehouse.arrow import conform
from tidemill.lakehouse.reader import LakeReader
from tidemill.storage.database.pool import Connection
from tidemill.storage.retention import arrow_reader, digest_sql, measurement

JUNE = (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
COUPLES = (
    ("number", "other_number"),
    ("price", "other_price"),
    ("note", "other_note"),
    ("tags", "other_tags"),
)
Change = Callable[[pa.Table, str, str], pa.Table]

ROWS = """
    create table lied (at timestamptz not null, number int8, other_number int8, price float8, other_price float8,
        note text, other_note text, tags int4[], other_tags int4[]);
    insert into lied
    select '2026-06-01+00'::timestamptz + number * interval '1 minute', number, -number, number / 7.0, number / 3.0,
        'note ' || number, 'other ' || number, array[number, 1], array[number, 2]
    from generate_series(1, 1000) as number
"""


def replaced(table: pa.Table, name: str, values: pa.ChunkedArray | pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)


def other_value(table: pa.Table, one: str, _other: str) -> pa.Table:
    values = table[one].to_pylist()
    values[7] = table[one][8].as_py()
    return replaced(table, one, pa.array(values, table[one].type))


def lost_value(table: pa.Table, one: str, _other: str) -> pa.Table:
    return replaced(table, one, pa.array([None, *table[one].to_pylist()[1:]], table[one].type))


def swapped_columns(table: pa.Table, one: str, other: str) -> pa.Table:
    return replaced(replaced(table, one, table[other]), other, table[one])


def swapped_rows(table: pa.Table, one: str, _other: str) -> pa.Table:
    values = table[one].to_pylist()
    values[3], values[4] = values[4], values[3]
    return replaced(table, one, pa.array(values, table[one].type))


def doubled(table: pa.Table, _one: str, _other: str) -> pa.Table:
    return pa.concat_tables([table, table.slice(5, 1)])


def doubled_twice(table: pa.Table, _one: str, _other: str) -> pa.Table:
    return pa.concat_tables([table, table.slice(5, 1), table.slice(5, 1)])


def doubled_for_another(table: pa.Table, _one: str, _other: str) -> pa.Table:
    return pa.concat_tables([table.slice(1), table.slice(5, 1)])


def missing(table: pa.Table, _one: str, _other: str) -> pa.Table:
    return table.slice(1)


def shuffled(table: pa.Table, one: str, _other: str) -> pa.Table:
    return table.sort_by([(one, "descending")]).select(sorted(table.schema.names))


CHANGES = (
    other_value, lost_value, swapped_columns, swapped_rows, doubled, doubled_twice, doubled_for_another, missing,
)  # fmt: skip


async def sealed(database: str, session: Connection) -> tuple[tuple[LakeColumn, ...], Measured, pa.Table]:
    await session.execute(ROWS)
    async with session.transaction():
        columns = (await measurement.columns_of(session, "public.lied")).columns
        measured = await measurement.measure(session, columns, "at", "public.lied")
    rows = arrow_reader.read(database, digest_sql.read_sql(columns, "public.lied"))
    return columns, measured, pa.Table.from_batches([conform(batch, columns) for batch in rows])


async def test_every_lie_is_seen_in_every_type(database: str, session: Connection, tmp_path: Path) -> None:
    columns, measured, table = await sealed(database, session)
    reader = LakeReader([str(tmp_path)])
    path = tmp_path / "copy.parquet"
    for couple in COUPLES:
        pq.write_table(shuffled(table, *couple), path)
        assert reader.split_by_bounds(str(path), columns, "at", [JUNE]) == ((measured,), 0, ((str(path),),))
        for change in CHANGES:
            pq.write_table(change(table, *couple), path)
            split = reader.split_by_bounds(str(path), columns, "at", [JUNE])
            assert split.measured[0].digest != measured.digest, (change.__name__, couple)


@pytest.mark.parametrize("checksums", [True, False])
async def test_a_flipped_bit_on_disk_is_seen(
    database: str, session: Connection, tmp_path: Path, checksums: bool
) -> None:
    """Without checksums, which foreign writers seldom make, it is the digest that sees it."""
    columns, measured, table = await sealed(database, session)
    path = tmp_path / "copy.parquet"
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=checksums)
    good = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    for index in range(group.num_columns):
        bad = bytearray(good)
        page = group.column(index)
        bad[page.data_page_offset + page.total_compressed_size - 3] ^= 16
        path.write_bytes(bad)
        try:
            found = LakeReader([str(tmp_path)]).read_back([str(path)], columns, "at")
        except CopyError:
            continue
        assert not checksums
        assert found != measured, group.column(index).path_in_schema
