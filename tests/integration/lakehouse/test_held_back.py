"""Rows and files that are read no faster than they may be: the same result, later."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import pytest

from tidemill.archiver.read_pace import Pace
from tidemill.domain.archive.slices import LakeColumn, SliceId
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader, Sized
from tidemill.storage.database.pool import Connection
from tidemill.storage.retention import arrow_reader, digest_sql, measurement

T = TypeVar("T", bound=Sized)

TABLE = "public.slow"
SLICE = SliceId(TABLE, datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 2, tzinfo=UTC))
ROWS = 20_000
ROW_BYTES = 24  # at least
RATE = 1_000_000


class CountingBrake:
    """Counts what passes; holds nothing back."""

    piece_bytes = 1

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def through(self, batches: Iterator[T]) -> Iterator[T]:
        for batch in batches:
            self.sizes.append(batch.nbytes)
            yield batch


@pytest.fixture
async def columns(session: Connection) -> tuple[LakeColumn, ...]:
    await session.execute("create table slow (at timestamptz not null, size bigint, price float8)")
    await session.execute(
        "insert into slow select timestamptz '2024-05-01 00:00+00' + interval '1 s' * n, n, n / 7.0 "
        f"from generate_series(1, {ROWS}) n"
    )
    async with session.transaction():
        return tuple((await measurement.columns_of(session, TABLE)).columns)


async def test_a_measurement_takes_as_long_as_its_rate_wants(
    session: Connection, columns: tuple[LakeColumn, ...]
) -> None:
    async with session.transaction():
        at_once = await measurement.measure(session, columns, "at", TABLE)
        began = perf_counter()
        held_back = await measurement.measure(session, columns, "at", TABLE, bytes_per_s=RATE)
        assert perf_counter() - began >= 0.9 * ROWS * ROW_BYTES / RATE
    assert held_back == at_once


async def test_so_does_a_preflight(session: Connection, columns: tuple[LakeColumn, ...]) -> None:
    await session.execute("insert into slow values ('infinity', 0, 0)")
    async with session.transaction():
        at_once = await measurement.preflight(session, columns, TABLE)
        began = perf_counter()
        held_back = await measurement.preflight(session, columns, TABLE, bytes_per_s=RATE)
        assert perf_counter() - began >= 0.9 * ROWS * ROW_BYTES / RATE
    assert [each.column for each in held_back] == ["at"]
    assert held_back == at_once


async def test_no_rows_are_measured_at_any_rate(session: Connection, columns: tuple[LakeColumn, ...]) -> None:
    await session.execute("truncate slow")
    async with session.transaction():
        found = await measurement.measure(session, columns, "at", TABLE, bytes_per_s=1)
    assert found.row_count == 0


async def test_a_copy_is_read_back_in_small_pieces(
    database: str, columns: tuple[LakeColumn, ...], tmp_path: Path
) -> None:
    rows = arrow_reader.read(database, digest_sql.read_sql(columns, TABLE))
    made = LakeWriter(str(tmp_path)).write(SLICE, "event-1", columns, "at", rows)
    brake = CountingBrake()
    reader = LakeReader([str(tmp_path)])
    paths = [file.path for file in made.files]
    assert reader.held_back(brake).read_back(paths, columns, "at") == made.measured
    assert sum(brake.sizes) >= ROWS * ROW_BYTES
    assert max(brake.sizes) < 1 << 18

    brake.sizes.clear()
    assert reader.held_back(brake).damaged(made.files[0]) is None
    assert sum(brake.sizes) == made.files[0].size_bytes

    began = perf_counter()
    assert reader.held_back(Pace(RATE)).read_back(paths, columns, "at") == made.measured
    assert perf_counter() - began >= 0.7 * ROWS * ROW_BYTES / RATE  # behind the last piece nothing waits
