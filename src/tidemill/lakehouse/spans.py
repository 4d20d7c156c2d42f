"""Rows of a batch by their span of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.domain.archive.slices import LakeColumn, LakeType

Bounds = tuple[datetime, datetime]
"""A span of time: `start <= time < end`."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY_US: Final = 86_400_000_000
_LEAST: Final = np.iinfo(np.int64).min


class Spans:
    """Disjoint spans of a table's time column; times without a zone are in UTC."""

    def __init__(self, columns: Sequence[LakeColumn], time_column: str, bounds: Sequence[Bounds]) -> None:
        """Raise ValueError if spans overlap."""
        names = [column.name for column in columns]
        self._column = names.index(time_column)
        self._days = columns[self._column].type is LakeType.DATE
        spans = sorted(
            (_microseconds(start), _microseconds(end), number) for number, (start, end) in enumerate(bounds)
        )
        if any(earlier[1] > later[0] for earlier, later in pairwise(spans)):
            raise ValueError("spans overlap: rows of one slice cannot be distinguished from those of another")
        self._starts = np.array([start for start, _, _ in spans], np.int64)
        self._ends = np.array([end for _, end, _ in spans], np.int64)
        self._numbers = [number for _, _, number in spans]

    def split(self, batch: pa.RecordBatch) -> Iterator[tuple[int | None, pa.RecordBatch]]:
        """Yield the rows of each span by its number, None for rows in no span."""
        times = self._times(batch.column(self._column))
        at = np.searchsorted(self._starts, times, side="right") - 1
        at[(at >= 0) & (times >= self._ends[at])] = -1
        present = np.unique(at)
        for index in present:
            number = None if index < 0 else self._numbers[int(index)]
            yield number, batch if len(present) == 1 else batch.filter(pa.array(at == index))

    def _times(self, array: pa.Array) -> npt.NDArray[np.int64]:
        """Return the time of each row in microseconds since 1970; NULL sorts before all."""
        whole = array.view(pa.int32() if self._days else pa.int64())
        values: npt.NDArray[np.int64] = pc.fill_null(pc.cast(whole, pa.int64()), 0).to_numpy(
            zero_copy_only=False
        )
        times = values * (_DAY_US if self._days else 1)
        if array.null_count:
            times[pc.is_null(array).to_numpy(zero_copy_only=False)] = _LEAST
        return times


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND
