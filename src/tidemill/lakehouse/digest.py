"""The digest over Arrow batches, equal to the one that PostgreSQL computes. Specified in `docs/archival.md`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.domain.archive.digest import DIGEST_VERSION
from tidemill.domain.archive.slices import LakeColumn, LakeType, Measured
from tidemill.lakehouse import lookup3
from tidemill.lakehouse.lookup3 import Hashes

_ROWS: Final = 8192
"""Rows hashed at once: their intermediate arrays stay in the processor's cache."""

_SAMPLE: Final = 1024
_MASK: Final = (1 << 64) - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS_TO_2000: Final = np.int32(10957)
_MICROSECONDS_TO_2000: Final = np.int64(946684800000000)


class Digest:
    """Measures rows as they pass, in any order and any batches."""

    def __init__(self, columns: Sequence[LakeColumn], time_column: str) -> None:
        """`time_column` is one of `columns`: its minimum and maximum are measured."""
        self._columns = tuple(columns)
        self._time = next(index for index, column in enumerate(columns) if column.name == time_column)
        self._rows = 0
        self._sum = 0
        self._xor = 0
        self._least: int | None = None
        self._greatest: int | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch; it must have been made to `conform`."""
        if not batch.num_rows:
            return
        ready = [_ready(batch.column(index), column) for index, column in enumerate(self._columns)]
        for start in range(0, batch.num_rows, _ROWS):
            hashes = row_hashes([array.slice(start, _ROWS) for array in ready], self._columns)
            self._sum = self._sum + int(hashes.sum(dtype=np.uint64)) & _MASK
            self._xor ^= int(np.bitwise_xor.reduce(hashes))
        self._rows += batch.num_rows
        self._widen(batch.column(self._time))

    def measured(self) -> Measured:
        """Return the measurement of all rows so far."""
        digest = f"{DIGEST_VERSION}:{self._sum:016x}:{self._xor:016x}"
        return Measured(self._rows, digest, self._instant(self._least), self._instant(self._greatest))

    def _widen(self, times: pa.Array) -> None:
        whole = times.view(pa.int32() if times.type.bit_width == 32 else pa.int64())
        found = pc.min_max(whole).as_py()
        if found["min"] is None:
            return
        self._least = found["min"] if self._least is None else min(self._least, found["min"])
        self._greatest = found["max"] if self._greatest is None else max(self._greatest, found["max"])

    def _instant(self, value: int | None) -> datetime | None:
        if value is None:
            return None
        days = self._columns[self._time].type is LakeType.DATE
        return _EPOCH + (timedelta(days=value) if days else timedelta(microseconds=value))


def row_hashes(arrays: Sequence[pa.Array], columns: Sequence[LakeColumn]) -> Hashes:
    """Return the hash of each row of some columns of equal length."""
    folded = np.zeros(len(arrays[0]), np.uint64)
    for array, column in zip(arrays, columns, strict=True):
        folded *= np.uint64(31)
        folded += column_hashes(array, column)
    return lookup3.hash_longs(folded)


def column_hashes(array: pa.Array, column: LakeColumn) -> Hashes:
    """Return the hash of each value of a column; that of NULL is 0."""
    if isinstance(array, pa.DictionaryArray):
        hashes = _by_dictionary(array, column)
    else:
        hashes = _value_hashes(array, column.type)
    if array.null_count:
        hashes[pc.is_null(array).to_numpy(zero_copy_only=False)] = 0
    return hashes


def _ready(array: pa.Array, column: LakeColumn) -> pa.Array:
    """Return a column in the form that is hashed fastest: decimals as text, and texts that repeat as a dictionary."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if column.type is LakeType.DECIMAL:
        array = _unscaled(array)
    if column.type in (LakeType.TEXT, LakeType.DECIMAL) and len(array) > _SAMPLE:
        sample = array.slice(0, _SAMPLE)
        if pc.count_distinct(sample).as_py() * 4 < _SAMPLE:
            return array.dictionary_encode()
    return array


def _by_dictionary(array: pa.DictionaryArray, column: LakeColumn) -> Hashes:
    of_values = np.append(_value_hashes(array.dictionary, column.type), np.uint64(0))
    indices: npt.NDArray[np.int32] = array.indices.fill_null(len(of_values) - 1).to_numpy(
        zero_copy_only=False
    )
    return of_values[indices]


def _value_hashes(array: pa.Array, kind: LakeType) -> Hashes:
    match kind:
        case LakeType.TEXT | LakeType.BYTES | LakeType.DECIMAL:
            return _of_strings(array)
        case LakeType.UUID:
            starts = (np.arange(len(array), dtype=np.int64) + array.offset) * 16
            return lookup3.hash_bytes(_bytes(array.buffers()[1]), starts, np.full(len(array), 16, np.int64))
        case LakeType.BOOLEAN | LakeType.INT16:
            return lookup3.hash_words(_numbers(pc.cast(array, pa.int32()), np.uint32))
        case LakeType.INT32:
            return lookup3.hash_words(_numbers(array, np.uint32))
        case LakeType.FLOAT32:
            return lookup3.hash_words(_numbers(array, np.uint32).byteswap())
        case LakeType.DATE:
            days = _numbers(array, np.int32) - _DAYS_TO_2000
            return lookup3.hash_words(days.view(np.uint32).byteswap())
    longs = _numbers(array, np.int64)
    if kind in (LakeType.TIMESTAMP, LakeType.INSTANT):
        longs = longs - _MICROSECONDS_TO_2000
    return lookup3.hash_longs(longs)


def _numbers(array: pa.Array, kind: type[Any]) -> npt.NDArray[Any]:
    """Return the values in memory; undefined where there is NULL."""
    values = array.buffers()[1]
    if values is None or not len(array):
        return np.zeros(len(array), kind)
    return np.frombuffer(values, kind)[array.offset : array.offset + len(array)]


def _bytes(buffer: pa.Buffer | None) -> npt.NDArray[np.uint8]:
    return np.frombuffer(buffer, np.uint8) if buffer is not None else np.zeros(0, np.uint8)


def _of_strings(array: pa.Array) -> Hashes:
    _, offsets, data = array.buffers()
    if offsets is None or not len(array):
        return np.zeros(len(array), np.uint64)
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    # Only the bytes of these rows: a slice of a large batch shares the buffer of the whole.
    return lookup3.hash_bytes(_bytes(data)[ends[0] : ends[-1]], ends[:-1] - ends[0], np.diff(ends))


def _unscaled(array: pa.Array) -> pa.Array:
    """Return decimals as the text of their digits without the point."""
    whole = pa.decimal128(38, 0)
    buffers = array.buffers()
    return pc.cast(
        pa.Array.from_buffers(whole, len(array), buffers, array.null_count, array.offset), pa.string()
    )
