"""What the vocabulary and the workflows need of a table that a context declares. SQLAlchemy's `Table` has all of it.

Types as the database knows them are SQLAlchemy's, and its adapter's to read (`storage/database/table_sql.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol


class ValueType(Protocol):
    """The type of a column; its text is what people read. One for times may have a `timezone`."""

    @property
    def python_type(self) -> type[object]:
        """Return the class of its values. Raises `NotImplementedError` if there is none."""
        ...


class ColumnShape(Protocol):
    """A column. `nullable`: whether a row may do without it."""

    @property
    def name(self) -> str: ...

    @property
    def type(self) -> ValueType: ...

    @property
    def nullable(self) -> bool | None: ...


class ColumnShapes(Protocol):
    """Columns in their order, and by name."""

    def __iter__(self) -> Iterator[ColumnShape]: ...

    def __len__(self) -> int: ...

    def __contains__(self, name: str, /) -> bool: ...

    def __getitem__(self, name: str, /) -> ColumnShape: ...


class KeyColumns(Protocol):
    """Columns in their order."""

    def __iter__(self) -> Iterator[ColumnShape]: ...


class KeyShape(Protocol):
    """A primary key; of a table without one it has no columns. `name`: None if the database is to choose it."""

    @property
    def name(self) -> object: ...

    @property
    def columns(self) -> KeyColumns: ...


class TableShape(Protocol):
    """A table of a context; two are the same if they are one object. `schema`: None for `public`."""

    def __hash__(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> str | None: ...

    @property
    def columns(self) -> ColumnShapes: ...

    @property
    def primary_key(self) -> KeyShape: ...


def key_names(table: TableShape) -> tuple[str, ...]:
    """Return the names of the primary key's columns, in order."""
    return tuple(column.name for column in table.primary_key.columns)


def leading_time(table: TableShape) -> str | None:
    """Return the first column, if it is an instant that every row has: such facts are a hypertable's."""
    for first in table.columns:
        is_instant = getattr(first.type, "timezone", False) and first.type.python_type is datetime
        return first.name if is_instant and not first.nullable else None
    return None


def plain_name(table: TableShape) -> str:
    """Return `schema.table` as the archive's registry writes it: not quoted."""
    return f"{table.schema or 'public'}.{table.name}"
