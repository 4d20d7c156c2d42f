"""The columns that a session's COPYs were prepared for, compared with the present ones.

The driver reads the types of a table's columns once and sends values in their binary forms from then on. After an
ALTER TABLE they would be misread: an int8 sent for a column that is now numeric becomes a zero, without an
error. So the types are read again when the rows are in the table, which blocks ALTER TABLE until the commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from tidemill.storage.database.errors import OutOfDate
from tidemill.storage.database.sessions import Connection, session_of
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("commands.sql"))

TableLock = Literal["access share", "row exclusive"]
"""What keeps ALTER TABLE out. A login that may insert single columns may only take the first."""


class PreparedShape(NamedTuple):
    """A table and the types of its columns, by oid; a dropped column has none (0)."""

    table: int
    types: tuple[int, ...]


class Shapes:
    """The tables that one transaction copies rows into."""

    def __init__(self, borrowed: Connection) -> None:
        """`borrowed` is in the transaction."""
        self._borrowed = borrowed
        self._known = session_of(borrowed).shapes
        self._copied: set[str] = set()

    @property
    def copied(self) -> list[str]:
        """Return the tables by their SQL names."""
        return sorted(self._copied)

    async def note(self, table: str, *, lock: TableLock = "row exclusive") -> None:
        """Note that rows are copied into `table` next, and lock it; the session remembers its columns."""
        if table not in self._known:
            await self._borrowed.execute(f"lock table only {table} in {lock} mode")
            self._known[table] = PreparedShape(
                *await self._borrowed.fetchrow(_SQL["shape"], table) or (0, ())
            )
        self._copied.add(table)

    async def demand_unchanged(self) -> None:
        """Return if the tables are unchanged. Raises `OutOfDate`."""
        self.compare(await self._borrowed.fetchval(_SQL["shapes"], self.copied))

    def compare(self, types: Iterable[int]) -> None:
        """Return if `types` are still the ones of the tables' columns, in the order of the tables' numbers.

        Raises:
            OutOfDate: a table was altered since this session copied into it first.
        """
        shapes = sorted(self._known[table] for table in self._copied)
        if list(types) != [each for shape in shapes for each in shape.types]:
            raise OutOfDate(f"columns of {', '.join(self.copied)} changed under a session that writes them")
