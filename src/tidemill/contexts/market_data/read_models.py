"""Latest quote and daily bar of every symbol, the same whatever order late ticks and lanes come in.

Ticks are ordered by their own values: time, then lane and sequence. Highs and lows are maxima and minima,
volumes sums of exact decimals (a sum of floats depends on its order), so that no bar depends on the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context as Arithmetic
from decimal import Decimal
from typing import Annotated, Final

from sqlalchemy import Integer

from tidemill.api import Projection, ReadModelBase, Recorded, row_table
from tidemill.contexts.market_data.messages import MarketDataRecorded

Lane = Annotated[int, Integer()]
"""The number of a lane: four bytes in the table."""

_NOTHING: Final = Decimal("0e-9")
_EXACT: Final = Arithmetic(prec=60)  # 1e15 to nine decimals are 25 digits: room for 1e35 ticks a day


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


def remember_latest(row: LatestQuote | None, tick: Recorded[MarketDataRecorded]) -> LatestQuote:
    """Keep the newer of the row and the tick."""
    event = tick.event
    if row is None:
        return LatestQuote(
            symbol=event.symbol,
            time=event.time,
            price=event.price,
            open=event.open,
            high=event.high,
            low=event.low,
            volume=event.volume,
            source=event.source,
            lane=tick.lane,
            sequence=tick.sequence,
        )
    if event.time < row.time or (event.time == row.time and tick.order < (row.lane, row.sequence)):
        return row
    row.time = event.time
    row.price = event.price
    row.open = event.open
    row.high = event.high
    row.low = event.low
    row.volume = event.volume
    row.source = event.source
    row.lane = tick.lane
    row.sequence = tick.sequence
    return row


def add_to_bar(row: DailyBar | None, tick: Recorded[MarketDataRecorded]) -> DailyBar:
    """Add the tick to its day."""
    event = tick.event
    first = event.price if event.open is None else event.open
    high, low = _extremes(event, first)
    if row is None:
        return _new_bar(tick, first, high, low)
    row.ticks += 1
    if event.volume is not None:
        row.volume = _add(row.volume, event.volume)
    row.high = max(row.high, high)
    row.low = min(row.low, low)
    time = event.time
    if time < row.open_time or (time == row.open_time and tick.order < (row.open_lane, row.open_sequence)):
        row.open, row.open_time, row.open_lane, row.open_sequence = first, time, tick.lane, tick.sequence
    if time > row.close_time or (
        time == row.close_time and tick.order > (row.close_lane, row.close_sequence)
    ):
        row.close, row.close_time, row.close_lane, row.close_sequence = (
            event.price,
            time,
            tick.lane,
            tick.sequence,
        )
    return row


def _new_bar(tick: Recorded[MarketDataRecorded], first: float, high: float, low: float) -> DailyBar:
    event = tick.event
    return DailyBar(
        symbol=event.symbol,
        day=_day(event.time),
        open=first,
        high=high,
        low=low,
        close=event.price,
        volume=_NOTHING if event.volume is None else _add(_NOTHING, event.volume),
        ticks=1,
        open_time=event.time,
        open_lane=tick.lane,
        open_sequence=tick.sequence,
        close_time=event.time,
        close_lane=tick.lane,
        close_sequence=tick.sequence,
    )


def _extremes(event: MarketDataRecorded, first: float) -> tuple[float, float]:
    """Return the highest and the lowest price of a tick."""
    high = max(event.price, first)
    low = min(event.price, first)
    if event.high is not None:
        high = max(high, event.high)
    if event.low is not None:
        low = min(low, event.low)
    return high + 0.0, low + 0.0  # of 0.0 and -0.0, which are equal, the one that comes first would win


def _add(total: Decimal, volume: float) -> Decimal:
    """Add the volume exactly, to nine decimals; most volumes are integers, which is the faster case."""
    return _EXACT.add(total, int(volume) if volume.is_integer() else Decimal(f"{volume:.9f}"))


def _day(time: datetime) -> date:
    return time.date() if time.tzinfo is UTC else time.astimezone(UTC).date()


latest_quotes = Projection(
    name="latest-quotes",
    row=LatestQuote,
    table=row_table("latest_quotes", LatestQuote, key="symbol"),
    key=lambda event: (event.symbol,),
    folds={MarketDataRecorded: remember_latest},
)

daily_bars = Projection(
    name="daily-bars",
    row=DailyBar,
    table=row_table("daily_bars", DailyBar, key=("symbol", "day")),
    key=lambda event: (event.symbol, _day(event.time)),
    folds={MarketDataRecorded: add_to_bar},
)
