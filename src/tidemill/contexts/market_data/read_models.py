"""Latest quote and daily bar of every symbol, the same whatever order late ticks and lanes come in.

Ticks are ordered by their own values: time, then lane and sequence. Highs and lows are maxima and minima,
volumes sums of exact decimals (a sum of floats depends on its order), so that no bar depends on the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from sqlalchemy import Integer

from tidemill.api import Projection, ReadModelBase, folds, row_table
from tidemill.contexts.market_data.messages import MarketDataRecorded

Lane = Annotated[int, Integer()]
"""The number of a lane: four bytes in the table."""


@dataclass(slots=True, kw_only=True)
class LatestQuote(ReadModelBase):
    """The newest tick of a symbol; `lane` and `sequence` identify its event."""

    symbol: str
    time: datetime
    price: float
    open: float | None
    high: float | None
    low: float | None
    volume: float | None
    source: str
    lane: Lane
    sequence: int


@dataclass(slots=True, kw_only=True)
class DailyBar(ReadModelBase):
    """A symbol's UTC day: first and last price, extremes, volume, ticks, and the first and last of them."""

    symbol: str
    day: date
    open: float
    high: float
    low: float
    close: float
    volume: Decimal
    ticks: int
    open_time: datetime
    open_lane: Lane
    open_sequence: int
    close_time: datetime
    close_lane: Lane
    close_sequence: int


latest_quotes = Projection.declared(
    "latest-quotes",
    row=LatestQuote,
    table=row_table("latest_quotes", LatestQuote, key="symbol"),
    event=MarketDataRecorded,
    key={"symbol": "symbol"},
    parts=(folds.Latest(by="time"),),
)

daily_bars = Projection.declared(
    "daily-bars",
    row=DailyBar,
    table=row_table("daily_bars", DailyBar, key=("symbol", "day")),
    event=MarketDataRecorded,
    key={"symbol": "symbol", "day": folds.UtcDay("time")},
    parts=(
        folds.First("open", of=("open", "price"), by="time"),
        folds.Max("high", of=("price", "open", "high")),
        folds.Min("low", of=("price", "open", "low")),
        folds.Last("close", of=("price",), by="time"),
        folds.Sum("volume", of="volume", scale=9),
        folds.Count("ticks"),
    ),
)
