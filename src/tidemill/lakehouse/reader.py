"""Reads copies back, only below allowed roots: nothing else is opened for a message."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from typing import IO, Any, Final, NamedTuple, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.domain.archive.slices import CopyPart, LakeColumn, LakeFile, Measured
from tidemill.domain.errors import CopyError, PathRefused
from tidemill.lakehouse.arrow import check_schema, conform
from tidemill.lakehouse.copy_input import copy_parts
from tidemill.lakehouse.digest import Digest
from tidemill.lakehouse.layout import Manifest, from_json, stored_manifests
from tidemill.lakehouse.locations import LakeLocation, absent, allowed, reading
from tidemill.lakehouse.spans import Bounds, Spans

_BATCH_ROWS: Final = 65_536
_SLOW_BATCH_ROWS: Final = 4_096
"""Many small ones a second, rather than a burst and a long pause."""

_BUFFER_BYTES: Final = 1 << 20


class Sized(Protocol):
    """Something with a size in memory: rows, or a piece of a file."""

    @property
    def nbytes(self) -> int:
        """How much."""
        ...


T = TypeVar("T", bound=Sized)


class Brake(Protocol):
    """Limits the rate of reading, as `archiver.read_pace.ReadPace` does."""

    @property
    def piece_bytes(self) -> int | None:
        """How much to read at a time; None: without limit."""
        ...

    def through(self, batches: Iterator[T]) -> Iterator[T]:
        """Let what was read pass at the rate."""
        ...


class MeasuredSpans(NamedTuple):
    """All rows below a path: one measurement per requested span, and the number of rows in none of them.

    `files`: for each span those that have rows of it.
    """

    measured: tuple[Measured, ...]
    outside: int
    files: tuple[tuple[str, ...], ...] = ()


class LakeReader:
    """Copies below some roots. Paths in messages are URLs, or absolute paths of this machine."""

    def __init__(self, roots: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        """`options` are fsspec's; they apply to every root that is not a folder of this machine."""
        self._roots = tuple(LakeLocation.of_root(root, options) for root in roots)
        self._brake: Brake | None = None

    def held_back(self, brake: Brake) -> LakeReader:
        """Return a reader of the same roots that reads no faster than that."""
        reader = copy(self)
        reader._brake = brake  # noqa: SLF001  its own class
        return reader

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
        digest = Digest(columns, time_column)
        for batch in self.batches(files, columns, time_column, bounds):
            digest.add(batch)
        return digest.measured()

    def split_by_bounds(
        self, path: str, columns: Sequence[LakeColumn], time_column: str, bounds: Sequence[Bounds]
    ) -> MeasuredSpans:
        """Measure all Parquet files below `path` (or the one it names) by disjoint spans, in one pass.

        Raises:
            as `read_back`; ValueError: the spans overlap.
        """
        spans = Spans(columns, time_column, bounds)
        digests = [Digest(columns, time_column) for _ in bounds]
        files: list[dict[str, None]] = [{} for _ in bounds]
        outside = 0
        for place in self._parquet_files(path):
            for batch in _batches(place, columns, self._brake):
                for number, rows in spans.split(batch):
                    if number is None:
                        outside += rows.num_rows
                    else:
                        digests[number].add(rows)
                        files[number][place.url] = None
        measured = tuple(digest.measured() for digest in digests)
        return MeasuredSpans(measured, outside, tuple(tuple(each) for each in files))

    def batches(
        self,
        files: Sequence[str],
        columns: Sequence[LakeColumn],
        time_column: str,
        bounds: Bounds | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows as they conform to the columns. Raises as `read_back`."""
        places = [allowed(file, self._roots) for file in files]
        spans = None if bounds is None else Spans(columns, time_column, [bounds])
        for place in places:
            for batch in _batches(place, columns, self._brake):
                if spans is None:
                    yield batch
                else:
                    yield from (rows for number, rows in spans.split(batch) if number == 0)

    def copy_parts(
        self,
        files: Sequence[str],
        columns: Sequence[LakeColumn],
        time_column: str,
        bounds: Bounds | None = None,
    ) -> Iterator[CopyPart]:
        """Yield the same rows as input of COPY, for `restore_batches`. Raises as `read_back`."""
        return copy_parts(self.batches(files, columns, time_column, bounds), columns)

    def files_below(self, path: str) -> list[str]:
        """Return the Parquet files below a place that no confirmation listed. Raises as `read_back`."""
        return [place.url for place in self._parquet_files(path)]

    def resolved(self, paths: Sequence[str]) -> list[str]:
        """Return the paths in the spelling of `MeasuredSpans.files`, only those below an allowed root."""
        found = []
        for path in paths:
            with suppress(PathRefused):
                found.append(allowed(path, self._roots).url)
        return found

    def damaged(self, file: LakeFile) -> str | None:
        """Return what is wrong with a file (missing, other size, not Parquet, other sha256), None if nothing is.

        Raises:
            PathRefused: it is not below an allowed root.
            Unavailable: the lake does not answer.
        """
        place = allowed(file.path, self._roots)
        found = hashlib.sha256()
        try:
            with reading(place):
                size = place.size_bytes()
                if size != file.size_bytes:
                    return f"it has {size} bytes, not {file.size_bytes}"
                _demand_parquet(place)  # hashing a disk's worth of zeros would take hours
                with place.open() as opened:
                    for piece in _braked(_pieces(opened), self._brake):
                        found.update(piece)
        except CopyError as error:
            return error.detail
        hexadecimal = found.hexdigest()
        return None if hexadecimal == file.sha256 else f"its sha256 is {hexadecimal}, not {file.sha256}"

    def manifests(self, root: str, table: str) -> Iterator[Manifest]:
        """Yield the complete copies of a table below a root. Raises as `read_back`."""
        for place in stored_manifests(allowed(root, self._roots), table):
            with reading(place), place.open() as opened:
                yield from_json(opened.read(), place)

    def _parquet_files(self, path: str) -> list[LakeLocation]:
        top = allowed(path, self._roots)
        with reading(top):
            found = [
                allowed(place.url, self._roots) for place in top.files() if _is_data(place.path, top.path)
            ]
        if not found:
            raise absent(top, "there is no Parquet file")
        return found


def _is_data(path: str, top: str) -> bool:
    """Distinguish data files from other files of writers, whose names begin with a dot or an underscore."""
    hidden = any(
        part.startswith((".", "_")) for part in posixpath.relpath(path, top).split("/") if part != "."
    )
    return path == top or (path.lower().endswith((".parquet", ".parq")) and not hidden)


def _pieces(opened: IO[bytes]) -> Iterator[memoryview]:
    while piece := opened.read(_BUFFER_BYTES):
        yield memoryview(piece)


def _braked(read: Iterator[T], brake: Brake | None) -> Iterator[T]:
    return read if brake is None else brake.through(read)


def _batches(
    place: LakeLocation, columns: Sequence[LakeColumn], brake: Brake | None
) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows; its pages' checksums are verified if it has any."""
    slow = brake is not None and brake.piece_bytes is not None
    with reading(place), _opened(place) as source:
        file = pq.ParquetFile(
            source, page_checksum_verification=True, pre_buffer=False, buffer_size=_BUFFER_BYTES
        )
        with _as_copy_error(place):
            check_schema(file.schema_arrow, columns)
        names = [column.name for column in columns]
        rows = _SLOW_BATCH_ROWS if slow else _BATCH_ROWS
        # a limited read uses at most one core
        for raw in _braked(file.iter_batches(rows, columns=names, use_threads=not slow), brake):
            with _as_copy_error(place):
                batch = conform(raw, columns)
            yield batch


def _demand_parquet(place: LakeLocation) -> None:
    with _opened(place) as source:
        pq.read_metadata(source)


@contextmanager
def _opened(place: LakeLocation) -> Iterator[Any]:
    place.size_bytes()
    with pa.OSFile(place.path) if place.is_local else place.open() as source:
        yield source


@contextmanager
def _as_copy_error(place: LakeLocation) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException:
        raise  # `reading` translates it
    except ValueError as error:
        raise CopyError(place.url, str(error)) from error
