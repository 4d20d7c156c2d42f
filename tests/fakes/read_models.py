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


class MemoryReadModels:
    """Reads what `MemoryViews` holds. Knows keys of text and of dates."""

    def __init__(self, views: MemoryViews) -> None:
        self._views = views

    async def read(self, model: ReadModel, key: Sequence[str], limit: int) -> list[dict[str, Any]]:
        assert isinstance(model, Projection), "it holds no states"
        columns = list(model.table.primary_key.columns)
        wanted = tuple(
            _value(column.type.python_type, text) for column, text in zip(columns, key, strict=False)
        )
        rows: dict[Key, Any] = dict(self._views.rows(model))
        found = [rows[one] for one in sorted(rows) if one[: len(wanted)] == wanted]
        names = [column.name for column in model.table.columns]
        return [{name: asdict(row)[name] for name in names} for row in found[:limit]]


def _value(kind: type, text: str) -> Any:
    try:
        return date.fromisoformat(text) if kind is date else kind(text)
    except ValueError as error:
        raise UsageError(f"{text} does not fit: {error}") from error
