"""Writes copies: Arrow batches in, Parquet files and a manifest out, in memory that does not grow with the copy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.domain.archive.slices import LakeColumn, LakeFile, LakePlace, LakeType, Measured, SliceId
from tidemill.domain.errors import CopyError, CopyStands
from tidemill.lakehouse.arrow import conform, schema_of
from tidemill.lakehouse.digest import Digest
from tidemill.lakehouse.layout import Manifest, Names, from_json, table_folder, to_json
from tidemill.lakehouse.locations import LakeLocation, reading, writing
from tidemill.lakehouse.uncommitted_files import PendingFile, alone

FILE_BYTES: Final = 256 << 20
ROW_GROUP_BYTES: Final = 32 << 20
_AHEAD: Final = 1  # batches read while one is written
_LONG_DECIMAL: Final = 18  # digits that fit eight bytes

_ENCODINGS: Final = {
    LakeType.INT16: "DELTA_BINARY_PACKED",
    LakeType.INT32: "DELTA_BINARY_PACKED",
    LakeType.INT64: "DELTA_BINARY_PACKED",
    LakeType.DATE: "DELTA_BINARY_PACKED",
    LakeType.TIME: "DELTA_BINARY_PACKED",
    LakeType.TIMESTAMP: "DELTA_BINARY_PACKED",
    LakeType.INSTANT: "DELTA_BINARY_PACKED",
    LakeType.FLOAT32: "BYTE_STREAM_SPLIT",
    LakeType.FLOAT64: "BYTE_STREAM_SPLIT",
}


class LakeWriter:
    """Copies below one root: a folder of this machine, or any URL that fsspec opens."""

    def __init__(
        self,
        root: str,
        options: Mapping[str, Any] | None = None,
        *,
        file_bytes: int = FILE_BYTES,
        rows_in: str = "",
    ) -> None:
        """`options` are fsspec's for the root's kind of storage. A file ends when it has passed `file_bytes`.

        `rows_in`: the folder below a table's that new files go to; none by default.
        """
        self._root = LakeLocation.of_root(root, options)
        self._rows_in = rows_in
        self._file_bytes = file_bytes

    def find(self, slice_: SliceId, event_id: str) -> Manifest | None:
        """Return the complete copy of this event, if there is one: then nothing is copied.

        An unreadable or incomplete copy does not count: it is copied again.

        Raises:
            Unavailable: the lake cannot be read.
        """
        copies = map(_whole, Names.all_of(self._root, slice_, event_id))
        return next((copy for copy in copies if copy is not None), None)

    def write(
        self,
        slice_: SliceId,
        event_id: str,
        columns: Sequence[LakeColumn],
        time_column: str,
        batches: Iterable[pa.RecordBatch],
        demand: Callable[[Measured], None] | None = None,
    ) -> Manifest:
        """Write one copy, digesting it, and then its manifest; a slice without rows has no file.

        `demand` is called when all is written and nothing is in place: what it raises, and what raises inside
        `batches`, leaves all unchanged. An incomplete copy is replaced; a complete copy of the same rows stays, and
        is returned.

        Raises:
            ValueError: the batches are not of these columns.
            CopyStands: there is a copy of other rows under these names. Nothing was changed.
            Unavailable: the lake cannot be written.
        """
        names = Names.of(self._root, slice_, event_id, self._rows_in)
        copy = _Copy(names, columns, time_column, self._file_bytes)
        with writing(names.folder.url):
            try:
                _in_step(batches, copy.add)
                files = copy.finish()
                manifest = Manifest(
                    slice_, event_id, time_column, tuple(columns), copy.digest.measured(), files
                )
                if demand is not None:
                    demand(manifest.measured)
                with alone(names.records):
                    return _settle(Names.all_of(self._root, slice_, event_id), copy, manifest)
            except BaseException:
                copy.discard()
                raise

    def remove(self, slice_: SliceId, event_id: str) -> int:
        """Remove an event's copy of a slice, complete or not; return the number of files."""
        with writing(self._root.below(table_folder(slice_.table)).url):
            return _remove(Names.all_of(self._root, slice_, event_id), kept=())

    def publish(
        self, table: str, event_id: str, copies: Mapping[SliceId, object], superseded: Sequence[str]
    ) -> LakePlace:
        """Remove the copies of superseded events; a copy itself is visible once its files are in place."""
        for slice_ in copies:
            for earlier in superseded:
                if earlier != event_id:
                    self.remove(slice_, earlier)
        return LakePlace(self._root.below(table_folder(table)).url, "parquet")


def _whole(names: Names) -> Manifest | None:
    """Return the complete copy under these names, None if there is none that can be read. Raises `Unavailable`."""
    try:
        told = _told(names)
        return told if told is not None and _is_whole(names, told) else None
    except CopyError:
        return None


def _told(names: Names) -> Manifest | None:
    """Return the existing manifest, whether or not its files exist. Raises `CopyError` if it cannot be read."""
    with reading(names.manifest):
        if not names.manifest.exists():
            return None
        with names.manifest.open() as file:
            return from_json(file.read(), names.manifest)


def _is_whole(names: Names, manifest: Manifest) -> bool:
    """Tell whether all files of a manifest exist, with the sizes in it."""
    with reading(names.manifest):
        for number, file in enumerate(manifest.files):
            place = names.file(number)
            if not place.exists() or place.size_bytes() != file.size_bytes:
                return False
    return True


