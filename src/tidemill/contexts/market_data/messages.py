"""The messages of market data: one command, and the event that repeats it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from tidemill.api import CommandBase, EventBase, Label

Symbol = Annotated[
    str, StringConstraints(min_length=1, max_length=32, pattern=r"^[A-Z0-9^][A-Z0-9.:/=^_-]*$")
]
"""A ticker as exchanges and vendors write it: `AAPL`, `BRK.B`, `^GSPC`, `EURUSD=X`, `BTC/USD`. Upper case, so that
there is no second series under `aapl`."""

Volume = Annotated[float, Field(ge=0, le=1e15)]
"""The traded volume. Bounded so that its sums stay exact (see `read_models`)."""


class RecordMarketData(CommandBase):
    """Record the price of a symbol at a time. Prices may be negative, as that of oil in April 2020."""

    symbol: Symbol
    time: datetime
    price: float
    open: float | None = None
    high: float | None = None
    low: float | None = None
    volume: Volume | None = None
    source: Label

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.time.tzinfo is None:
            raise ValueError("time has no time zone: say which, or Z")
        if self.high is not None and self.low is not None and self.high < self.low:
            raise ValueError(f"high {self.high} is below low {self.low}")
        return self


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
