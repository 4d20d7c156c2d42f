"""What the digest sees, and what it does not depend on."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pyarrow as pa
import pytest

from tests.support.archive import lookup3
from tests.support.engine.batches import batch_of
from tidemill.domain.archive.slices import LakeColumn, LakeType, Measured
from tidemill.lakehouse import lookup3 as hashing
from tidemill.lakehouse.arrow import arrow_type, schema_of
from tidemill.lakehouse.digest import Digest

TIME = LakeColumn("at", "timestamptz", LakeType.INSTANT, nullable=False)
DAY = "2026-01-01 00:00:00"

# Two values of each type that differ in one bit, as literals or as raw bytes of the array's values.
PAIRS = {
    LakeType.BOOLEAN: ("true", "false"),
    LakeType.INT16: ("0", "1"),
    LakeType.INT32: ("0", "-2147483648"),
    LakeType.INT64: ("1", "4294967297"),
    LakeType.FLOAT32: ("0", "-0"),
    LakeType.FLOAT64: ("0", "-0"),
    LakeType.DECIMAL: ("1.0000", "1.0001"),
    LakeType.TEXT: ("abc", "abb"),
    LakeType.BYTES: ("\\x00", "\\x01"),
    LakeType.UUID: ("00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"),
    LakeType.DATE: ("2026-01-01", "2026-01-02"),
    LakeType.TIME: ("00:00:00", "00:00:00.000001"),
    LakeType.TIMESTAMP: ("2026-01-01 00:00:00", "2026-01-01 00:00:00.000001"),
    LakeType.INSTANT: ("2026-01-01 00:00:00", "2026-01-01 00:00:00.000001"),
}


def column(kind: LakeType, name: str = "value") -> LakeColumn:
    digits = (18, 4) if kind is LakeType.DECIMAL else (0, 0)
    return LakeColumn(name, str(kind), kind, nullable=True, precision=digits[0], scale=digits[1])


def measured(columns: Sequence[LakeColumn], *rows: Sequence[str | None]) -> Measured:
    digest = Digest(columns, "at")
    digest.add(batch_of(columns, rows))
    return digest.measured()


def test_every_type_has_its_pair() -> None:
    assert set(PAIRS) == set(LakeType)


@pytest.mark.parametrize("kind", LakeType)
def test_one_bit_of_a_value_is_seen(kind: LakeType) -> None:
    columns = (TIME, column(kind))
    one, other = PAIRS[kind]
    digests = {measured(columns, (DAY, value)).digest for value in (one, other, None)}
    assert len(digests) == 3


@pytest.mark.parametrize("kind", LakeType)
def test_two_columns_that_changed_places_are_seen(kind: LakeType) -> None:
    columns = (TIME, column(kind, "left"), column(kind, "right"))
    one, other = PAIRS[kind]
    assert measured(columns, (DAY, one, other)).digest != measured(columns, (DAY, other, one)).digest
    assert measured(columns, (DAY, one, None)).digest != measured(columns, (DAY, None, one)).digest


@pytest.mark.parametrize("kind", LakeType)
def test_values_that_changed_rows_within_a_column_are_seen(kind: LakeType) -> None:
    """A sum of folds is linear: each column would add up to the same."""
    columns = (TIME, column(kind, "left"), column(kind, "right"))
    one, other = PAIRS[kind]
    straight = measured(columns, (DAY, one, one), (DAY, other, other))
    crossed = measured(columns, (DAY, one, other), (DAY, other, one))
    assert straight.digest != crossed.digest


def test_rows_that_are_missing_or_too_many_are_seen() -> None:
    columns = (TIME, column(LakeType.TEXT))
    rows = [(DAY, "a"), (DAY, "b"), (DAY, "c")]
    others: tuple[list[tuple[str, str]], ...] = (
        [],
        rows[:2],
        [*rows, rows[0]],
        [*rows, *[rows[0]] * 2],
        [rows[0], rows[1], rows[1]],
    )
    digests = {measured(columns, *each).digest for each in (rows, *others)}
    assert len(digests) == 6


def test_neither_order_nor_batches_matter() -> None:
    columns = (TIME, column(LakeType.TEXT))
    rows = [(DAY, "a"), (DAY, None), ("2026-01-03 00:00:00", "c"), (DAY, "a")]
    whole = measured(columns, *rows)
    assert {measured(columns, *order) for order in permutations(rows)} == {whole}
    digest = Digest(columns, "at")
    for row in rows:
        digest.add(batch_of(columns, [row]))
        digest.add(batch_of(columns, []))
    assert digest.measured() == whole


@pytest.mark.parametrize("kind", LakeType)
def test_a_slice_of_a_batch_digests_as_the_rows_themselves(kind: LakeType) -> None:
    columns = (TIME, column(kind))
    rows = [(DAY, PAIRS[kind][number % 2] if number % 3 else None) for number in range(20_000)]
    part = Digest(columns, "at")
    part.add(batch_of(columns, rows).slice(7, 17_001))
    assert part.measured() == measured(columns, *rows[7:17_008])


@pytest.mark.parametrize("payload", [0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001])
def test_every_nan_is_its_own(payload: int) -> None:
    bits = np.array([payload, 0x7FF8000000000000], np.uint64)
    array = pa.Array.from_buffers(pa.float64(), 2, [None, pa.py_buffer(bits)])
    found = hashing.hash_longs(np.frombuffer(array.buffers()[1], np.uint64))
    assert [int(each) for each in found] == [lookup3.hashed(int(each).to_bytes(8, "big")) for each in bits]
    assert found[0] != found[1]


def test_texts_of_every_length_hash_as_in_plain_python() -> None:
    values = [("é" * length)[:length].encode() for length in range(41)]
    values += [bytes(range(256)) * times for times in (1, 3, 40)] + [b"", b"\0", b"\0" * 12]
    array = pa.array([None, *values], pa.binary()).slice(1)
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int32).astype(np.int64)[1:]
    found = hashing.hash_bytes(np.frombuffer(data, np.uint8), ends[:-1], np.diff(ends))
    assert [int(each) for each in found] == [lookup3.hashed(value) for value in values]


def test_the_least_and_greatest_time_are_those_of_the_time_column() -> None:
    columns = (TIME, column(LakeType.INSTANT))
    found = measured(columns, (DAY, "1999-01-01 00:00:00"), ("9999-12-31 23:59:59.999999", None))
    assert (str(found.min_time), str(found.max_time)) == (
        "2026-01-01 00:00:00+00:00",
        "9999-12-31 23:59:59.999999+00:00",
    )


def test_every_type_of_the_lake_has_its_arrow_type() -> None:
    columns = [column(kind, str(kind)) for kind in LakeType]
    assert schema_of(columns).types == [arrow_type(each) for each in columns]
