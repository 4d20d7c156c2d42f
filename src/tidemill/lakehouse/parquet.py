"""Writes copies: Arrow batches in, Parquet files and a manifest out, in memory that does not grow with the copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from tidemill.domain.archive import LakeColumn, SliceId
from tidemill.lakehouse.layout import Manifest

FILE_BYTES: Final = 256 << 20


class LakeWriter:
    """Copies below one root: a folder of this machine, or any URL that fsspec opens."""

    def __init__(
        self, root: str, options: Mapping[str, Any] | None = None, *, file_bytes: int = FILE_BYTES
    ) -> None:
        """`options` are fsspec's for the root's kind of storage. A file ends when it has passed `file_bytes`."""
        raise NotImplementedError

    def find(self, slice_: SliceId, event_id: str) -> Manifest | None:
        """Return the complete copy that this event left, if there is one: answer with it, copy nothing."""
        raise NotImplementedError

    def write(
        self,
        slice_: SliceId,
        event_id: str,
        columns: Sequence[LakeColumn],
        time_column: str,
        batches: Iterable[pa.RecordBatch],
    ) -> Manifest:
        """Write one copy, digest on the way, and then its manifest; a slice without rows has no file.

        Raises:
            ValueError: the batches are not of these columns.
            Unavailable: the lake cannot be written.
        """
        raise NotImplementedError

    def remove(self, slice_: SliceId, event_id: str) -> int:
        """Remove what an event left of a slice, complete or not; return the number of files."""
        raise NotImplementedError
