"""Projections: read models folded from events.

A projection names the events it wants, the key of the row that an event belongs to, and a pure `fold`. The engine
loads the rows of all keys of a batch once, folds their events in order, and writes the rows set-wise together with the
checkpoint. A fold must not depend on how events of different lanes interleave: break ties by `Recorded.order`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Generic, TypeVar

from tidemill.domain.declared_fold import DeclaredFold
from tidemill.domain.errors import ContractError
from tidemill.domain.folds import FoldPart, UtcDay
from tidemill.domain.messages import EventBase, ReadModelBase
from tidemill.domain.table_shape import TableShape, key_names

E = TypeVar("E", bound=EventBase)

Key = tuple[Hashable, ...]
"""The values of a read model's key columns, in order."""

Fold = Callable[[Any, Any], Any]
"""`(row | None, Recorded[event]) -> row | None`; may change and return the row it got; None removes the row."""


@dataclass(slots=True)
class Recorded(Generic[E]):
    """An event as it was published: `at` is `ce_time`, `lane` its partition, `sequence` its number in that lane.

    `event` is a part of it where the projection has `parts`; parts of one event are folded in their order.

    Not frozen: one is made for every event, and a frozen dataclass takes three times as long to make.
    """

    event: E
    at: datetime
    lane: int
    sequence: int
    key: bytes = b""
    """The key of its record."""

    @property
    def order(self) -> tuple[int, int]:
        """Breaks a tie between two events of equal time, the same in every run."""
        return (self.lane, self.sequence)


@dataclass(frozen=True)
class Projection:
    """A read model and how events become its rows.

    `name`: for operators (`latest-quotes`). `row`: a `ReadModelBase` dataclass whose fields are the table's columns.
    `table`: a SQLAlchemy Core table; its primary key are the `key` columns. `folds`: event class -> fold.
    `key`: event -> values of the key columns; None: the one key column is the key of the event's record. `stamped`: the
    engine fills the fields of `ReadModelBase`. `parts`: event -> what it consists of, such as its records: then `key`
    and the folds are called for every part, in order, and get it where they else get the event.
    """

    name: str
    row: type[Any]
    table: TableShape
    key: Callable[[Any], Key] | None
    folds: Mapping[type[EventBase], Fold]
    stamped: bool = True
    parts: Callable[[Any], Iterable[Any]] | None = None

    def __post_init__(self) -> None:
        """Refuse a row class and a table that differ: otherwise the mistake would show at the first write."""
        declared = {column.name for column in self.table.columns}
        held = {item.name for item in fields(self.row)}
        if declared != held:
            raise ContractError(
                f"projection {self.name}: table {self.table.name} and {self.row.__name__} differ in "
                f"{sorted(declared ^ held)}; declare every column as a field and every field as a column"
            )

    @classmethod
    def declared(
        cls,
        name: str,
        *,
        row: type[ReadModelBase],
        table: TableShape,
        event: type[EventBase],
        key: Mapping[str, str | UtcDay],
        parts: Sequence[FoldPart],
    ) -> Projection:
        """Return a read model of one class of events whose fold is declared by `parts`; see `domain.folds`.

        `key`: key column -> the event's field, or the bucket of one. A projector folds it batch by batch, by arrays.
        Raises `ContractError` if row, event and table do not fit.
        """
        fold = DeclaredFold(row, key=key, parts=parts)
        fold.demand_fit(event, key_names(table))
        return cls(name, row=row, table=table, key=fold.key_of, folds={event: fold})

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Return the names of the primary key's columns, in order."""
        return key_names(self.table)
