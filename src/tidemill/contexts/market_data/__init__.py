"""Market data: ticks and quotes of symbols, appended to a hypertable as they arrive."""

from datetime import timedelta

from tidemill.api import Compression, Context, Crud, Retention, append, fact_table
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.contexts.market_data.read_models import daily_bars, latest_quotes

ticks = fact_table("market_data", RecordMarketData, first="time", index=(("symbol", "time desc"),))

context = Context(
    aggregate="market-data",
    key=lambda command: command.symbol,
    commands=(append(RecordMarketData, into=ticks, event=MarketDataRecorded),),
    projections=(latest_quotes, daily_bars),
    http=Crud(create=RecordMarketData),
    retention=Retention(table=ticks, after=timedelta(days=730)),
    community=(Compression(table=ticks, after=timedelta(days=7), by=("symbol",)),),
)
