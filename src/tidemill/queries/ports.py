"""The port of queries: rows of a read model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tidemill.domain.read_view import ReadModel


class ReadModelReader(Protocol):
    """Where read models are read, and only read."""

    async def read(self, model: ReadModel, key: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Return at most `limit` rows, column -> value, in key order.

        `key`: values of the first key columns, as text, in order; no more values than columns. Raises `UsageError` (a
        value is not of its column's type; it took too long), `TableMisfit` (the table does not exist or may not be
        read), `Unavailable`.
        """
        ...
