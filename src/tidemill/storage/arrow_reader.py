"""Reads rows as Arrow batches, by ADBC: some ten times quicker than rows as Python objects. Synchronous."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

BATCH_BYTES: Final = 32 << 20


def read(dsn: str, read_sql: str, *, batch_bytes: int = BATCH_BYTES) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `read_sql` in batches of about `batch_bytes`, as one read-only snapshot sees them.

    Settings are pinned. Types are ADBC's: `lakehouse.arrow.conform` makes them the copy's. Close the iterator to let
    go of the connection early.

    Raises:
        Unavailable: the server is away, or went away.
        ContractError: the server refuses the statement.
    """
    raise NotImplementedError
