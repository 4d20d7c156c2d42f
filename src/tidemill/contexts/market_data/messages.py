"""The messages of market data: one command, and the event that repeats it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from tidemill.api import CommandBase, EventBase, Label, checks

Symbol = Annotated[
    str, StringConstraints(min_length=1, max_length=32, pattern=r"^[A-Z0-9^][A-Z0-9.:/=^_-]*$")
]
"""A ticker as exchanges and vendors write it: `AAPL`, `BRK.B`, `^GSPC`, `EURUSD=X`, `BTC/USD`. Upper case, so that
there is no second series under `aapl`."""

Volume = Annotated[float, Field(ge=0, le=1e15)]
"""The traded volume. Bounded so that its sums stay exact (see `read_models`)."""


class RecordMarketData(CommandBase):
    """Record the price of a symbol at a time. Prices may be negative, as that of oil in April 2020."""

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
    """The price of a symbol at a time was recorded. The fields are the command's; a fact is not checked again."""

    symbol: str
    time: datetime
    price: float
    open: float | None = None
    high: float | None = None
    low: float | None = None
    volume: float | None = None
    source: str
