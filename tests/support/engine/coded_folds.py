"""The folds of market data as they were coded before they were declared: what the declared ones are compared with."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Context as Arithmetic
from decimal import Decimal
from typing import Final

from tidemill.contexts.market_data.messages import MarketDataRecorded
from tidemill.contexts.market_data.read_models import DailyBar, LatestQuote, daily_bars, latest_quotes
from tidemill.domain.projection import Projection, Recorded

_NOTHING: Final = Decimal("0e-9")
_EXACT: Final = Arithmetic(prec=60)


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


coded_quotes = Projection(
    name=latest_quotes.name,
    row=LatestQuote,
    table=latest_quotes.table,
    key=lambda event: (event.symbol,),
    folds={MarketDataRecorded: remember_latest},
)

coded_bars = Projection(
    name=daily_bars.name,
    row=DailyBar,
    table=daily_bars.table,
    key=lambda event: (event.symbol, _day(event.time)),
    folds={MarketDataRecorded: add_to_bar},
)
