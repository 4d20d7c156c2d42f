"""Tables made from classes: for the built-in contexts, those that were written by hand."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import pytest
from pydantic import Field
from sqlalchemy import Integer, Table

from tidemill.api import fact_table, row_table
from tidemill.contexts.connector_profiles.read_models import connector_directory
from tidemill.contexts.market_data import tables
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.contexts.market_data.read_models import daily_bars, latest_quotes
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import CommandBase, Label
from tidemill.domain.projection import Projection


def described(table: Table) -> dict[str, tuple[Any, ...]]:
    """Column -> type, whether it may be null, whether it is of the key; narrow integers as wide ones."""
    return {
        column.name: (_type(column.type), bool(column.nullable), bool(column.primary_key))
        for column in table.columns
    }


def _type(kind: Any) -> str:
    return "BIGINT" if isinstance(kind, Integer) else str(kind)


def test_a_fact_table_has_the_commands_own_fields_and_its_id() -> None:
    made = fact_table("market_data", RecordMarketData)
    assert described(made) == described(tables.market_data)
    assert made.fullname == "public.market_data"


@pytest.mark.parametrize(
    ("projection", "key"),
    [
        (latest_quotes, "symbol"),
        (daily_bars, ("symbol", "day")),
        (connector_directory, "profile_id"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_row_table_is_the_one_that_was_written_by_hand(
    projection: Projection, key: str | tuple[str, ...]
) -> None:
    made = row_table(projection.table.name, projection.row, key=key)
    assert list(described(made).items()) == list(described(projection.table).items())
    Projection(projection.name, projection.row, made, projection.key, projection.folds)  # else it raises


def test_limits_of_a_field_do_not_matter() -> None:
    class Weigh(CommandBase):
        grams: Annotated[int, Field(ge=0)] | None = None
        scale: Label

    assert list(described(fact_table("weights", Weigh)).items()) == [
        ("grams", ("BIGINT", True, False)),
        ("scale", ("TEXT", False, False)),
        ("command_id", ("CHAR(32)", False, False)),
    ]


def test_what_has_no_column_is_named() -> None:
    class Colour(StrEnum):
        RED = "red"

    class Paint(CommandBase):
        colours: list[Colour]

    with pytest.raises(
        ContractError, match=r"Paint\.colours: no column for list.*: use str, int, .*sqlalchemy"
    ):
        fact_table("paints", Paint)


def test_a_key_is_a_field() -> None:
    @dataclass
    class Row:
        a: str

    with pytest.raises(ContractError, match="Row has no b to be the key"):
        row_table("rows", Row, key=("a", "b"))
