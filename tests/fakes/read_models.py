"""Read models in memory, for those who ask: obeys the same conformance suite as the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from tests.fakes.views import MemoryViews
from tidemill.domain.errors import UsageError
from tidemill.domain.projection import Key, Projection
from tidemill.domain.read_view import ReadModel
from tidemill.queries.ports import Condition


class MemoryReadModels:
    """Reads what `MemoryViews` holds. Knows keys of text and of dates."""

    def __init__(self, views: MemoryViews) -> None:
        self._views = views

    async def read(
        self, model: ReadModel, conditions: Sequence[Condition], limit: int
    ) -> list[dict[str, Any]]:
        assert isinstance(model, Projection), "it holds no states and no facts"
        columns = model.table.columns
        wanted = {
            condition.column: _value(columns[condition.column].type.python_type, condition.value)
            for condition in conditions
        }
        rows: dict[Key, Any] = dict(self._views.rows(model))
        ordered = [asdict(rows[key]) for key in sorted(rows)]
        fitting = [row for row in ordered if all(row[name] == value for name, value in wanted.items())]
        return [{column.name: row[column.name] for column in columns} for row in fitting[:limit]]


def _value(kind: type, text: str) -> Any:
    try:
        return date.fromisoformat(text) if kind is date else kind(text)
    except ValueError as error:
        raise UsageError(f"{text} does not fit: {error}") from error
