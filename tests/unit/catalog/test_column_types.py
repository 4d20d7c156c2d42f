"""Which type of two takes all values of the other."""

import pytest

from tidemill.catalog.column_types import ColumnType, is_same, is_wider


def a(name: str, *lengths: int) -> ColumnType:
    return ColumnType(name, lengths)


VARCHAR, TEXT, NUMERIC, DOUBLE = a("character varying"), a("text"), a("numeric"), a("double precision")
TIMESTAMP = "timestamp with time zone"

SAME = [
    (a("bigint"), a("bigint")),
    (TEXT, VARCHAR),
    (a("numeric", 10), a("numeric", 10, 0)),
    (a("character"), a("character", 1)),
    (a(TIMESTAMP, 6), a(TIMESTAMP)),
    (a("real", 24), a("real")),
    (a("text[]"), a("text[]")),
]

WIDER = [
    (a("bigint"), a("integer")),
    (a("bigint"), a("smallint")),
    (DOUBLE, a("real")),
    (TEXT, a("character varying", 20)),
    (VARCHAR, a("character varying", 20)),
    (a("character varying", 21), a("character varying", 20)),
    (NUMERIC, a("numeric", 10, 2)),
    (a("numeric", 12, 3), a("numeric", 10, 2)),
    (a(TIMESTAMP), a(TIMESTAMP, 3)),
    (a("bit varying", 9), a("bit varying", 8)),
]

NEITHER = [
    (a("numeric", 10, 3), a("numeric", 10, 2)),
    (a("character", 5), a("character", 4)),
    (a("jsonb"), a("json")),
    (TEXT, a("uuid")),
    (TEXT, a("character", 5)),
    (a("timestamp without time zone"), a(TIMESTAMP)),
    (a("bigint"), DOUBLE),
    (a("text[]"), TEXT),
]

ONLY_WRITTEN = [a("smallint"), a("integer"), a("bigint"), a("real"), DOUBLE]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_ways_to_write_one_type(one: ColumnType, other: ColumnType) -> None:
    assert is_same(one, other)
    assert not is_wider(one, other)
    assert not is_wider(other, one)


@pytest.mark.parametrize(("wide", "narrow"), WIDER)
def test_a_type_that_takes_more(wide: ColumnType, narrow: ColumnType) -> None:
    assert is_wider(wide, narrow)
    assert not is_wider(narrow, wide)
    assert not is_same(wide, narrow)


@pytest.mark.parametrize(("one", "other"), NEITHER)
def test_types_that_take_each_something_else(one: ColumnType, other: ColumnType) -> None:
    assert not is_same(one, other)
    assert not is_wider(one, other)
    assert not is_wider(other, one)


@pytest.mark.parametrize("number", ONLY_WRITTEN)
def test_a_number_may_become_a_decimal_if_nobody_reads_it_back(number: ColumnType) -> None:
    assert is_wider(NUMERIC, number, to_be_read=False)
    assert not is_wider(NUMERIC, number)
    assert not is_wider(a("numeric", 20, 0), number, to_be_read=False)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (TEXT, "text"),
        (a("character varying", 20), "character varying(20)"),
        (a("numeric", 18, 4), "numeric(18,4)"),
        (a(TIMESTAMP, 3), "timestamp(3) with time zone"),
    ],
)
def test_a_type_is_shown_as_sql_writes_it(written: ColumnType, told: str) -> None:
    assert str(written) == told
