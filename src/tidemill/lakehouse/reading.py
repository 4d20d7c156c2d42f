"""Reads copies back, only below allowed roots: whatever a message says, nothing else is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tidemill.domain.archive import CopyPart, LakeColumn, LakeFile, Measured
from tidemill.lakehouse.layout import Manifest

Bounds = tuple[datetime, datetime]


class Split(NamedTuple):
    """All rows below a path: one measurement per span asked for, and the number of rows in none of them."""

    measured: tuple[Measured, ...]
    outside: int


class LakeReader:
    """Copies below some roots. Paths in messages are URLs, or absolute paths of this machine."""

    def __init__(self, roots: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        """`options` are fsspec's; they go with every root that is no folder of this machine."""
        raise NotImplementedError

    def read_back(
        self,
        files: Sequence[str],
        columns: Sequence[LakeColumn],
        time_column: str,
        bounds: Bounds | None = None,
    ) -> Measured:
        """Measure the rows of the files; with `bounds` only those of `start <= time < end`.

        Raises:
            PathRefused: a file is not below an allowed root.
            CopyError: a file is missing or damaged, or a column is missing or of another type.
            Unavailable: the lake does not answer.
        """
        raise NotImplementedError

    def split_by_bounds(
        self, path: str, columns: Sequence[LakeColumn], time_column: str, bounds: Sequence[Bounds]
    ) -> Split:
        """Measure all Parquet files below `path` (or the one it names) by disjoint spans, in one pass.

        Raises:
            as `read_back`; ValueError: the spans overlap.
        """
        raise NotImplementedError

    def copy_parts(
        self,
        files: Sequence[str],
        columns: Sequence[LakeColumn],
        time_column: str,
        bounds: Bounds | None = None,
    ) -> Iterator[CopyPart]:
        """Yield the same rows as COPY takes them, for `storage.restoring.restore_batches`."""
        raise NotImplementedError

    def damaged(self, file: LakeFile) -> str | None:
        """Return what is wrong with a file (gone, other size, other sha256), None if nothing is."""
        raise NotImplementedError

    def manifests(self, root: str, table: str) -> Iterator[Manifest]:
        """Yield the complete copies of a table below a root."""
        raise NotImplementedError
