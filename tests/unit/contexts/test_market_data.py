"""Market data's commands: what is accepted, what is refused and in which words."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from tidemill.catalog.drafts import draft_schema
from tidemill.contexts.market_data import context
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.domain import checks
from tidemill.domain.context import AppendSpec

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def record(**changes: Any) -> RecordMarketData:
    fields: dict[str, Any] = {
        "command_id": "c1",
        "service_name": "feed",
        "timestamp": NOW,
        "symbol": "AAPL",
        "time": NOW,
        "price": 1.5,
        "source": "test",
    }
    return RecordMarketData(**{**fields, **changes})


@pytest.mark.parametrize(
    "symbol", ["A", "BRK.B", "^GSPC", "EURUSD=X", "BTC/USD", "0700.HK", "ES_F", "X" * 32]
)
def test_symbols_as_exchanges_write_them(symbol: str) -> None:
    assert context.key(record(symbol=symbol)) == symbol


@pytest.mark.parametrize("symbol", ["", "aapl", "A B", "A\n", "AAPL\x00", ".A", "Ä", "X" * 33, "A;drop"])
def test_other_symbols_are_refused(symbol: str) -> None:
    with pytest.raises(ValidationError, match="symbol"):
        record(symbol=symbol)


@pytest.mark.parametrize("field", ["price", "open", "high", "low", "volume"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        record(**{field: value})


def test_prices_may_be_negative_volumes_not() -> None:
    assert record(price=-37.63, low=-40.32, high=-37.63, volume=0).price == -37.63
    with pytest.raises(ValidationError, match="volume"):
        record(volume=-1)
    with pytest.raises(ValidationError, match="volume"):
        record(volume=1.1e15)


def test_high_is_not_below_low() -> None:
    assert record(high=2.0, low=2.0).high == 2.0
    with pytest.raises(ValidationError, match=r"high 1\.0 is below low 2\.0"):
        record(high=1.0, low=2.0)


def test_a_time_says_its_zone() -> None:
    with pytest.raises(ValidationError, match="no time zone"):
        record(time=NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("time", "says"),
    [
        (datetime(2000, 1, 1, tzinfo=UTC), None),
        (datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "before 2000-01-01"),
        (datetime(2000, 1, 1, tzinfo=timezone(timedelta(hours=1))), "before 2000-01-01"),
        (NOW + timedelta(minutes=5), None),
        (
            NOW + timedelta(minutes=5, microseconds=1),
            "more than 300 s ahead of the server's 2026-11-21T12:00",
        ),
    ],
)
def test_the_window_of_times(time: datetime, says: str | None) -> None:
    (spec,) = context.commands
    assert isinstance(spec, AppendSpec)
    refused = spec.refusal(record(time=time), NOW)
    assert (refused is None) == (says is None)
    if refused is not None and says is not None:
        assert refused.code == "INVALID"
        assert says in refused.message


def test_the_window_is_the_contexts_to_set() -> None:
    narrow = checks.Within("time", since=NOW - timedelta(days=1), ahead=timedelta(0))
    assert narrow.fault_at(record(time=NOW - timedelta(days=2)), NOW) is not None
    assert narrow.fault_at(record(time=NOW), NOW) is None


def test_what_is_checked_stands_in_the_draft_of_its_schema() -> None:
    docs = {field["name"]: field["doc"] for field in draft_schema(RecordMarketData, "tests")["fields"]}
    assert docs["high"] == "Not below low."
    assert docs["time"] == ("With a time zone. Not before 2000-01-01, at most 300 s ahead of the server.")


def test_the_event_repeats_the_command_and_the_table_holds_it() -> None:
    assert list(MarketDataRecorded.model_fields) == list(RecordMarketData.model_fields)
    (spec,) = context.commands
    assert isinstance(spec, AppendSpec)
    columns = {column.name for column in spec.table.columns}
    assert columns - {"command_id"} == set(RecordMarketData.model_fields) - {
        "command_id", "service_name", "timestamp", "correlation_id"
    }  # fmt: skip


def test_what_happened_is_not_judged_again() -> None:
    said = record().model_dump() | {"symbol": "aapl", "high": 1.0, "low": 2.0}
    assert MarketDataRecorded.model_validate(said).symbol == "aapl"