def _settle(places: Sequence[Names], copy: _Copy, manifest: Manifest) -> Manifest:
    """Put a copy in place, unless one is there: a slow writer must not touch a copy that rows were dropped for."""
    standing = [made for names in places if (made := _standing(names, manifest)) is not None]
    if standing:
        copy.discard()
        return standing[0]
    _remove(places, kept=copy.commit(manifest))  # an earlier attempt made more files, or elsewhere
    return manifest


def _remove(places: Sequence[Names], kept: Collection[str]) -> int:
    """Remove all files of a copy, wherever they are, but those that are kept; return their number."""
    surplus = {place.path: place for names in places for place in names.existing() if place.path not in kept}
    for place in surplus.values():
        place.storage.rm_file(place.path)
    return len(surplus)


def _standing(names: Names, wanted: Manifest) -> Manifest | None:
    """Return the existing complete copy. Raises `CopyStands` if there is one of other rows, complete or not.

    Raises `Unavailable` if that cannot be checked: a copy that was not read may be complete.
    """
    try:
        told = _told(names)
        if told is None:
            return None
        if told.measured != wanted.measured:
            raise CopyStands(
                names.manifest.url, wanted.slice, wanted.event_id, f"{told.measured}, not {wanted.measured}"
            )
        return told if _is_whole(names, told) else None
    except CopyError:  # a manifest that cannot be read, or files that were removed meanwhile
        return None


class _Copy:
    """A copy being written: batches are collected to row groups, row groups to files."""

    def __init__(
        self, names: Names, columns: Sequence[LakeColumn], time_column: str, file_bytes: int
    ) -> None:
        self.digest = Digest(columns, time_column)
        self._names = names
        self._columns = columns
        self._file_bytes = file_bytes
        self._gathered: list[pa.RecordBatch] = []
        self._files: list[tuple[PendingFile, int]] = []
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0

    def add(self, raw: pa.RecordBatch) -> None:
        batch = conform(raw, self._columns)
        self.digest.add(batch)
        self._gathered.append(batch)
        if sum(each.nbytes for each in self._gathered) >= ROW_GROUP_BYTES:
            self._write_gathered()

    def finish(self) -> tuple[LakeFile, ...]:
        """End the last file; nothing is in place yet."""
        self._write_gathered()
        self._end_file()
        return tuple(
            LakeFile(file.place.url, file.size_bytes, rows, file.sha256) for file, rows in self._files
        )

    def commit(self, manifest: Manifest) -> set[str]:
        """Put all files in place, the manifest last; return their paths."""
        last = PendingFile(self._names.manifest, self._names.unfinished)
        self._files.append((last, 0))
        last.write(to_json(manifest, self._names))
        for file, _ in self._files:
            file.commit()
        return {file.place.path for file, _ in self._files}

    def discard(self) -> None:
        if self._writer is not None:
            with suppress(OSError):  # it would write its footer; the failure is being raised already
                self._writer.close()
        for file, _ in self._files:
            file.discard()

    def _write_gathered(self) -> None:
        rows = sum(batch.num_rows for batch in self._gathered)
        if rows:
            if self._writer is None:
                file = PendingFile(self._names.file(len(self._files)), self._names.unfinished)
                self._files.append((file, 0))
                self._writer = _parquet_writer(file, self._columns)
            self._writer.write_table(pa.Table.from_batches(self._gathered), row_group_size=rows)
            self._rows += rows
            if self._files[-1][0].size_bytes >= self._file_bytes:
                self._end_file()
        self._gathered = []

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            file = self._files[-1][0]
            file.close()
            self._files[-1] = (file, self._rows)
            self._writer, self._rows = None, 0


def _parquet_writer(sink: PendingFile, columns: Sequence[LakeColumn]) -> pq.ParquetWriter:
    encodings = {column.name: encoding for column in columns if (encoding := _encoding(column)) is not None}
    return pq.ParquetWriter(
        sink,
        schema_of(columns),
        compression="zstd",
        compression_level=1,
        use_dictionary=[column.name for column in columns if column.type is LakeType.TEXT],
        column_encoding=encodings,
        store_decimal_as_integer=True,
        write_page_checksum=True,
    )


def _encoding(column: LakeColumn) -> str | None:
    if column.type is LakeType.DECIMAL:
        return "DELTA_BINARY_PACKED" if column.precision <= _LONG_DECIMAL else "BYTE_STREAM_SPLIT"
    return _ENCODINGS.get(column.type)


def _in_step(batches: Iterable[pa.RecordBatch], work: Any) -> None:
    """Do the work on each batch in a thread, while the caller's thread reads the next one."""
    waiting: queue.Queue[pa.RecordBatch | None] = queue.Queue(_AHEAD)
    faults: list[BaseException] = []

    def worker() -> None:
        while (batch := waiting.get()) is not None:
            if not faults:
                try:
                    work(batch)
                except BaseException as fault:  # noqa: BLE001  raised again in the caller's thread
                    faults.append(fault)

    thread = threading.Thread(target=worker, name="lake-writer")
    thread.start()
    try:
        for batch in batches:
            waiting.put(batch)
            if faults:
                break
    finally:
        waiting.put(None)
        thread.join()
    if faults:
        raise faults[0]
