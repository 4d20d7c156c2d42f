"""The port of queries: rows of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tidemill.domain.read_view import ReadModel


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of a row. `value`: as text, of the column's type."""

    column: str
    value: str
    comparison: Literal["=", ">=", "<"] = "="


class ReadModelReader(Protocol):
    """Where collections are read, and only read."""

    async def read(
        self, model: ReadModel, conditions: Sequence[Condition], limit: int
    ) -> list[dict[str, Any]]:
        """Return at most `limit` rows of which all conditions hold, column -> value, in key order; facts newest first.

        The conditions are about columns of the table. Raises `UsageError` (a value is not of its column's type, or
        the column cannot be compared; it took too long), `TableMisfit` (the table does not exist or may not be
        read), `Unavailable`.
        """
        ...
