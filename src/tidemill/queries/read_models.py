"""Reading a read model by name: a page of its rows, by the first columns of its key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tidemill.domain.errors import UsageError
from tidemill.domain.read_view import ReadModel
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

    def __init__(self, models: Iterable[ReadModel], reader: ReadModelReader) -> None:
        """A name may also be asked for with underscores in place of its hyphens."""
        self._models = {model.name: model for model in models}
        self._reader = reader

    async def page(self, name: str, key: Sequence[str] = (), limit: int = DEFAULT_LIMIT) -> Page:
        """Return the first rows whose key begins with `key`.

        Raises:
            UsageError: there is no such read model, the key does not fit, the limit is out of range.
            Unavailable: the database is unavailable.
            TableMisfit: the read model has no table, or this login may not read it.
        """
        model = self._named(name)
        columns = model.key_columns
        if len(key) > len(columns):
            raise UsageError(
                f"{name} has the key {', '.join(columns)}: give at most {len(columns)} values, not {len(key)}"
            )
        if not 1 <= limit <= MAX_ROWS:
            raise UsageError(f"ask for 1 to {MAX_ROWS} rows, not {limit}")
        rows = await self._reader.read(model, key, limit + 1)
        names = tuple(column.name for column in model.table.columns)
        return Page(names, rows[:limit], more=len(rows) > limit)

    def _named(self, name: str) -> ReadModel:
        try:
            return self._models.get(name) or self._models[name.replace("_", "-")]
        except KeyError:
            known = ", ".join(sorted(self._models)) or "none"
            raise UsageError(f"there is no read model {name!r}; there is: {known}") from None
