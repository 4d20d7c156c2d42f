"""A lake of Parquet files in folders: the archiver's `Lake` without any catalog.

Whatever is below a table's folder is what its readers see, so a copy that another one supersedes is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tidemill.archiver.ports import Copy
from tidemill.domain.archive import LakeColumn, LakePlace, SliceId
from tidemill.lakehouse.layout import Manifest
from tidemill.lakehouse.parquet import LakeWriter


class ParquetLake:
    """See `Lake`. `root` and `options` are those of `LakeWriter`."""

    def __init__(self, root: str, options: Mapping[str, Any] | None = None, **writing: Any) -> None:
        self._root = root
        self._writer = LakeWriter(root, options, **writing)

    def find(self, slice_: SliceId, event_id: str) -> Manifest | None:
        return self._writer.find(slice_, event_id)

    def write(
        self,
        slice_: SliceId,
        event_id: str,
        columns: Sequence[LakeColumn],
        time_column: str,
        batches: Iterable[pa.RecordBatch],
    ) -> Manifest:
        return self._writer.write(slice_, event_id, columns, time_column, batches)

    def remove(self, slice_: SliceId, event_id: str) -> int:
        return self._writer.remove(slice_, event_id)

    def publish(
        self, table: str, event_id: str, copies: Mapping[SliceId, Copy], superseded: Sequence[str]
    ) -> LakePlace:
        for slice_ in copies:
            for old in superseded:
                if old != event_id:
                    self._writer.remove(slice_, old)
        return LakePlace(f"{self._root}/{table}", "parquet")
