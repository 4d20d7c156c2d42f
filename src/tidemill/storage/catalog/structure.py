"""The declared tables of contexts compared with those of the database, in the server's own notation.

Types and conditions can be written in many ways. So the server normalises them: declared types by
`to_regtype`, conditions of partial indexes by a plan that shows them simplified, which needs only the right to read.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

import asyncpg
from pydantic import BaseModel
from sqlalchemy import Column as DeclaredColumn
from sqlalchemy import Index as DeclaredIndex
from sqlalchemy import Table, UniqueConstraint
from sqlalchemy.exc import CompileError

from tidemill.catalog.column_types import ColumnType
from tidemill.catalog.structure import Column, Declared, Difference, FoundTable, Index, compare
from tidemill.domain.context import AppendSpec, CommandSpec
from tidemill.domain.projection import Projection
from tidemill.domain.records import record_fields
from tidemill.domain.state import State
from tidemill.domain.stream import Stream
from tidemill.domain.table_shape import ColumnShape, TableShape
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.database.table_sql import condition, quoted, type_as_written

_SQL = load_statements(Path(__file__).with_name("structure.sql"))

_TABLE_KINDS: Final = frozenset("rpf")
"""Plain, partitioned and foreign ones: COPY can fill all of them."""

_KINDS: Final[Mapping[str, str]] = {"v": "view", "m": "materialized view", "S": "sequence", "c": "type"}

_ADDED_TO: Final = frozenset({"usage", "insert"})
_KEPT: Final = _ADDED_TO | {"select", "update", "delete"}
_FOLDED: Final = _KEPT


@dataclass(frozen=True)
class TableUse:
    """A table and its use: the needed rights, the columns that every written row fills.

    `may_be_null`: those that may be null in the classes whose values they hold. `guards`: its unique indexes.
    """

    table: TableShape
    rights: frozenset[str]
    filled: frozenset[str]
    may_be_null: frozenset[str]
    guards: tuple[Index, ...] = ()


def uses_of_stream(stream: Stream) -> list[TableUse]:
    """Return the use of a context's tables by a stream's commands."""
    specs: dict[TableShape, list[CommandSpec]] = defaultdict(list)
    for spec in stream.commands.values():
        if spec.appends_to is not None:
            specs[spec.appends_to].append(spec)
    appended = [_appended(table, of_table) for table, of_table in specs.items()]
    return [*appended, *map(_kept, stream.states)]


def use_of_projection(projection: Projection) -> TableUse:
    """Return a projector's use of the table of a read model."""
    names = _names(projection.table)
    return TableUse(projection.table, _FOLDED, names, _nullable(projection.row, names))


def _appended(table: TableShape, specs: Sequence[CommandSpec]) -> TableUse:
    names = _names(table)
    sources = [_filled(spec, table) | {"command_id": False} for spec in specs]
    filled = [names.intersection(source) for source in sources]
    nullable = {name for source in sources for name, may_be_null in source.items() if may_be_null}
    return TableUse(table, _ADDED_TO, frozenset.intersection(*filled), names & nullable)


def _filled(spec: CommandSpec, table: TableShape) -> dict[str, bool]:
    """Return what fills the columns of a command's rows: name -> whether it may be null."""
    match spec:
        case AppendSpec(rows=None):
            return _nullable_fields(spec.model)
        case AppendSpec(rows=str() as field):
            return _nullable_fields(spec.model) | _nullable_fields(record_fields(spec.model)[field])
        case AppendSpec(columns=(_, *_) as columns):
            return {name: bool(table.columns[name].nullable) for name in columns}
        case _:
            return {column.name: bool(column.nullable) for column in table.columns}


def _nullable_fields(model: type[BaseModel]) -> dict[str, bool]:
    return {name: NoneType in get_args(field.annotation) for name, field in model.model_fields.items()}


def _kept(state: State) -> TableUse:
    names = _names(state.table)
    guards = tuple(
        Index(
            quoted(unique.constraint),
            tuple(map(quoted, unique.columns)),
            unique=True,
            where=None if unique.where is None else condition(unique.where),
        )
        for unique in state.unique
    )
    return TableUse(state.table, _KEPT, names, _nullable(state.model, names), guards)


def _names(table: TableShape) -> frozenset[str]:
    return frozenset(column.name for column in table.columns)


def _nullable(model: type[Any], names: frozenset[str]) -> frozenset[str]:
    """Return the columns that a class lets be null; all of them if its hints cannot be resolved."""
    try:
        hints = get_type_hints(model)
    except NameError:
        return names
    return frozenset(name for name in names if name not in hints or NoneType in get_args(hints[name]))


