"""Arrow batches as input of COPY: CSV, in which PostgreSQL parses every value itself.

All floats become the shortest text that restores their bits, but NaN has one text and many bit patterns: rows with
one that is not PostgreSQL's own are inserted separately.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from tidemill.domain.archive.slices import CopyPart, LakeColumn, LakeType

_FLOATS: Final = {
    LakeType.FLOAT32: (np.uint32, np.uint32(0x7FC00000)),
    LakeType.FLOAT64: (np.uint64, np.uint64(0x7FF8000000000000)),
}
_PREFIX: Final = pa.scalar("\\x", pa.large_string())
_NOTHING: Final = pa.scalar("", pa.large_string())
_DIGITS: Final = np.frombuffer(b"0123456789abcdef", np.uint8)


def copy_parts(batches: Iterable[pa.RecordBatch], columns: Sequence[LakeColumn]) -> Iterator[CopyPart]:
    """Yield a part for each batch, which must have been made to `conform`. Instants are in UTC, without a zone."""
    for batch in batches:
        odd = _odd_rows(batch, columns)
        plain = batch.filter(pc.invert(odd)) if odd is not None else batch
        rows = _by_themselves(batch.filter(odd), columns) if odd is not None else ()
        yield CopyPart(batch.num_rows, _csv(_as_text(plain, columns)), rows)


def _csv(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    pcsv.write_csv(batch, sink, pcsv.WriteOptions(include_header=False, batch_size=8192))
    return bytes(sink.getvalue())


def _as_text(batch: pa.RecordBatch, columns: Sequence[LakeColumn]) -> pa.RecordBatch:
    """Return the batch with bytes and UUIDs as their text; CSV does the rest."""
    arrays = [_texts(batch.column(index), column) for index, column in enumerate(columns)]
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{index}" for index in range(len(arrays))])


def _texts(array: pa.Array, column: LakeColumn) -> pa.Array:
    if column.type is LakeType.UUID:
        width = pa.array(np.arange(len(array) + 1, dtype=np.int32) * 16).buffers()[1]
        storage = array.storage
        data = (
            storage.buffers()[1].slice(storage.offset * 16, len(array) * 16)
            if len(array)
            else pa.py_buffer(b"")
        )
        return _hexadecimal(width, data, pc.is_null(storage))
    if column.type is LakeType.BYTES:
        whole = pa.concat_arrays([pc.fill_null(array, b"")])
        _, offsets, data = whole.buffers()
        digits = _hexadecimal(offsets, data, pc.is_null(array))
        return pc.binary_join_element_wise(_PREFIX, digits, _NOTHING)
    if column.type is LakeType.INSTANT:
        # UTC without the zone: Arrow takes forty times as long to write it
        return array.cast(pa.timestamp("us"))
    if pa.types.is_dictionary(array.type):
        return array.dictionary_decode()
    return array


def _hexadecimal(offsets: pa.Buffer, data: pa.Buffer | None, nulls: pa.Array) -> pa.Array:
    """Return byte strings as hexadecimal digits, NULL where `nulls` is true."""
    count = len(nulls)
    ends = np.frombuffer(offsets, np.int32)[: count + 1].astype(np.int64)
    raw = (np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8))[ends[0] : ends[-1]]
    digits = np.empty(2 * len(raw), np.uint8)
    digits[0::2] = _DIGITS[raw >> 4]
    digits[1::2] = _DIGITS[raw & 15]
    made = pa.LargeStringArray.from_buffers(count, pa.py_buffer((ends - ends[0]) * 2), pa.py_buffer(digits))
    return pc.if_else(nulls, pa.scalar(None, pa.large_string()), made)


def _odd_rows(batch: pa.RecordBatch, columns: Sequence[LakeColumn]) -> pa.Array | None:
    """Return which rows hold a NaN of another bit pattern than PostgreSQL's own, None if there are none."""
    odd = np.zeros(batch.num_rows, np.bool_)
    for index, column in enumerate(columns):
        if column.type in _FLOATS and batch.num_rows:
            odd |= _odd_nans(batch.column(index), *_FLOATS[column.type])
    return pa.array(odd) if odd.any() else None


def _odd_nans(array: pa.Array, kind: Any, own: Any) -> Any:
    nan = pc.fill_null(pc.is_nan(array), fill_value=False).to_numpy(zero_copy_only=False)
    bits = np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array)]
    return nan & (bits != own)


def _by_themselves(
    batch: pa.RecordBatch, columns: Sequence[LakeColumn]
) -> tuple[tuple[float | str | None, ...], ...]:
    values = []
    for array, column in zip(_as_text(batch, columns).columns, columns, strict=True):
        values.append(
            array.to_pylist() if column.type in _FLOATS else pc.cast(array, pa.string()).to_pylist()
        )
    return tuple(zip(*values, strict=True))
