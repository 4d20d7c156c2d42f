"""Single documents: `submissions.ports.DocumentReader`, by SQL that `document_sql` generates from declared tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tidemill.domain.collection import Collection
from tidemill.domain.errors import ContractError
from tidemill.domain.table_shape import TableShape
from tidemill.storage.database.errors import on_tables
from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.database.table_sql import quoted, table_name


class DocumentDatabase:
    """Reads the tables of collections."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def values(
        self, collection: Collection, key: str, names: Sequence[str]
    ) -> Mapping[str, Any] | None:
        statement = document_sql(collection.table, collection.key, tuple(names))
        async with connection(self._pool) as borrowed:
            with on_tables():
                row = await borrowed.fetchrow(statement, key)
        return None if row is None else {name: row[name] for name in names}


@lru_cache(maxsize=1_000)
def document_sql(table: TableShape, key: tuple[str, ...], names: tuple[str, ...]) -> str:
    """Return the query of some columns of one document, by its key of one column.

    Raises:
        ContractError: the key is not one column, or a column does not exist.
    """
    if len(key) != 1 or any(name not in table.columns for name in (*key, *names)):
        raise ContractError(f"{table_name(table)} has no documents with {', '.join((*key, *names))}")
    columns = ", ".join(quoted(name) for name in names) or "1"
    return f"select {columns} from {table_name(table)} where {quoted(key[0])} = $1"
