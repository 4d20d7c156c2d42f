"""Reading a read model by name: a page of its rows, by the first columns of its key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tidemill.domain.errors import UsageError
from tidemill.domain.projection import Projection
from tidemill.queries.ports import ReadModelReader

DEFAULT_LIMIT: Final = 20
MAX_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a read model, column -> value, in key order; `more` tells whether further ones were left out."""

    columns: tuple[str, ...]
    rows: Sequence[dict[str, Any]]
    more: bool


class ReadModels:
    """The read models of a deployment, by name."""

    def __init__(self, projections: Iterable[Projection], reader: ReadModelReader) -> None:
        """Names are those of the projections."""
        self._projections = {projection.name: projection for projection in projections}
        self._reader = reader

    async def page(self, name: str, key: Sequence[str] = (), limit: int = DEFAULT_LIMIT) -> Page:
        """Return the first rows whose key begins with `key`.

        Raises:
            UsageError: there is no such read model, the key does not fit, the limit is out of range.
            Unavailable: the database is unavailable.
            TableMisfit: the read model has no table, or this login may not read it.
        """
        projection = self._named(name)
        columns = projection.key_columns
        if len(key) > len(columns):
            raise UsageError(
                f"{name} has the key {', '.join(columns)}: give at most {len(columns)} values, not {len(key)}"
            )
        if not 1 <= limit <= MAX_ROWS:
            raise UsageError(f"ask for 1 to {MAX_ROWS} rows, not {limit}")
        rows = await self._reader.read(projection, key, limit + 1)
        names = tuple(column.name for column in projection.table.columns)
        return Page(names, rows[:limit], more=len(rows) > limit)

    def _named(self, name: str) -> Projection:
        try:
            return self._projections[name]
        except KeyError:
            known = ", ".join(sorted(self._projections)) or "none"
            raise UsageError(f"there is no read model {name!r}; there is: {known}") from None
