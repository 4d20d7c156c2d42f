"""Declared folds: what a declaration may not say. What the folds do is in `test_column_fold`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from tidemill.api import ContractError, EventBase, Projection, ReadModelBase, folds, row_table


class Measured(EventBase):
    sensor: str
    time: datetime
    value: float
    peak: float | None = None
    count: int = 0


@dataclass(kw_only=True)
class Summary(ReadModelBase):
    sensor: str
    day: date
    peak: float
    total: Decimal


KEY = {"sensor": "sensor", "day": folds.UtcDay("time")}
PEAK = folds.Max("peak", of=("value", "peak"))
TOTAL = folds.Sum("total", of="value", scale=3)


def declared(**changes: Any) -> Projection:
    said: dict[str, Any] = {"row": Summary, "event": Measured, "key": KEY, "parts": (PEAK, TOTAL)}
    table = row_table("summary", Summary, key=("sensor", "day"))
    return Projection.declared("summaries", table=table, **said | changes)


def test_what_fits_is_a_projection_like_others() -> None:
    projection = declared()
    assert projection.key_columns == ("sensor", "day")
    assert list(projection.folds) == [Measured]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"parts": (PEAK,)}, "fill day, peak, sensor: fill each once"),
        ({"parts": (PEAK, TOTAL, folds.Min("peak", of=("value",)))}, "fill each once"),
        ({"parts": (PEAK, TOTAL, folds.Count("readings"))}, "readings"),
        ({"key": dict(reversed(KEY.items()))}, "day, sensor, that of its table sensor, day"),
        ({"parts": (PEAK, folds.Sum("total", of="valeu", scale=3))}, "valeu of Measured, which has no such"),
        ({"parts": (folds.Max("peak", of=("peak", "value")), TOTAL)}, "peak of Measured as float: it"),
        ({"parts": (PEAK, folds.Sum("total", of="count", scale=3))}, "count of Measured as None or float"),
        ({"key": {"sensor": "sensor", "day": folds.UtcDay("value")}}, "value of Measured as datetime"),
        ({"key": {"sensor": "count", "day": folds.UtcDay("time")}}, "count of Measured as str"),
    ],
)
def test_what_does_not_fit_is_refused_at_start(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ContractError, match=why):
        declared(**changes)


@pytest.mark.parametrize("scale", [0, 10])
def test_a_scale_that_a_batch_could_not_be_summed_at_is_refused(scale: int) -> None:
    with pytest.raises(ContractError, match=f"scale {scale} is not 1 to 9"):
        folds.Sum("total", of="value", scale=scale)
