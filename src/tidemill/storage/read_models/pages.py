"""Read models, read only: `queries.ports.ReadModelReader`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from tidemill.domain.errors import TableMisfit, UsageError
from tidemill.domain.read_view import ReadModel
from tidemill.storage.database import table_sql
from tidemill.storage.database.errors import on_tables
from tidemill.storage.database.pool import Lender, connection

QUERY_TIMEOUT_MS: Final = 5_000


class ReadModelDatabase:
    """Reads in transactions that cannot write, within a time-out, with a login that needs only SELECT."""

    def __init__(self, pool: Lender, *, timeout_ms: int = QUERY_TIMEOUT_MS) -> None:
        """`timeout_ms`: how long the server may take for one answer."""
        self._pool = pool
        self._timeout_ms = timeout_ms

    async def read(self, model: ReadModel, key: Sequence[str], limit: int) -> list[dict[str, Any]]:
        statement = table_sql.select_page(model.table, len(key))
        async with connection(self._pool) as borrowed:
            try:
                async with borrowed.transaction(readonly=True):
                    await borrowed.execute(f"set local statement_timeout = {self._timeout_ms:d}")
                    with on_tables():
                        rows = await borrowed.fetch(statement, *key, limit)
            except TableMisfit as misfit:
                raise TableMisfit(
                    f"{model.name} cannot be read: {misfit.detail}; `tidemill status` says how to fix it"
                ) from misfit
            except asyncpg.DataError as error:
                raise UsageError(_unfit(model, key, error)) from error
            except asyncpg.QueryCanceledError as error:
                raise UsageError(
                    f"{model.name} did not answer within {self._timeout_ms} ms: give a key, or ask for fewer rows"
                ) from error
        return [dict(row) for row in rows]


def _unfit(model: ReadModel, key: Sequence[str], error: asyncpg.DataError) -> str:
    columns = ", ".join(model.key_columns)
    return f"{model.name} has the key {columns}, which {', '.join(key)} does not fit: {error}"
