"""Market data: ticks and quotes of symbols, appended to a hypertable as they are told."""

from datetime import timedelta

from tidemill.api import Context, Retention, append
from tidemill.contexts.market_data import tables
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.contexts.market_data.read_models import daily_bars, latest_quotes
from tidemill.contexts.market_data.rules import TimeWindow

WINDOW = TimeWindow()

context = Context(
    aggregate="market-data",
    key=lambda command: command.symbol,
    commands=(
        append(RecordMarketData, into=tables.market_data, event=MarketDataRecorded, check=WINDOW.check),
    ),
    projections=(latest_quotes, daily_bars),
    retention=Retention(table=tables.market_data, after=timedelta(days=730)),
)
