"""The archiver's `ChunkReader`: rows as Arrow batches. Loads pyarrow and ADBC: only archivers import it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import pyarrow as pa

from tidemill.storage.retention.arrow_reader import BATCH_BYTES, read

MAX_S: Final = 24 * 3600.0
"""How long one chunk may be read: a rate-limited copy takes hours."""


class DatabaseChunks:
    """See `ChunkReader`. Every read has its own connection and snapshot."""

    def __init__(
        self,
        dsn: str,
        *,
        application_name: str = "tidemill archiver",
        batch_bytes: int = BATCH_BYTES,
        max_s: float = MAX_S,
    ) -> None:
        """`dsn`: a URL that holds a password, of a login that may only read."""
        self._dsn = dsn
        self._application_name = application_name
        self._batch_bytes = batch_bytes
        self._max_s = max_s

    def read(self, read_sql: str, batch_bytes: int | None = None) -> Generator[pa.RecordBatch, None, None]:
        yield from read(
            self._dsn,
            read_sql,
            batch_bytes=min(batch_bytes or self._batch_bytes, self._batch_bytes),
            timeout_s=self._max_s,
            application_name=self._application_name,
        )
