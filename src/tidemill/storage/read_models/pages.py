"""Read models, read only: `queries.ports.ReadModelReader`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from tidemill.domain.errors import TableMisfit, UsageError
from tidemill.domain.read_view import FactsView, ReadModel
from tidemill.queries.ports import Condition
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

    async def read(
        self, model: ReadModel, conditions: Sequence[Condition], limit: int
    ) -> list[dict[str, Any]]:
        compared = tuple((condition.column, condition.comparison) for condition in conditions)
        newest_by = model.time_column if isinstance(model, FactsView) else None
        statement = table_sql.select_page(model.table, compared, newest_by)
        values = [condition.value for condition in conditions]
        async with connection(self._pool) as borrowed:
            try:
                async with borrowed.transaction(readonly=True):
                    await borrowed.execute(f"set local statement_timeout = {self._timeout_ms:d}")
                    with on_tables():
                        rows = await borrowed.fetch(statement, *values, limit)
            except TableMisfit as misfit:
                raise TableMisfit(
                    f"{model.name} cannot be read: {misfit.detail}; `tidemill status` says how to fix it"
                ) from misfit
            except (asyncpg.DataError, asyncpg.UndefinedFunctionError) as error:
                raise UsageError(_unfit(model, conditions, error)) from error
            except asyncpg.QueryCanceledError as error:
                raise UsageError(
                    f"{model.name} did not answer within {self._timeout_ms} ms: "
                    "name a key or times, or ask for fewer rows"
                ) from error
        return [dict(row) for row in rows]


def _unfit(model: ReadModel, conditions: Sequence[Condition], error: asyncpg.PostgresError) -> str:
    listed = ", ".join(
        f"{condition.column} {condition.comparison} {condition.value}" for condition in conditions
    )
    return f"{model.name}: {listed} does not fit: {error}"
