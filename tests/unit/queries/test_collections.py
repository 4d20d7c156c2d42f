"""Names of collections, what is visible of them, and keys in paths."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Column, MetaData, Table, Text

from tests.support.engine.collections import all_collections, bars, samples
from tidemill.domain.errors import ContractError, RequestRefused
from tidemill.queries.collections import RESERVED, Collections, key_values, parse_key
from tidemill.queries.value_types import Bound, value_type
from tidemill.storage.database.table_sql import column_type

COLLECTIONS = all_collections()
SAMPLES, BARS, READINGS = (COLLECTIONS.visible(name) for name in ("samples", "bars", "readings"))


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_reserved_name_is_refused_at_start(name: str) -> None:
    with pytest.raises(ContractError, match=f"collection {name}: URLs have this name"):
        Collections([replace(samples, name=name)], column_type)


@pytest.mark.parametrize("column", ["_id", "a.b", "_"])
def test_a_column_that_no_request_can_write_is_refused_at_start(column: str) -> None:
    table = Table("t", MetaData(), Column(column, Text))
    with pytest.raises(ContractError, match="cannot be filtered by"):
        Collections([replace(samples, table=table)], column_type)


def test_a_name_is_used_once() -> None:
    with pytest.raises(ContractError, match="two collections are named bars"):
        Collections([bars, bars], column_type)


def test_an_unknown_collection_is_refused() -> None:
    for name in ("nothing", "", "Samples", "samples "):
        with pytest.raises(RequestRefused) as caught:
            COLLECTIONS.visible(name)
        assert caught.value.code == "NO_COLLECTION"
        assert name not in caught.value.detail or name == ""


def test_a_hidden_column_does_not_exist() -> None:
    visible = COLLECTIONS.visible("samples", frozenset({"name", "version", "nothing"}))
    assert "name" not in visible.columns
    assert visible.column("name") is visible.column("nothing") is None
    assert SAMPLES.has_version
    assert not visible.has_version
    assert "name" in SAMPLES.columns


def test_a_hidden_key_is_no_address() -> None:
    visible = COLLECTIONS.visible("bars", frozenset({"day"}))
    assert visible.key == ()
    with pytest.raises(RequestRefused) as caught:
        parse_key(visible, b"a,2026-01-01")
    assert caught.value.code == "NO_DOCUMENT"


def test_who_asks_for_facts_by_a_key_is_told_to_filter_them() -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_key(COLLECTIONS.visible("readings"), b"boiler")
    detail = "readings has no keys, so its rows have no address: filter them, readings?FIELD=VALUE"
    assert (caught.value.code, caught.value.detail) == ("NO_DOCUMENT", detail)


def test_a_hidden_time_bounds_nothing() -> None:
    assert READINGS.time_column == "time"
    assert COLLECTIONS.visible("readings", frozenset({"time"})).time_column is None


def test_equal_hidden_columns_give_one_object() -> None:
    one = COLLECTIONS.visible("samples", frozenset({"name", "nothing"}))
    assert one is COLLECTIONS.visible("samples", frozenset({"name"}))
    assert COLLECTIONS.visible("samples", frozenset({"nothing"})) is SAMPLES


def test_sets_of_hidden_columns_are_forgotten_in_turn() -> None:
    collections = all_collections()
    names = list(collections.visible("samples").columns)
    sets = [frozenset({one, other}) for one in names for other in names]
    for hidden in sets:
        collections.visible("samples", hidden)
    assert len(collections._partial) <= 256


def test_collections_are_listed() -> None:
    assert [collection.name for collection in COLLECTIONS] == ["samples", "readings", "bars"]


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (b"AAPL,2013-02-01", ["AAPL", "2013-02-01"]),
        (b"a%2Cb,2013-02-01", ["a,b", "2013-02-01"]),
        (b"%C3%A4%2F,2013-02-01", ["ä/", "2013-02-01"]),
        (b"a+b,2013-02-01", ["a+b", "2013-02-01"]),
        (b",2013-02-01", ["", "2013-02-01"]),
    ],
)
def test_a_key_in_a_path(raw: bytes, parts: list[str]) -> None:
    assert parse_key(BARS, raw) == parts


@pytest.mark.parametrize(
    "raw",
    [b"AAPL", b"a,b,c", b"", b"%FF,2013-02-01", b"%00,x", b"%,x", b"%4,x", b"%zz,x", b"\xff,x", b"%+1,x"],
)
def test_a_key_that_cannot_be_read_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_key(BARS, raw)
    assert caught.value.code == "BAD_PARAMETER"


def test_a_key_has_values_of_its_types() -> None:
    assert key_values(SAMPLES, ["a"]) == [Bound("a")]
    with pytest.raises(RequestRefused) as caught:
        key_values(BARS, ["a", "yesterday"])
    assert caught.value.code == "BAD_VALUE"


@pytest.mark.parametrize(
    ("written", "name", "can"),
    [
        ("numeric(10, 2)", "numeric", "lt"),
        ("varchar(20)", "text", "prefix"),
        ("float", "double precision", "lt"),
        ("timestamp with time zone", "timestamptz", "lt"),
        ("varchar(5)[]", "text[]", "overlaps"),
        ("jsonb", "jsonb", "contains"),
        ("tsvector", "", "is"),
        ("inet[]", "[]", "is"),
    ],
)
def test_types_as_sql_writes_them(written: str, name: str, can: str) -> None:
    kind = value_type(written)
    assert kind.name == name
    assert can in kind.operators
