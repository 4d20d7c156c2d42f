"""What readers see of a state: rows in force, without what only the engine needs and without what is hidden."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.domain.projection import Projection
from tidemill.domain.table_shape import TableShape, key_names


@dataclass(frozen=True)
class ReadView:
    """A read model that the database makes of a state's rows whenever it is read: it has no lag and no rebuild.

    `name`: as readers ask for it (`client-configs`). `table`: name, columns and key of the view in the database, in the
    order of the state's table; each column is one of that table.
    """

    name: str
    table: TableShape

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Return the names of the key's columns, in order."""
        return key_names(self.table)


ReadModel = Projection | ReadView
"""What can be read by name and key."""
