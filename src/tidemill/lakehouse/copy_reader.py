"""Reading copies back: where a confirmation says they are, and how they are measured. Loads pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tidemill.archiver.read_pace import Pace
from tidemill.domain.archive.digest import DIGEST_VERSION
from tidemill.domain.archive.slices import CopyPart, LakeColumn, Measured, SliceId
from tidemill.domain.errors import CopyError
from tidemill.lakehouse.reader import LakeReader
from tidemill.retention.copy_ownership import why_not_own
from tidemill.retention.ports import CopyToVerify
from tidemill.retention.slices import CopyLocation, Slice

_NOTHING: Final = Measured(0, f"{DIGEST_VERSION}:{0:016x}:{0:016x}", None, None)


UnregisteredFiles = Callable[[str, Sequence[str]], list[str]]
"""Returns the files that a table of the catalog does not have."""


class LakeCopies:
    """`retention.ports.CopyReader` on Parquet files below allowed roots."""

    def __init__(self, reader: LakeReader, unregistered: UnregisteredFiles | None = None) -> None:
        """`reader` knows the roots, `unregistered` the catalog; without it files are read, not the table."""
        self._reader = reader
        self._unregistered = unregistered

    def measure(
        self, wanted: Sequence[CopyToVerify], time_column: str, bytes_per_s: int | None = None
    ) -> Mapping[SliceId, Measured]:
        """See `CopyReader`."""
        if bytes_per_s is not None:
            slow = LakeCopies(self._reader.held_back(Pace(bytes_per_s)), self._unregistered)
            return slow.measure(wanted, time_column)
        columns = wanted[0].slice.columns
        copy = wanted[0].copy
        if copy.files or not copy.location:
            return {each.slice.id: self._files(each, columns, time_column) for each in wanted}
        bounds = [(each.slice.id.start, each.slice.id.end) for each in wanted]
        split = self._reader.split_by_bounds(copy.location, columns, time_column, bounds)
        for each, files in zip(wanted, split.files, strict=True):
            self._demand_own(each.slice, files)
        return {each.slice.id: found for each, found in zip(wanted, split.measured, strict=True)}

    def damaged(self, copy: CopyLocation) -> list[str]:
        """Return what is wrong with the files of a copy, empty if they are as they were confirmed."""
        named = [file._replace(path=path) for file, path in zip(copy.files, copy.paths, strict=True)]
        found = [(file.path, self._reader.damaged(file)) for file in named]
        return [f"{path}: {what}" for path, what in found if what is not None]

    def parts(self, wanted: CopyToVerify, time_column: str) -> Iterator[CopyPart]:
        """Yield the rows of a slice's copy as COPY takes them. Raises as `measure`, from the first part on."""
        copy, archive_slice = wanted.copy, wanted.slice
        if copy.files:
            return self._reader.copy_parts(copy.paths, archive_slice.columns, time_column)
        if not copy.location:
            return iter(())
        bounds = (archive_slice.id.start, archive_slice.id.end)
        files = self._reader.files_below(copy.location)
        return self._reader.copy_parts(files, archive_slice.columns, time_column, bounds)

    def _files(self, wanted: CopyToVerify, columns: Sequence[LakeColumn], time_column: str) -> Measured:
        copy = wanted.copy
        if not copy.files:
            return _NOTHING
        wrong = self.damaged(copy) or self._outside(wanted, copy.paths)
        if wrong:
            raise CopyError(copy.location or copy.paths[0], "; ".join(wrong))
        self._demand_own(wanted.slice, self._reader.resolved(copy.paths))
        return self._reader.read_back(copy.paths, columns, time_column)

    def _demand_own(self, archive_slice: Slice, files: Sequence[str]) -> None:
        """Raise `CopyError` if a file holds the copy of another request."""
        left_at = self._reader.resolved(archive_slice.left_at)
        for file in files:
            why = why_not_own(archive_slice, file, left_at)
            if why is not None:
                raise CopyError(file, why)

    def _outside(self, wanted: CopyToVerify, paths: Sequence[str]) -> list[str]:
        if wanted.copy.lake_format != "iceberg" or self._unregistered is None:
            return []
        return [
            f"{path}: the table does not have it" for path in self._unregistered(wanted.slice.id.table, paths)
        ]
