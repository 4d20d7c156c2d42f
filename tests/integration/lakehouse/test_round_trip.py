"""Database, ADBC, Parquet, back by COPY: every value of every type is what it was."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.archive import fidelity
from tests.support.archive.fidelity import ident
from tidemill.domain.archive.slices import LakeColumn, Measured, SliceId
from tidemill.lakehouse.layout import Manifest
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader
from tidemill.storage.database.pool import Connection
from tidemill.storage.retention import arrow_reader, digest_sql, measurement
from tidemill.storage.retention.restore import restore_batches

JANUARY = SliceId("public.every_type", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))


async def columns_of(session: Connection, table: str) -> tuple[LakeColumn, ...]:
    async with session.transaction():
        shape = await measurement.columns_of(session, table)
    assert not shape.refused
    return shape.columns


async def measured(session: Connection, columns: Sequence[LakeColumn], table: str) -> Measured:
    async with session.transaction():
        return await measurement.measure(session, columns, "at", table)


def archived(database: str, columns: Sequence[LakeColumn], table: str, root: Path) -> Manifest:
    rows = arrow_reader.read(database, digest_sql.read_sql(columns, table))
    return LakeWriter(str(root)).write(JANUARY, "an-event", columns, "at", rows)


async def test_every_type_comes_back_as_it_was(database: str, session: Connection, tmp_path: Path) -> None:
    await session.execute(fidelity.create_sql("every_type"))
    for statement in fidelity.insert_sql("every_type"):
        await session.execute(statement)
    columns = await columns_of(session, "public.every_type")
    sealed = await measured(session, columns, "public.every_type")

    copy = archived(database, columns, "public.every_type", tmp_path)
    reader = LakeReader([str(tmp_path)])
    files = [file.path for file in copy.files]
    assert copy.measured == reader.read_back(files, columns, "at") == sealed

    await session.execute("create table restored (like every_type)")
    async with session.transaction():
        count = await restore_batches(
            session, "public.restored", columns, reader.copy_parts(files, columns, "at")
        )
    assert count == sealed.row_count
    assert await measured(session, columns, "public.restored") == sealed
    for name in ("at", *(sample.name for sample in fidelity.SAMPLES)):
        column = ident(name)
        differing = await session.fetchval(
            f"select count(*) from every_type old full join restored new using (at) "
            f"where old.{column}::text is distinct from new.{column}::text"
        )
        assert differing == 0, name


async def test_nans_of_any_bits_and_generated_columns_come_back(
    database: str, session: Connection, tmp_path: Path
) -> None:
    await session.execute("""
        create table odd (at timestamptz, single float4, double float8, note text[], twice float8
            generated always as (double * 2) stored)
    """)
    # inf - inf is a NaN with its sign set on most processors
    await session.execute("""
        insert into odd values
            ('2026-01-01', 'inf'::float4 - 'inf'::float4, 'inf'::float8 - 'inf'::float8, '{a,"b c"}'),
            ('2026-01-02', 'NaN', 'NaN', null), ('2026-01-03', '-0', '-0', '{}'), ('2026-01-04', null, null, null)
    """)
    bits = await session.fetchval("select count(distinct float8send(double)) from odd where double = 'NaN'")
    assert bits == 2, "this processor makes no NaN of its own: choose another way to get one"
    columns = await columns_of(session, "public.odd")
    sealed = await measured(session, columns, "public.odd")
    copy = archived(database, columns, "public.odd", tmp_path)
    assert copy.measured == sealed
    parts = LakeReader([str(tmp_path)]).copy_parts([file.path for file in copy.files], columns, "at")
    await session.execute("create table restored (like odd including generated)")
    async with session.transaction():
        assert await restore_batches(session, "public.restored", columns, parts) == 4
    assert await measured(session, columns, "public.restored") == sealed


@pytest.mark.parametrize(
    ("pg_type", "literal", "reason"),
    [
        ("date", "infinity", "infinity"),
        ("date", "0044-03-15 BC", "a year outside of 0001 to 9999"),
        ("date", "10000-01-01", "a year outside of 0001 to 9999"),
        ("timestamp", "-infinity", "infinity"),
        ("timestamp", "10000-01-01", "a year outside of 0001 to 9999"),
        ("timestamptz", "infinity", "infinity"),
        ("timestamptz", "0001-12-31 23:59:59 BC", "a year outside of 0001 to 9999"),
        ("time", "24:00", "24:00 as a time of day"),
        ("numeric(10,2)", "NaN", "NaN or infinity in a decimal"),
        ("price", "NaN", "NaN or infinity in a decimal"),
    ],
)
async def test_preflight_names_the_column_and_the_value(
    session: Connection, pg_type: str, literal: str, reason: str
) -> None:
    await session.execute(f'create table odd (at timestamptz, fine {pg_type}, "not fine" {pg_type})')
    await session.execute(f"insert into odd values (now(), null, '{literal}'), (now(), null, null)")
    columns = await columns_of(session, "public.odd")
    async with session.transaction():
        found = await measurement.preflight(session, columns, "public.odd")
    assert found == [("not fine", f"1 rows hold {reason}")]


async def test_preflight_accepts_the_fidelity_table(session: Connection) -> None:
    await session.execute(fidelity.create_sql("every_type"))
    for statement in fidelity.insert_sql("every_type"):
        await session.execute(statement)
    columns = await columns_of(session, "public.every_type")
    async with session.transaction():
        assert await measurement.preflight(session, columns, "public.every_type") == []


async def test_types_without_a_rule_are_refused_by_column(session: Connection) -> None:
    columns = ", ".join(f"{name} {pg_type}" for name, pg_type in fidelity.REFUSED.items())
    await session.execute(f"create table odd (at timestamptz, {columns})")
    async with session.transaction():
        shape = await measurement.columns_of(session, "public.odd")
    assert [column.name for column in shape.columns] == ["at"]
    assert [refusal.column for refusal in shape.refused] == list(fidelity.REFUSED)
    assert all(refusal.reason for refusal in shape.refused)
