"""Reading a collection by name: a page of its rows, by the first columns of its key, by other columns, by time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tidemill.domain.errors import UsageError
from tidemill.domain.read_view import FactsView, ReadModel
from tidemill.queries.ports import Condition, ReadModelReader

DEFAULT_LIMIT: Final = 20
MAX_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows are asked for. `key`: values of the first key columns. `where`: column -> value, as text.

    `since`, `until`: times of facts, the first inclusive, the second exclusive.
    """

    key: Sequence[str] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None


ALL_ROWS: Final = RowFilter()


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a collection, column -> value, in order; `more` tells whether further ones were left out."""

    columns: tuple[str, ...]
    rows: Sequence[dict[str, Any]]
    more: bool


class ReadModels:
    """The read models, entities and facts of a deployment, by name."""

    def __init__(self, models: Iterable[ReadModel], reader: ReadModelReader) -> None:
        """A name may also be asked for with underscores in place of its hyphens."""
        self._models = {model.name: model for model in models}
        self._reader = reader

    async def page(self, name: str, wanted: RowFilter = ALL_ROWS, limit: int = DEFAULT_LIMIT) -> Page:
        """Return the first rows that are wanted, in key order; of facts the newest ones, newest first.

        Raises:
            UsageError: there is no such collection, the filter does not fit, the limit is out of range.
            Unavailable: the database is unavailable.
            TableMisfit: the collection has no table, or this login may not read it.
        """
        model = self._named(name)
        conditions = [*_by_key(model, wanted.key), *_by_column(model, wanted.where), *_by_time(model, wanted)]
        if not 1 <= limit <= MAX_ROWS:
            raise UsageError(f"ask for 1 to {MAX_ROWS} rows, not {limit}")
        rows = await self._reader.read(model, conditions, limit + 1)
        names = tuple(column.name for column in model.table.columns)
        return Page(names, rows[:limit], more=len(rows) > limit)

    def _named(self, name: str) -> ReadModel:
        try:
            return self._models.get(name) or self._models[name.replace("_", "-")]
        except KeyError:
            known = ", ".join(sorted(self._models)) or "none"
            raise UsageError(f"there is no read model {name!r}; there is: {known}") from None


def _by_key(model: ReadModel, key: Sequence[str]) -> list[Condition]:
    columns = model.key_columns
    if key and not columns:
        raise UsageError(f"{model.name} has no key: facts are asked for by columns, --where COLUMN=VALUE")
    if len(key) > len(columns):
        raise UsageError(
            f"{model.name} has the key {', '.join(columns)}: give at most {len(columns)} values, not {len(key)}"
        )
    return [Condition(column, value) for column, value in zip(columns, key, strict=False)]


def _by_column(model: ReadModel, where: Mapping[str, str]) -> list[Condition]:
    names = [column.name for column in model.table.columns]
    if unknown := sorted(where.keys() - set(names)):
        raise UsageError(f"{model.name} has no column {', '.join(unknown)}; it has {', '.join(names)}")
    return [Condition(column, value) for column, value in where.items()]


def _by_time(model: ReadModel, wanted: RowFilter) -> Iterator[Condition]:
    if wanted.since is None and wanted.until is None:
        return
    if not isinstance(model, FactsView) or model.time_column is None:
        raise UsageError(f"{model.name} is not a table of facts with a time: leave out --from and --to")
    if wanted.since is not None:
        yield Condition(model.time_column, wanted.since.isoformat(), ">=")
    if wanted.until is not None:
        yield Condition(model.time_column, wanted.until.isoformat(), "<")
