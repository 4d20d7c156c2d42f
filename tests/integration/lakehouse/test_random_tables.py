"""Any table, any rows: both digests agree, and a row is never taken for another."""

import asyncio
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.domain.archive.slices import LakeColumn, Measured
from tidemill.lakehouse.arrow import conform
from tidemill.lakehouse.digest import Digest
from tidemill.storage.database.pool import close_pool, connection, create_pool
from tidemill.storage.retention import arrow_reader, digest_sql, measurement

PG_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


def of_bits(code: str, size: int) -> st.SearchStrategy[float]:
    """Floats by their bits: every NaN, both zeros, the smallest of all."""
    return st.binary(min_size=size, max_size=size).map(lambda bits: struct.unpack(f">{code}", bits)[0])


# The driver sends Python's very first and very last times as infinities.
FIRST, LAST = datetime(1, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001  a strategy adds the zone

TYPES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "float4": st.floats(width=32),
    "float8": of_bits("d", 8),
    "numeric(18,4)": st.decimals(-(10**13), 10**13, places=4),
    "numeric(38,10)": st.integers(-(10**38) + 1, 10**38 - 1).map(lambda digits: Decimal(f"{digits}E-10")),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**50), max_value=10**50),
    "text": PG_TEXT,
    "bytea": st.binary(max_size=60),
    "uuid": st.uuids(),
    "date": st.dates(FIRST.date(), LAST.date()),
    "time": st.times(),
    "timestamp": st.datetimes(FIRST, LAST),
    "timestamptz": st.datetimes(FIRST, LAST, timezones=st.just(UTC)),
    "interval": st.timedeltas(timedelta(days=-(10**6)), timedelta(days=10**6)),
    "int4[]": st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=4),
    "text[]": st.lists(st.none() | PG_TEXT, max_size=4),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[Any, ...]]]:
    types = ["timestamptz", *draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=6))]
    values = [TYPES["timestamptz"], *(st.none() | TYPES[each] for each in types[1:])]
    return types, draw(st.lists(st.tuples(*values), max_size=12))


async def both_sides(url: str, types: list[str], rows: list[tuple[Any, ...]]) -> tuple[Measured, Measured]:
    pool = await create_pool(url, application_name="test", size=1)
    try:
        async with connection(pool) as session:
            names = [f"c{index}" for index in range(len(types))]
            made = ", ".join(f"{name} {each}" for name, each in zip(names, types, strict=True))
            await session.execute(
                f"drop table if exists public.any_rows; create table public.any_rows ({made})"
            )
            await session.copy_records_to_table("any_rows", schema_name="public", records=rows)
            async with session.transaction():
                columns = (await measurement.columns_of(session, "public.any_rows")).columns
                assert await measurement.preflight(session, columns, "public.any_rows") == []
                theirs = await measurement.measure(session, columns, "c0", "public.any_rows")
    finally:
        await close_pool(pool)
    return theirs, read_by_arrow(url, columns)


def read_by_arrow(url: str, columns: tuple[LakeColumn, ...]) -> Measured:
    digest = Digest(columns, "c0")
    for batch in arrow_reader.read(url, digest_sql.read_sql(columns, "public.any_rows")):
        digest.add(conform(batch, columns))
    return digest.measured()


def test_any_rows_digest_alike_on_both_sides(
    new_database: Callable[[], AbstractContextManager[str]],
) -> None:
    with new_database() as url:

        @settings(max_examples=60, suppress_health_check=list(HealthCheck))
        @given(tables())
        def property_(table: tuple[list[str], list[tuple[Any, ...]]]) -> None:
            theirs, ours = asyncio.run(both_sides(url, *table))
            assert theirs == ours

        property_()
