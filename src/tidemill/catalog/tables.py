"""Tables as a context declares them and as the database has them, and how the two differ: values. Pure.

Names, types and conditions are text, written identically for both sides: quoted where SQL needs it, types and
conditions as the server prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tidemill.catalog.column_types import ColumnType

SERVICE_ROLE: Final = "tidemill_service"
"""The role to which migrations grant the rights of the processes."""

READER_ROLE: Final = "tidemill_reader"
"""The role to which migrations grant the right to read read models."""


class Kind(StrEnum):
    """The kind of a difference between the database and a declaration."""

    MISSING = "missing"
    DIFFERS = "differs"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as declared. `sql`: a draft of the fix, None where an operator has to decide.

    `harmless`: declared, but no promise of the engine depends on it. What is extra never breaks one. `undo`: the
    statement that undoes the draft, None if there is none.
    """

    table: str
    what: str
    kind: Kind
    sql: str | None = None
    harmless: bool = False
    undo: str | None = None

    @property
    def breaks(self) -> bool:
        """Return whether it breaks a promise."""
        return self.kind is not Kind.EXTRA and not self.harmless

    def __str__(self) -> str:
        """Return the table and the difference."""
        return f"{self.table}: {self.what}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. Declared: `nullable` if null may be written, `type` None if it is not declared.

    In the database: `made`: filled by a default; `computed`: takes no value; `rights`: of the present
    login, on this column alone.
    """

    name: str
    type: ColumnType | None
    nullable: bool = False
    made: bool = False
    computed: bool = False
    rights: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Index:
    """An index over `columns`, of the rows for which `where` is true. Any `name` will do if it is empty.

    A column in parentheses is an expression. `method`: PostgreSQL's. `written`: what a statement that creates it says
    after the table, before a server made expressions comparable. In the database: `valid` and `immediate` unless it
    does not enforce its values, or only at the commit.
    """

    name: str
    columns: tuple[str, ...]
    unique: bool
    where: str | None = None
    valid: bool = True
    immediate: bool = True
    method: str = "btree"
    written: str = ""

    def guards(self, other: Index) -> bool:
        """Tell whether it enforces exactly what `other` does."""
        return (
            self.unique
            and self.valid
            and self.immediate
            and set(self.columns) == set(other.columns)
            and self.where == other.where
        )

    def serves(self, other: Index) -> bool:
        """Return whether it finds rows by the same columns, in the same way, as `other` does."""
        return self.columns == other.columns and self.method == other.method


@dataclass(frozen=True, slots=True)
class Declared:
    """A table as a context declares it. `key`: its primary key; its name does not matter.

    `filled`: the columns with a value in every new row. `rights`: the needed ones. `to_be_read`: not only added
    to. `readers`: the reading login may select. `time_column`: by which a hypertable is divided. `archived`: its rows
    leave for the archive. `updated`: its rows change in place, for which a new table keeps room (ADR 7).
    """

    schema: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    indexes: tuple[Index, ...]
    filled: frozenset[str]
    rights: frozenset[str]
    readers: bool = False
    time_column: str | None = None
    archived: bool = False
    updated: bool = False

    @property
    def name(self) -> str:
        """Return `schema.table`."""
        return f"{self.schema}.{self.table}"

    @property
    def to_be_read(self) -> bool:
        """Return whether its rows are read back: a table that is only appended to may store other kinds of numbers."""
        return "select" in self.rights


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table in the database. `kind`: `table`, or the kind of what has its name. `rights`: of `login`.

    `readers`: rights of the reading login. `late`: it has a table for late rows. `definition`: of a view.
    `divided_by`: the first dimension of a hypertable, None for an ordinary table.
    """

    columns: tuple[Column, ...] = ()
    indexes: tuple[Index, ...] = ()
    rights: frozenset[str] = frozenset()
    kind: str = "table"
    login: str = "this login"
    readers: frozenset[str] = frozenset()
    late: bool = False
    definition: str = ""
    divided_by: str | None = None


@dataclass(frozen=True, slots=True)
class DeclaredView:
    """What readers see of a table, as a view. `columns`: those of the table `source` that it shows, in order.

    `left_out`: the columns of that table that it does not show. `where`: the condition of the shown rows, None: all.
    """

    schema: str
    view: str
    source: str
    columns: tuple[str, ...]
    left_out: frozenset[str]
    where: str | None = None
    readers: bool = True

    @property
    def name(self) -> str:
        """Return `schema.view`."""
        return f"{self.schema}.{self.view}"


@dataclass(frozen=True, slots=True)
class TableComparison:
    """A declared table beside the one in the database; `actual` is None if there is none."""

    declared: Declared
    actual: FoundTable | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class ViewComparison:
    """A declared view beside what the database has under its name; `actual` is None if there is nothing."""

    declared: DeclaredView
    actual: FoundTable | None
    differences: tuple[Difference, ...]


Comparison = TableComparison | ViewComparison


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
