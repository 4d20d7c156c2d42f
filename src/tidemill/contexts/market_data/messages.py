"""What is said about market data: one command, and the event that repeats it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from tidemill.api import CommandBase, EventBase, Label, checks

Symbol = Annotated[
    str, StringConstraints(min_length=1, max_length=32, pattern=r"^[A-Z0-9^][A-Z0-9.:/=^_-]*$")
]
"""A ticker as exchanges and vendors write it: `AAPL`, `BRK.B`, `^GSPC`, `EURUSD=X`, `BTC/USD`. Upper case, so that
nobody opens a second series under `aapl`."""

Volume = Annotated[float, Field(ge=0, le=1e15)]
"""What changed hands. Bounded so that the sums of it stay exact (see `read_models`)."""


class RecordMarketData(CommandBase):
    """Record what a symbol was worth at a time. Prices may be negative: oil was, in April 2020."""

    checks = (
        checks.Zoned("time"),
        checks.NotBelow("high", "low"),
        checks.Within("time", since=datetime(2000, 1, 1, tzinfo=UTC), ahead=timedelta(minutes=5)),
    )

    symbol: Symbol
    time: datetime
    price: float
    open: float | None = None
    high: float | None = None
    low: float | None = None
    volume: Volume | None = None
    source: Label


class MarketDataRecorded(EventBase):
    """A symbol's worth at a time was recorded. The fields are the command's; what happened is not judged again."""

    symbol: str
    time: datetime
    price: float
    open: float | None = None
    high: float | None = None
    low: float | None = None
    volume: float | None = None
    source: str
