"""Brings the rows of a copy back by COPY. Values come as text that PostgreSQL itself reads, whatever their types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidemill.domain.archive import CopyPart, LakeColumn
from tidemill.storage.pool import Connection


async def restore_batches(
    connection: Connection, table: str, columns: Sequence[LakeColumn], parts: Iterator[CopyPart]
) -> int:
    """COPY `parts` into `table` (`schema.table`), in the caller's transaction; return the number of rows.

    `parts` is advanced in a thread, a part ahead. Columns that the table generates are left to it.
    """
    raise NotImplementedError
