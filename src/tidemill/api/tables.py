"""Tables of a context, made from the classes whose values they hold; the migrations make them in the database.

A class and its table that are written separately drift apart. Whoever needs a type that is not listed here (jsonb, an
integer of four bytes) declares the table with SQLAlchemy's own `Table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import date, datetime
from decimal import Decimal
from types import NoneType
from typing import Any, Final, get_args, get_type_hints
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.types import TypeEngine

from tidemill.domain.errors import ContractError
from tidemill.domain.messages import BASE_FIELDS, CommandBase, ReadModelBase

_TYPES: Final[Mapping[type, TypeEngine[Any]]] = {
    str: Text(),
    int: BigInteger(),
    float: Double(),
    bool: Boolean(),
    datetime: DateTime(timezone=True),
    date: Date(),
    Decimal: Numeric(),
    UUID: Uuid(),
}

_FILLED_BY_THE_ENGINE: Final = frozenset(field.name for field in fields(ReadModelBase))
"""Columns that people look at last."""


def fact_table(name: str, command: type[CommandBase], *, schema: str = "public") -> Table:
    """Return the table that `append` fills: a column per field of the command's own, and its id as `command_id`.

    Raises:
        ContractError: a field has a type that no column is known for.
    """
    hints = get_type_hints(command)
    own = [field for field in command.model_fields if field not in BASE_FIELDS]
    columns = [_column(command, field, hints[field]) for field in own]
    return Table(name, MetaData(), *columns, Column("command_id", Uuid, nullable=False), schema=schema)


def row_table(name: str, row: type[Any], *, key: str | tuple[str, ...], schema: str = "public") -> Table:
    """Return the table of a read model or of an aggregate's state: a column per field of the dataclass `row`.

    `key`: the field, or fields, that tell the rows apart.

    Raises:
        ContractError: a field has a type that no column is known for, or there is no field `key`.
    """
    keys = (key,) if isinstance(key, str) else key
    hints = get_type_hints(row)
    names = sorted((field.name for field in fields(row)), key=_FILLED_BY_THE_ENGINE.__contains__)
    if not set(keys) <= set(names):
        raise ContractError(
            f"{row.__name__} has no {' and '.join(sorted(set(keys) - set(names)))} to be the key"
        )
    columns = [_column(row, field, hints[field], key=field in keys) for field in names]
    return Table(name, MetaData(), *columns, schema=schema)


def _column(owner: type, field: str, hint: Any, *, key: bool = False) -> Column[Any]:
    branches = get_args(hint)
    nullable = NoneType in branches and len(branches) == 2
    plain = next(branch for branch in branches if branch is not NoneType) if nullable else hint
    if plain not in _TYPES:
        known = ", ".join(each.__name__ for each in _TYPES)
        raise ContractError(
            f"{owner.__name__}.{field}: no column for {hint}: use {known}, or declare the table with sqlalchemy.Table"
        )
    return Column(field, _TYPES[plain], primary_key=key, nullable=nullable)
