"""What contexts declare of their tables and views, as values that can be compared with those of a database.

Nothing is connected to. Types are in SQLAlchemy's notation until a server has given its own names for them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

from pydantic import BaseModel
from sqlalchemy import Column as DeclaredColumn
from sqlalchemy import Index as DeclaredIndex
from sqlalchemy import Table, UnaryExpression, UniqueConstraint
from sqlalchemy.exc import CompileError
from sqlalchemy.sql.operators import asc_op, desc_op

from tidemill.catalog.column_types import ColumnType
from tidemill.catalog.structure import as_declared
from tidemill.catalog.tables import Column, Declared, DeclaredView, Index
from tidemill.domain.archive.policy import Retention
from tidemill.domain.context import AppendSpec, CommandSpec
from tidemill.domain.projection import Projection
from tidemill.domain.read_view import CurrentFacts
from tidemill.domain.records import record_fields
from tidemill.domain.state import Expiry, State
from tidemill.domain.stream import Stream
from tidemill.domain.table_shape import ColumnShape, TableShape, leading_time
from tidemill.storage.database.table_sql import condition, quoted, table_name, type_as_written

_ADDED_TO: Final = frozenset({"usage", "insert"})
_KEPT: Final = _ADDED_TO | {"select", "update", "delete"}
_FOLDED: Final = _KEPT

_PLAIN_TYPE: Final = re.compile(r"([A-Z ]+)(?:\(([0-9, ]+)\))?")
"""A type of PostgreSQL's own as SQLAlchemy writes it, and its lengths."""


@dataclass(frozen=True)
class TableUse:
    """A table and its use: the needed rights, the columns that every written row fills.

    `may_be_null`: those that may be null in the classes whose values they hold. `guards`: its unique indexes.
    `readers`: the reading login may select. `time_column`: by which a hypertable is divided. `archived`: rows leave it.
    `updated`: they change in place.
    """

    table: TableShape
    rights: frozenset[str]
    filled: frozenset[str]
    may_be_null: frozenset[str]
    guards: tuple[Index, ...] = ()
    readers: bool = False
    time_column: str | None = None
    archived: bool = False
    updated: bool = False


def uses_of_stream(stream: Stream) -> list[TableUse]:
    """Return the use of a context's tables by a stream's commands."""
    specs: dict[TableShape, list[CommandSpec]] = defaultdict(list)
    for spec in stream.commands.values():
        if spec.appends_to is not None:
            specs[spec.appends_to].append(spec)
    shown = {facts.table for facts in stream.current}
    emptied = {facts.table for facts in stream.removals.values()}
    appended = [
        _appended(table, of_table, stream.retention, readers=table not in shown)
        for table, of_table in specs.items()
    ]
    appended = [_emptied(use) if use.table in emptied else use for use in appended]
    return [*appended, *map(_kept, stream.states)]


def _emptied(use: TableUse) -> TableUse:
    return replace(use, rights=use.rights | {"select", "delete"})


def views_of_stream(stream: Stream) -> list[DeclaredView]:
    """Return what readers see of a stream's states, and of the facts that these own in revisions."""
    by_name = {state.name: state for state in stream.states}
    views = [view for state in stream.states if (view := _view(state, by_name)) is not None]
    return [*views, *(_current_view(facts, by_name[facts.of]) for facts in stream.current)]


def _view(state: State, family: Mapping[str, State]) -> DeclaredView | None:
    if state.view is None:
        return None
    return _view_of(state.table, state.view.table, " and ".join(_in_force(state, family)) or None)


def _current_view(facts: CurrentFacts, owner: State) -> DeclaredView:
    own = quoted(facts.table.name)
    same = [
        f"owner.{quoted(owner.key)} = {own}.{quoted(facts.owner)}",
        f"owner.{quoted(facts.revision)} = {own}.{quoted(facts.revision)}",
    ]
    in_force = [] if owner.deleted is None else [f"not owner.{quoted(owner.deleted)}"]
    where = f"exists (select 1 from {table_name(owner.table)} owner where {' and '.join([*same, *in_force])})"
    return _view_of(facts.table, facts.view, where)


def _view_of(table: TableShape, view: TableShape, where: str | None) -> DeclaredView:
    shown = tuple(quoted(column.name) for column in view.columns)
    return DeclaredView(
        schema=quoted(view.schema or "public"),
        view=quoted(view.name),
        source=table_name(table),
        columns=shown,
        left_out=frozenset(quoted(column.name) for column in table.columns).difference(shown),
        where=where,
    )


def _in_force(state: State, family: Mapping[str, State]) -> Iterator[str]:
    """Yield what is true of rows that readers see: they are not deleted, nor is what they belong to."""
    if state.deleted is not None:
        yield f"not {quoted(state.deleted)}"
    if state.expiry is not None:
        yield _not_over(state, state.expiry)
    for reference in state.refers:
        parent = family.get(reference.to) if reference.always else None
        if parent is not None and parent.deleted is not None:
            same = f"parent.{quoted(parent.key)} = {quoted(reference.column)}"
            present = f"{same} and not parent.{quoted(parent.deleted)}"
            yield f"exists (select 1 from {table_name(parent.table)} parent where {present})"


