"""What readers ask for by name: of a state the rows in force without what is hidden, of facts all rows."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.domain.projection import Projection
from tidemill.domain.table_shape import TableShape, key_names, plain_name


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


@dataclass(frozen=True)
class FactsView:
    """A table of facts, which has no key. `time_column`: by which its newest rows come first, None if it has none."""

    table: TableShape
    time_column: str | None

    @property
    def name(self) -> str:
        """Return the name by which readers ask for it (`market-data`), with its schema unless that is `public`."""
        return plain_name(self.table).removeprefix("public.").replace("_", "-")

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Return none: two equal facts are two facts."""
        return ()


ReadModel = Projection | ReadView | FactsView
"""What can be read by name."""
