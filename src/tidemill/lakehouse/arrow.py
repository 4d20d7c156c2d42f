"""A copy's columns as Arrow sees them, and other writers' types made ours: without loss, or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tidemill.domain.archive import LakeColumn


def schema_of(columns: Sequence[LakeColumn]) -> pa.Schema:
    """Return the Arrow schema of a copy; the PostgreSQL type of each column is in its field's metadata."""
    raise NotImplementedError


def conform(batch: pa.RecordBatch, columns: Sequence[LakeColumn]) -> pa.RecordBatch:
    """Return the batch with exactly the copy's columns in order, found by name; other columns are left out.

    Raises:
        ValueError: a column is missing, or has a type or a value that cannot be held without loss.
    """
    raise NotImplementedError