class StructureDatabase:
    """`catalog.ports.DeclaredTables`, as the login of `pool` sees the tables."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def stream_differences(self, stream: Stream) -> list[Difference]:
        return await differences(self._pool, uses_of_stream(stream))

    async def projection_differences(self, projection: Projection) -> list[Difference]:
        return await differences(self._pool, [use_of_projection(projection)])


# --- the comparison --------------------------------------------------------------------------------------------------


async def differences(pool: Lender, uses: Sequence[TableUse]) -> list[Difference]:
    """Return how the tables differ from what is declared, as the login of `pool` sees them.

    Raises: what `pool.connection` raises.
    """
    async with connection(pool) as borrowed:
        return await look(borrowed, uses)


async def look(borrowed: Connection, uses: Sequence[TableUse]) -> list[Difference]:
    """See `differences`; `borrowed` is in no transaction."""
    if not uses:
        return []
    schemas, names = zip(*(_place(use.table) for use in uses), strict=True)
    async with borrowed.transaction(isolation="repeatable_read", readonly=True):
        rows = await borrowed.fetch(_SQL["tables"], schemas, names)
        columns = _by_table(await borrowed.fetch(_SQL["columns"], schemas, names))
        indexes = _by_table(await borrowed.fetch(_SQL["indexes"], schemas, names))
        types = await _types(borrowed, uses)
    kinds = {(row["schema"], row["name"]): row for row in rows}
    differences: list[Difference] = []
    for use in uses:
        declared, place = _declared(use, types), _place(use.table)
        found = _found(kinds[place], columns[place], indexes[place]) if place in kinds else None
        if found is not None:
            declared, found = await _alike(borrowed, declared, found)
        differences += compare(declared, found)
    return differences


def _declared(use: TableUse, types: Mapping[str, ColumnType]) -> Declared:
    """Return what is declared; types are looked up by their text."""
    schema, name = _place(use.table)
    columns = [
        Column(
            quoted(column.name),
            types.get(_written(column) or ""),
            nullable=bool(column.nullable) and column.name in use.may_be_null,
        )
        for column in use.table.columns
    ]
    return Declared(
        schema=quoted(schema),
        table=quoted(name),
        columns=tuple(columns),
        key=tuple(quoted(column.name) for column in use.table.primary_key.columns),
        indexes=tuple({index.name: index for index in (*_own_indexes(use.table), *use.guards)}.values()),
        filled=frozenset(map(quoted, use.filled)),
        rights=use.rights,
    )


def _own_indexes(table: TableShape) -> Iterable[Index]:
    """Yield what SQLAlchemy's own `Index` and `UniqueConstraint` declare over plain columns, under a name."""
    if not isinstance(table, Table):
        return
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.name:
            columns = tuple(quoted(column.name) for column in constraint.columns)
            yield Index(quoted(str(constraint.name)), columns, unique=True)
    for index in table.indexes:
        if index.name and all(isinstance(each, DeclaredColumn) for each in index.expressions):
            yield _own_index(index)


def _own_index(index: DeclaredIndex) -> Index:
    where = index.dialect_options["postgresql"]["where"]
    columns = tuple(quoted(column.name) for column in index.columns)
    text = None if where is None else condition(where)
    return Index(quoted(str(index.name)), columns, unique=bool(index.unique), where=text)


def _found(
    table: asyncpg.Record, columns: Sequence[asyncpg.Record], indexes: Sequence[asyncpg.Record]
) -> FoundTable:
    kind = table["kind"].decode()
    if kind not in _TABLE_KINDS:
        return FoundTable(kind=_KINDS.get(kind, "thing of another kind"))
    return FoundTable(
        columns=tuple(
            Column(
                quoted(row["name"]),
                _type(row["type"], row["lengths"]),
                nullable=row["nullable"],
                made=row["made"],
                computed=row["computed"],
                rights=frozenset(row["rights"]),
            )
            for row in columns
        ),
        indexes=tuple(
            Index(
                quoted(row["name"]),
                tuple(map(quoted, row["columns"])),
                unique=row["unique"],
                where=row["where"],
                valid=row["valid"],
                immediate=row["immediate"],
            )
            for row in indexes
        ),
        rights=frozenset(table["rights"]),
    )


# --- normalised by the server
# -------------------------------------------------------------------------------------------


async def _types(borrowed: Connection, uses: Sequence[TableUse]) -> dict[str, ColumnType]:
    """Return the server's names of the declared types; an unknown one keeps its name."""
    written = {_written(column) for use in uses for column in use.table.columns}
    rows = await borrowed.fetch(_SQL["types"], sorted(each for each in written if each))
    return {row["written"]: _type(row["type"] or row["written"], row["lengths"]) for row in rows}


def _written(column: ColumnShape) -> str | None:
    """Return a column's type as SQLAlchemy writes it, None if it was declared without one."""
    try:
        return type_as_written(column)
    except CompileError:
        return None


def _type(name: str, lengths: str | None) -> ColumnType:
    return ColumnType(name, tuple(int(each) for each in lengths.split(",")) if lengths else ())


async def _alike(borrowed: Connection, declared: Declared, found: FoundTable) -> tuple[Declared, FoundTable]:
    """Return both with the conditions of their indexes as a plan shows them.

    A condition that the table refuses leaves out both: the missing column is found separately.
    """
    texts = [index.where for index in (*declared.indexes, *found.indexes) if index.where is not None]
    if not any(index.where for index in declared.indexes):
        return declared, found
    shown: Mapping[str, str | None] = dict.fromkeys(texts)
    with suppress(asyncpg.SyntaxOrAccessError, asyncpg.DataError):
        shown = dict(zip(texts, await _planned(borrowed, declared.name, texts), strict=True))
    renamed = [
        tuple(replace(index, where=shown.get(index.where or "")) for index in indexes)
        for indexes in (declared.indexes, found.indexes)
    ]
    return replace(declared, indexes=renamed[0]), replace(found, indexes=renamed[1])


async def _planned(borrowed: Connection, table: str, conditions: Sequence[str]) -> list[str]:
    listed = ", ".join(f"({each})" for each in conditions)
    plan = await borrowed.fetchval(f"explain (verbose, costs off, format json) select {listed} from {table}")
    output: list[str] = json.loads(plan)[0]["Plan"]["Output"]
    return output


def _place(table: TableShape) -> tuple[str, str]:
    return table.schema or "public", table.name


def _by_table(rows: Iterable[asyncpg.Record]) -> dict[tuple[str, str], list[asyncpg.Record]]:
    found: dict[tuple[str, str], list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        found[row["schema"], row["table"]].append(row)
    return found
