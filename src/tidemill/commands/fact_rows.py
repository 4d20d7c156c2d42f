"""The rows that commands append: how they are made of a command, and how they are written, late ones apart.

A command may append one row, many or none. Of a batch all rows of a table are one COPY, so each row is known by the
number of its owner, the command that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from tidemill.commands.late_rows import Row, first_late, range_closed, split
from tidemill.commands.ports import UnitOfWork
from tidemill.domain.archive.policy import LateRule, Retention
from tidemill.domain.context import AppendSpec, CommandSpec, DecideSpec
from tidemill.domain.decision import Rejected
from tidemill.domain.errors import ContractError
from tidemill.domain.records import record_fields
from tidemill.domain.table_shape import TableShape

COMMAND_ID: Final = "command_id"
"""The column that the engine fills."""

MakeRows = Callable[[Any, str], list[Row]]
"""(command, its id) -> its rows, each in the order of the columns of its `FactTable`."""


@dataclass(frozen=True)
class FactTable:
    """A table as one kind of command fills it.

    `columns`: in the order of the rows, with the command's id last if the table has it.
    `time_at`: the number of the column that decides whether a row is late; None if the table takes all rows.
    """

    table: TableShape
    columns: tuple[str, ...]
    time_at: int | None
    rejects_late: bool

    @classmethod
    def of(cls, table: TableShape, named: Sequence[str], retention: Retention | None) -> FactTable:
        """Return a table whose columns `named` are filled. Raises `ContractError` if late rows could not be told."""
        columns = (*named, COMMAND_ID) if COMMAND_ID in table.columns else tuple(named)
        if retention is None or retention.table is not table:
            return cls(table, columns, time_at=None, rejects_late=False)
        if retention.time_column not in named:
            raise ContractError(
                f"table {table.name}: {retention.time_column}, by which rows leave, is not filled"
            )
        rejects = retention.late is LateRule.REJECT
        return cls(table, columns, time_at=named.index(retention.time_column), rejects_late=rejects)

    @property
    def with_id(self) -> bool:
        """Return whether the rows hold the command's id."""
        return COMMAND_ID in self.table.columns

    async def write(
        self, work: UnitOfWork, rows: list[Row], owners: Callable[[], Sequence[int]]
    ) -> dict[int, Rejected]:
        """Append rows, or divert the late ones; return owner -> refusal of those that may not have late rows.

        A refused owner's other rows are not written either. `owners`: of each row; asked only if a row is late.
        """
        if not rows:
            return {}
        refused: dict[int, datetime] = {}
        if self.time_at is not None:
            all_rows = rows
            rows, late = await split(work, self.table, all_rows, self.time_at)
            if late and self.rejects_late:
                owner_of = owners()
                refused = first_late(late, owner_of)
                rows = [row for row, owner in zip(all_rows, owner_of, strict=True) if owner not in refused]
            elif late:
                diverted = [all_rows[index] for index in late]
                await work.divert(self.table, self.columns, diverted, list(late.values()))
        if rows:
            await work.append(self.table, self.columns, rows)
        return {owner: range_closed(start) for owner, start in refused.items()}


def row_maker(spec: AppendSpec, retention: Retention | None) -> tuple[FactTable, MakeRows]:
    """Return how the rows of an append command are made, and their table. Raises `ContractError` at start."""
    if spec.rows is None:
        return _row_by_name(spec, retention)
    if isinstance(spec.rows, str):
        return _rows_of_records(spec, spec.rows, retention)
    function, named = spec.rows, spec.columns or own_columns(spec.table)
    facts = FactTable.of(spec.table, named, retention)

    def made(command: Any, command_id: str) -> list[Row]:
        return complete(facts, function(command), command_id)

    return facts, made


def own_columns(table: TableShape) -> tuple[str, ...]:
    """Return the columns that a context fills, in the order of the table."""
    return tuple(column.name for column in table.columns if column.name != COMMAND_ID)


def decided_tables(specs: Iterable[CommandSpec], retention: Retention | None) -> dict[type, FactTable]:
    """Return the tables to which decisions append, by the class of the command. Raises `ContractError` at start."""
    decided = [spec for spec in specs if isinstance(spec, DecideSpec)]
    return {
        spec.model: FactTable.of(spec.into, own_columns(spec.into), retention)
        for spec in decided
        if spec.into is not None
    }


def complete(facts: FactTable, rows: Sequence[Row], command_id: str) -> list[Row]:
    """Return the rows that a context's code made, with the id.

    Raises:
        ContractError: a row has another width, or has no instant where its range is decided.
    """
    tail = (command_id,) if facts.with_id else ()
    whole = [(*row, *tail) for row in rows] if tail else [*map(tuple, rows)]
    if {*map(len, whole)} - {len(facts.columns)}:
        width = len(facts.columns) - len(tail)
        columns = ", ".join(facts.columns[:width])
        raise ContractError(f"table {facts.table.name}: a row has {width} values, for {columns}")
    if facts.time_at is not None and not _are_instants([row[facts.time_at] for row in whole]):
        name = facts.columns[facts.time_at]
        raise ContractError(f"table {facts.table.name}: {name} of a row is a time with a time zone")
    return whole


def _are_instants(values: Sequence[Any]) -> bool:
    """Tell whether all are times with a time zone: there may be thousands, of few classes and zones."""
    if not all(issubclass(kind, datetime) for kind in {*map(type, values)}):
        return False
    return None not in {*map(attrgetter("tzinfo"), values)}


def names_of(spec: AppendSpec, fields: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that have a field of the same name. Raises `ContractError` if one needs a field."""
    columns = [column for column in spec.table.columns if column.name != COMMAND_ID]
    missing = [column.name for column in columns if column.name not in fields and not column.nullable]
    if missing:
        raise ContractError(
            f"append {spec.model.__name__}: table {spec.table.name} needs {missing}; add the fields, or allow null"
        )
    return tuple(column.name for column in columns if column.name in fields)


def values_of(names: Sequence[str]) -> Callable[[Any], Row]:
    """Return what reads the values of these fields."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)


def _row_by_name(spec: AppendSpec, retention: Retention | None) -> tuple[FactTable, MakeRows]:
    named = names_of(spec, list(spec.model.model_fields))
    facts, values = FactTable.of(spec.table, named, retention), values_of(named)
    return facts, lambda command, command_id: complete(facts, [values(command)], command_id)


def _rows_of_records(spec: AppendSpec, field: str, retention: Retention | None) -> tuple[FactTable, MakeRows]:
    """A row for each record in a field: first the record's values, then those that all of the command's rows share."""
    inner = record_fields(spec.model)[field].model_fields
    outer = [name for name in spec.model.model_fields if name not in inner and name != field]
    named = names_of(spec, [*inner, *outer])
    own, shared = [name for name in named if name in inner], [name for name in named if name not in inner]
    facts = FactTable.of(spec.table, [*own, *shared], retention)
    own_values, shared_values = values_of(own), values_of(shared)

    def made(command: Any, command_id: str) -> list[Row]:
        tail = (*shared_values(command), command_id) if facts.with_id else shared_values(command)
        return [own_values(record) + tail for record in getattr(command, field)]

    return facts, made
