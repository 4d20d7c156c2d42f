"""All that a context declares as plain values, without the module that declares it: two of them can be compared."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ClauseElement, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from tidemill.catalog.drafts import draft_schema
from tidemill.catalog.table_changes import table_changes
from tidemill.domain.context import Context
from tidemill.domain.state import State
from tidemill.storage.catalog.structure import StructureDatabase
from tidemill.storage.database import difference_sql, table_sql

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_DIALECT: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
_DATABASE: Any = None  # a comparison with nothing needs none


def described(value: Any) -> Any:  # noqa: PLR0911  one line for each kind of value reads best
    """Return a value whose parts are equal if they were declared alike; of a function its name is left."""
    if isinstance(value, Table):
        indexes = sorted(str(CreateIndex(index).compile(dialect=_DIALECT)) for index in value.indexes)
        return [str(CreateTable(value).compile(dialect=_DIALECT)), *indexes]
    if isinstance(value, ClauseElement):
        return str(value.compile(dialect=_DIALECT))
    if isinstance(value, type):
        return _class(value)
    if is_dataclass(value):
        return {
            type(value).__name__: {item.name: described(getattr(value, item.name)) for item in fields(value)}
        }
    if isinstance(value, Mapping):
        return [[described(key), described(item)] for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, map(described, value)))
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    return value if isinstance(value, str | int | float | Enum | None) else repr(value)


def _class(kind: type[Any]) -> Any:
    if issubclass(kind, BaseModel):
        return [kind.__name__, inspect.getdoc(kind), kind.model_json_schema()]
    if is_dataclass(kind):
        hints = {item.name: ADDRESS.sub("", str(item.type)) for item in fields(kind)}
        return [
            kind.__name__,
            {name: hint.replace(f"{kind.__module__}.", "") for name, hint in hints.items()},
        ]
    return kind.__name__


def schemas_of(context: Context) -> dict[str, Any]:
    """Return message -> its drafted `.avsc`, for commands and events."""
    models = [*(spec.model for spec in context.commands), *context.events]
    return {context.full_name(model): draft_schema(model, context.avro_namespace) for model in models}


def migration_of(context: Context) -> tuple[list[str], list[str]]:
    """Return the statements of a drafted revision from nothing, up and down."""
    changes = table_changes(StructureDatabase(_DATABASE).compare_with_nothing(context))
    return changes.upgrade, changes.downgrade


def statements_of(context: Context) -> list[str]:
    """Return the statements that the engine makes from the context's tables."""
    made = [statement for state in context.states for statement in _of_state(state)]
    tables: list[Any] = [state.table for state in context.states]
    tables += [projection.table for projection in context.projections]
    for table in tables:
        makers = (
            table_sql.select_rows,
            table_sql.insert_rows,
            table_sql.update_rows,
            table_sql.delete_rows,
        )
        made += [make(table, live=True) for make in makers]
        made += [difference_sql.count_differences(table), difference_sql.delete_differing(table)]
    return made


def _of_state(state: State) -> list[str]:
    made = [
        table_sql.select_states(state),
        table_sql.lock_states(state),
        table_sql.delete_states(state),
        table_sql.update_states(state, tuple(column.name for column in state.table.columns)),
        table_sql.select_in_force(state, locked=True),
        *(table_sql.select_owners(state, each) for each in state.unique),
        *(table_sql.select_referred_to(state, each.column) for each in state.refers),
        *(table_sql.select_expired(state, each.column) for each in state.endings),
    ]
    return made if state.sign_in is None else [*made, table_sql.select_account(state, state.sign_in)]


def without_places(context: dict[str, Any]) -> dict[str, Any]:
    """Return a described context without where its files are, which a plug-in says and a built-in one does not."""
    (declared,) = context.values()
    return {name: value for name, value in declared.items() if name not in ("schemas", "migrations")}


def folder_of(name: str) -> Path:
    """Return the folder of a built-in context's source."""
    return Path("src/tidemill/contexts") / name
