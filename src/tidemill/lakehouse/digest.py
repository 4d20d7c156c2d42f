"""The digest over Arrow batches, equal to the one that PostgreSQL computes. Written out in `docs/archival.md`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tidemill.domain.archive import LakeColumn, Measured


class Digest:
    """Measures rows as they pass, in any order and any batches."""

    def __init__(self, columns: Sequence[LakeColumn], time_column: str) -> None:
        """`time_column` is one of `columns`: its least and greatest values are kept."""
        raise NotImplementedError

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the rows of a batch in; it must have been made to `conform`."""
        raise NotImplementedError

    def measured(self) -> Measured:
        """Return what is true of all rows so far."""
        raise NotImplementedError
