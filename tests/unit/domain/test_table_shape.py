"""The vocabulary needs nothing of SQLAlchemy: a table is whatever has its shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_type_hints

import pytest
from sqlalchemy import Column, DateTime, MetaData, Table, Text

from tidemill.api import fact_table
from tidemill.domain.archive.policy import Retention
from tidemill.domain.context import AppendSpec, State, append
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import CommandBase, EventBase
from tidemill.domain.projection import Projection
from tidemill.domain.table_shape import TableShape, plain_name
from tidemill.storage.database import table_sql


@dataclass(frozen=True)
class PlainType:
    python_type: type[object]
    timezone: bool = False


@dataclass(frozen=True)
class PlainColumn:
    name: str
    type: PlainType
    nullable: bool | None = False


@dataclass(frozen=True)
class PlainColumns:
    every: tuple[PlainColumn, ...]

    def __iter__(self) -> Iterator[PlainColumn]:
        return iter(self.every)

    def __len__(self) -> int:
        return len(self.every)

    def __contains__(self, name: str) -> bool:
        return any(column.name == name for column in self.every)

    def __getitem__(self, name: str) -> PlainColumn:
        return next(column for column in self.every if column.name == name)


@dataclass(frozen=True)
class PlainKey:
    columns: PlainColumns
    name: str | None = None


@dataclass(frozen=True)
class PlainTable:
    name: str
    columns: PlainColumns
    primary_key: PlainKey
    schema: str | None = None


TIME = PlainColumn("time", PlainType(datetime, timezone=True))
DEPTH = PlainColumn("depth", PlainType(float))
TIDES = PlainTable("tides", PlainColumns((TIME, DEPTH)), PlainKey(PlainColumns((TIME,))))


@dataclass(frozen=True)
class TideRow:
    time: datetime
    depth: float


class RecordTide(CommandBase):
    time: datetime
    depth: float


class TideRecorded(EventBase):
    time: datetime
    depth: float


@pytest.mark.parametrize("declaring", [AppendSpec, State, Projection, Retention])
def test_what_a_context_declares_names_the_shape(declaring: type) -> None:
    assert get_type_hints(declaring)["table"] is TableShape


def test_a_context_is_declared_without_sqlalchemy() -> None:
    spec = append(RecordTide, into=TIDES, event=TideRecorded)
    projection = Projection("tides", row=TideRow, table=TIDES, key=None, folds={}, stamped=False)
    assert spec.table is TIDES
    assert projection.key_columns == ("time",)
    assert Retention(TIDES, after=timedelta(days=1)).table_name == "public.tides"
    assert plain_name(PlainTable("tides", TIDES.columns, TIDES.primary_key, "sea")) == "sea.tides"


def test_the_tables_of_the_public_surface_have_the_shape() -> None:
    made: TableShape = fact_table("tides", RecordTide, schema="sea")
    by_hand: TableShape = Table(
        "tides", MetaData(), Column("time", DateTime(timezone=True), primary_key=True)
    )
    assert [column.name for column in made.columns] == ["time", "depth", "command_id"]
    assert [column.name for column in by_hand.primary_key.columns] == ["time"]


def test_sql_is_made_for_the_types_of_sqlalchemy_alone() -> None:
    assert table_sql.table_name(TIDES) == "public.tides"
    assert table_sql.column_type(Column("name", Text)) == "text"
    with pytest.raises(ContractError, match=r"column time: .* is not a type of SQLAlchemy's"):
        table_sql.column_type(TIME)
    with pytest.raises(ContractError, match="condition 'true' is not SQLAlchemy's"):
        table_sql.condition("true")