def _not_over(state: State, expiry: Expiry) -> str:
    ends, nullable = quoted(expiry.column), state.table.columns[expiry.column].nullable
    return f"({ends} is null or {ends} > now())" if nullable else f"{ends} > now()"


def use_of_projection(projection: Projection) -> TableUse:
    """Return a projector's use of the table of a read model."""
    names = _names(projection.table)
    return TableUse(projection.table, _FOLDED, names, _nullable(projection.row, names), readers=True)


def _appended(
    table: TableShape, specs: Sequence[CommandSpec], retention: Retention | None, *, readers: bool
) -> TableUse:
    names = _names(table)
    sources = [_filled(spec, table) | {"command_id": False} for spec in specs]
    filled = [names.intersection(source) for source in sources]
    nullable = {name for source in sources for name, may_be_null in source.items() if may_be_null}
    archived = retention is not None and retention.table is table
    time_column = retention.time_column if retention is not None and archived else leading_time(table)
    return TableUse(
        table,
        _ADDED_TO,
        frozenset.intersection(*filled),
        names & nullable,
        readers=readers,
        time_column=time_column,
        archived=archived,
    )


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
        as_declared(
            Index(
                quoted(unique.constraint),
                tuple(map(quoted, unique.columns)),
                unique=True,
                where=_condition(unique.where),
            )
        )
        for unique in state.unique
    )
    return TableUse(state.table, _KEPT, names, _nullable(state.model, names), guards, updated=True)


def _names(table: TableShape) -> frozenset[str]:
    return frozenset(column.name for column in table.columns)


def _nullable(model: type[Any], names: frozenset[str]) -> frozenset[str]:
    """Return the columns that a class lets be null; all of them if its hints cannot be resolved."""
    try:
        hints = get_type_hints(model)
    except NameError:
        return names
    return frozenset(name for name in names if name not in hints or NoneType in get_args(hints[name]))


def _condition(expression: object) -> str | None:
    return None if expression is None else condition(expression, qualified=False)


def declared_table(use: TableUse, types: Mapping[str, ColumnType] | None = None) -> Declared:
    """Return what is declared. `types`: by their text, as a server names them; None: as they are written."""
    schema, name = place(use.table)
    columns = [
        Column(
            quoted(column.name),
            _column_type(column, types),
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
        readers=use.readers,
        time_column=None if use.time_column is None else quoted(use.time_column),
        archived=use.archived,
        updated=use.updated,
    )


def _column_type(column: ColumnShape, types: Mapping[str, ColumnType] | None) -> ColumnType | None:
    text = written_type(column)
    if text is None or types is not None:
        return None if text is None or types is None else types.get(text)
    plain = _PLAIN_TYPE.fullmatch(text)
    return ColumnType(text) if plain is None else named_type(plain[1].lower(), plain[2])


def named_type(name: str, lengths: str | None) -> ColumnType:
    """Return a type by its name and its lengths, such as `18,4`."""
    return ColumnType(name, tuple(int(part) for part in lengths.split(",")) if lengths else ())


def _own_indexes(table: TableShape) -> Iterable[Index]:
    """Yield what SQLAlchemy's own `Index` and `UniqueConstraint` declare, under a name."""
    if not isinstance(table, Table):
        return
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.name:
            columns = tuple(quoted(column.name) for column in constraint.columns)
            yield Index(quoted(str(constraint.name)), columns, unique=True)
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.name:
            yield _own_index(index)


def _own_index(index: DeclaredIndex) -> Index:
    """Return an index of a table. Its order matters to what creates it alone: it is read in both directions."""
    options = index.dialect_options["postgresql"]
    declared = Index(
        quoted(str(index.name)),
        tuple(map(_indexed, index.expressions)),
        unique=bool(index.unique),
        where=_condition(options["where"]),
        method=options["using"] or "btree",
    )
    ordered = map(_in_order, declared.columns, index.expressions)
    return as_declared(declared, f"({', '.join(ordered)})")


def _in_order(column: str, expression: object) -> str:
    return f"{column} desc" if getattr(expression, "modifier", None) is desc_op else column


def _indexed(expression: object) -> str:
    if isinstance(expression, UnaryExpression) and expression.modifier in (asc_op, desc_op):
        return _indexed(expression.element)
    if isinstance(expression, DeclaredColumn):
        return quoted(expression.name)
    return f"({condition(expression, qualified=False)})"


def written_type(column: ColumnShape) -> str | None:
    """Return a column's type as SQLAlchemy writes it, None if it was declared without one."""
    try:
        return type_as_written(column)
    except CompileError:
        return None


def place(table: TableShape) -> tuple[str, str]:
    """Return schema and name of a table, not quoted."""
    return table.schema or "public", table.name
