"""The real data: the daily quotes of five stocks that come with the package `bokeh_sampledata`.

The plan reads the file with the standard library and the proof uses pandas, so that neither can agree with its own
mistake. The prices are unadjusted, as published on the day; the data is in the public domain.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Final, NamedTuple

from tidemill_devkit.demo.samples import sample_file

SYMBOLS: Final = ("AAPL", "FB", "GOOG", "IBM", "MSFT")

ROWS: Final = 12_154
"""Quotes in the file."""

CLOSE_OF_TRADING: Final = time(21, tzinfo=UTC)

_FILE: Final = "stocks.csv.gz"


@dataclass(frozen=True, slots=True)
class Quote:
    """One stock on one day. `volume` counts shares."""

    symbol: str
    day: date
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def time(self) -> datetime:
        """Return when the quote was final: the close in New York, to the hour."""
        return datetime.combine(self.day, CLOSE_OF_TRADING)


class Extremes(NamedTuple):
    """The highest and the lowest price of a year."""

    high: float
    low: float


KNOWN: Final[Mapping[tuple[str, int], Extremes]] = {
    ("AAPL", 2012): Extremes(705.07, 409.0),
    ("FB", 2012): Extremes(45.0, 17.55),
    ("GOOG", 2008): Extremes(697.37, 247.3),
    ("IBM", 2011): Extremes(194.9, 146.64),
    ("MSFT", 2000): Extremes(115.0, 40.31),
}
"""Five well-known ones: Apple's peak before its split, Facebook's first year, Google's fall of 2008."""


def quotes(symbols: tuple[str, ...] = SYMBOLS) -> list[Quote]:
    """Return the quotes of these stocks by stock and day. Raises `UsageError` if the package is not installed."""
    with gzip.open(sample_file(_FILE), "rt", encoding="utf-8", newline="") as file:
        return [quote for quote in _read(file) if quote.symbol in symbols]


def by_pandas(symbols: tuple[str, ...] = SYMBOLS) -> dict[tuple[str, int], Extremes]:
    """Return what pandas computes from the file: (symbol, year) -> highest and lowest price."""
    import pandas as pd  # noqa: PLC0415  half a second, which only the proof pays

    frame = pd.read_csv(sample_file(_FILE), parse_dates=["Date"])
    years = frame[frame["Ticker"].isin(symbols)].groupby(["Ticker", frame["Date"].dt.year])
    found = years.agg(high=("High", "max"), low=("Low", "min"))
    return {
        (str(symbol), int(year)): Extremes(float(row.high), float(row.low))
        for (symbol, year), row in zip(found.index, found.itertuples(), strict=True)
    }


def _read(lines: Iterator[str]) -> Iterator[Quote]:
    for row in csv.DictReader(lines):
        yield Quote(
            symbol=row["Ticker"],
            day=date.fromisoformat(row["Date"]),
            open=float(row["Open"]),
            high=float(row["High"]),
            low=float(row["Low"]),
            close=float(row["Close"]),
            volume=float(row["Volume"]),
        )
