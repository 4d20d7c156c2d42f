"""Tables of a context, made from the classes whose values they hold; the migrations create them in the database.

A class and a table that are written separately would diverge, so each field is declared once. A field whose
column is not of the usual type names its type: `Annotated[str, JSONB()]`, `Annotated[int, Integer()]`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime
from decimal import Decimal
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic import BaseModel
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

from tidemill.api.indexes import DeclaredIndex, add_indexes
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import BASE_FIELDS, CommandBase, ReadModelBase
from tidemill.domain.records import record_fields

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
"""Columns that are put last."""


def fact_table(
    name: str,
    command: type[CommandBase],
    *,
    first: str | tuple[str, ...] = (),
    schema: str = "public",
    index: Sequence[DeclaredIndex] = (),
) -> Table:
    """Return the table that `append` fills: a column per field of the command's own, and its id as `command_id`.

    Where one field holds a list of records, a row is a record: it has a column per field of the record, and one for
    each of the command's other fields. `first`: the field, or fields, whose columns come before the others, such as the
    time of a hypertable. `index`: `("sensor", "time desc")`, `gin("data")`, `member("data", "type")`, `words("note")`.

    Raises:
        ContractError: a field has a type without a known column type, there is no field of `first` or `index`, there
            are several lists of records, or a record has a field of the command's.
    """
    owners = _owners(command)
    hints = {owner: get_type_hints(owner, include_extras=True) for owner in {*owners.values()}}
    ahead = _named(first, owners, f"{command.__name__} has no {{}} to be the first column")
    ordered = [*ahead, *(field for field in owners if field not in ahead)]
    columns = [_column(owners[field], field, hints[owners[field]][field]) for field in ordered]
    table = Table(name, MetaData(), *columns, Column("command_id", Uuid, nullable=False), schema=schema)
    add_indexes(table, index)
    return table


def row_table(
    name: str,
    row: type[Any],
    *,
    key: str | tuple[str, ...],
    schema: str = "public",
    index: Sequence[DeclaredIndex] = (),
) -> Table:
    """Return the table of a read model or of an aggregate's state: a column per field of the dataclass `row`.

    `key`: the field, or fields, that identify a row. `index`: as of `fact_table`.

    Raises:
        ContractError: a field has a type without a known column type, or there is no field of `key` or `index`.
    """
    hints = get_type_hints(row, include_extras=True)
    declared = [field.name for field in fields(row)]
    keys = _named(key, declared, f"{row.__name__} has no {{}} to be the key")
    last = _FILLED_BY_THE_ENGINE.difference(keys)
    names = sorted(declared, key=last.__contains__)
    columns = [_column(row, field, hints[field], key=field in keys) for field in names]
    table = Table(name, MetaData(), *columns, schema=schema)
    add_indexes(table, index)
    return table


def _owners(command: type[CommandBase]) -> dict[str, type[BaseModel]]:
    """Return the fields that become columns, each with the class that declares it: the command, or its records."""
    records = record_fields(command)
    if len(records) > 1:
        raise ContractError(f"{command.__name__} has several lists of records: {', '.join(sorted(records))}")
    owners: dict[str, type[BaseModel]] = {}
    for field in command.model_fields:
        inner = records.get(field)
        if inner is not None:
            if both := sorted({*inner.model_fields} & {*command.model_fields}):
                raise ContractError(f"{inner.__name__} and {command.__name__} both have {', '.join(both)}")
            owners |= dict.fromkeys(inner.model_fields, inner)
        elif field not in BASE_FIELDS:
            owners[field] = command
    return owners


def _named(names: str | tuple[str, ...], declared: Collection[str], refusal: str) -> tuple[str, ...]:
    """Return the names as a tuple. Raises `ContractError` if one is not declared."""
    chosen = (names,) if isinstance(names, str) else names
    if unknown := set(chosen).difference(declared):
        raise ContractError(refusal.format(" and ".join(sorted(unknown))))
    return chosen


def _column(owner: type, field: str, hint: Any, *, key: bool = False) -> Column[Any]:
    plain, nullable, kind = _understood(hint)
    if kind is None:
        known = ", ".join(each.__name__ for each in _TYPES)
        raise ContractError(
            f"{owner.__name__}.{field}: no column for {plain}: use {known}, or give SQLAlchemy's type as Annotated[...]"
        )
    return Column(field, kind, primary_key=key, nullable=nullable)


def _understood(hint: Any) -> tuple[Any, bool, TypeEngine[Any] | None]:
    """Return the plain type of a hint, whether it may be None, and the type of its column, if there is one."""
    if get_origin(hint) is Annotated:
        inner, *extras = get_args(hint)
        plain, nullable, usual = _understood(inner)
        own = next((extra for extra in extras if isinstance(extra, TypeEngine)), None)
        return plain, nullable, own or usual
    branches = get_args(hint)
    if NoneType in branches and len(branches) == 2:
        plain, _, kind = _understood(next(branch for branch in branches if branch is not NoneType))
        return plain, True, kind
    return hint, False, _TYPES.get(hint)
