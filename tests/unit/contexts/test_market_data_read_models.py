"""Latest quotes and daily bars do not depend on how lanes interleave, and are what all ticks together say."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.contexts.market_data.messages import MarketDataRecorded
from tidemill.contexts.market_data.read_models import DailyBar, daily_bars, latest_quotes
from tidemill.domain.projection import Projection, Recorded

Tick = Recorded[MarketDataRecorded]
Rows = dict[tuple[Any, ...], dict[str, Any]]

START = datetime(2024, 3, 1, 23, 59, 58, tzinfo=UTC)


def told(**fields: Any) -> MarketDataRecorded:
    base: dict[str, Any] = {"command_id": "c", "service_name": "s", "timestamp": START, "source": "test"}
    return MarketDataRecorded(**{**base, "symbol": "IBM", "time": START, "price": 1.0, **fields})


def tick(lane_id: int = 0, sequence: int = 1, **fields: Any) -> Tick:
    return Recorded(told(**fields), START, lane_id, sequence)


def folded(projection: Projection, ticks: Iterable[Tick]) -> Rows:
    rows: dict[tuple[Any, ...], Any] = {}
    fold = projection.folds[MarketDataRecorded]
    assert projection.key is not None
    for each in ticks:
        key = projection.key(each.event)
        rows[key] = fold(rows.get(key), each)
    return {key: asdict(row) for key, row in rows.items()}


# --- what is right, said naively: all ticks of a key at once ----------------------------------------------------------


def when(each: Tick) -> tuple[datetime, int, int]:
    return (each.event.time, each.lane, each.sequence)


def naive_quote(ticks: Sequence[Tick]) -> dict[str, Any]:
    last = max(ticks, key=when)
    shown = ("symbol", "time", "price", "open", "high", "low", "volume", "source")
    return {name: getattr(last.event, name) for name in shown} | {
        "lane": last.lane,
        "sequence": last.sequence,
    }


def naive_bar(ticks: Sequence[Tick]) -> dict[str, Any]:
    first, last = min(ticks, key=when), max(ticks, key=when)
    traded = [price for each in ticks for price in (each.event.price, each.event.open) if price is not None]
    highs = [each.event.high for each in ticks if each.event.high is not None]
    lows = [each.event.low for each in ticks if each.event.low is not None]
    volumes = [Decimal(f"{each.event.volume:.9f}") for each in ticks if each.event.volume is not None]
    return {
        "open": first.event.price if first.event.open is None else first.event.open,
        "high": max(traded + highs),
        "low": min(traded + lows),
        "close": last.event.price,
        "volume": sum(volumes, Decimal(0)),
        "ticks": len(ticks),
        "open_time": first.event.time,
        "open_lane": first.lane,
        "open_sequence": first.sequence,
        "close_time": last.event.time,
        "close_lane": last.lane,
        "close_sequence": last.sequence,
    }


prices = st.floats(-1e9, 1e9, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0])
optional = st.none() | prices
volumes = st.none() | st.integers(0, 10**15).map(float) | st.floats(0, 1e6)
facts = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["IBM", "BRK.B"]),
        "time": st.integers(0, 5).map(lambda seconds: START + timedelta(seconds=seconds)),
        "price": prices,
        "open": optional,
        "high": optional,
        "low": optional,
        "volume": volumes,
        "source": st.sampled_from(["a", "b"]),
    }
)


@st.composite
def lanes(draw: st.DrawFn) -> list[list[Tick]]:
    """Up to four lanes that each tell of the same symbols, with late and repeated ticks."""
    told = draw(st.lists(st.lists(facts, max_size=8), min_size=1, max_size=4))
    return [
        [tick(lane, sequence, **each) for sequence, each in enumerate(ticks, 1)]
        for lane, ticks in enumerate(told)
    ]


def interleaved(lanes: Sequence[Sequence[Tick]], random: Random) -> list[Tick]:
    """Some merge of the lanes that keeps the order within each."""
    turns = [number for number, ticks in enumerate(lanes) for _ in ticks]
    random.shuffle(turns)
    sources = [iter(ticks) for ticks in lanes]
    return [next(sources[number]) for number in turns]


@pytest.mark.parametrize("projection", [latest_quotes, daily_bars], ids=lambda each: each.name)
@given(lanes=lanes(), random=st.randoms(use_true_random=False))
def test_any_interleaving_of_lanes_gives_equal_rows(
    projection: Projection, lanes: list[list[Tick]], random: Random
) -> None:
    one_after_the_other = [each for ticks in lanes for each in ticks]
    expected = folded(projection, one_after_the_other)
    mixed = folded(projection, interleaved(lanes, random))
    assert mixed == expected
    assert repr(sorted(mixed.items())) == repr(sorted(expected.items())), (
        "not only equal: -0.0 is equal to 0.0"
    )


@given(lanes=lanes())
def test_rows_are_what_all_ticks_say_together(lanes: list[list[Tick]]) -> None:
    ticks = [each for lane in lanes for each in lane]
    bars = folded(daily_bars, ticks)
    quotes = folded(latest_quotes, ticks)
    for (symbol, day), bar in bars.items():
        of_the_day = [each for each in ticks if (each.event.symbol, each.event.time.date()) == (symbol, day)]
        expected = naive_bar(of_the_day)
        assert {name: bar[name] for name in expected} == expected
    for (symbol,), quote in quotes.items():
        expected = naive_quote([each for each in ticks if each.event.symbol == symbol])
        assert {name: quote[name] for name in expected} == expected
    assert sum(bar["ticks"] for bar in bars.values()) == len(ticks)


# --- cases a person would ask about -----------------------------------------------------------------------------------


def bar(*ticks: Tick) -> dict[str, Any]:
    (row,) = folded(daily_bars, ticks).values()
    return row


def test_a_bar_of_one_tick_without_extremes() -> None:
    row = bar(tick(price=5.0, open=4.0))
    assert (row["open"], row["high"], row["low"], row["close"], row["volume"]) == (
        4.0,
        5.0,
        4.0,
        5.0,
        Decimal(0),
    )


def test_a_late_tick_opens_the_day_and_closes_nothing() -> None:
    row = bar(tick(0, 1, price=5.0), tick(0, 2, price=3.0, time=START - timedelta(hours=1)))
    assert (row["open"], row["close"], row["ticks"]) == (3.0, 5.0, 2)


def test_equal_times_are_ordered_by_lane_then_sequence() -> None:
    row = bar(tick(2, 1, price=1.0), tick(1, 9, price=2.0), tick(1, 10, price=3.0))
    assert (row["open"], row["close"]) == (2.0, 1.0)


def test_zero_has_one_sign() -> None:
    for one, other in ((0.0, -0.0), (-0.0, 0.0)):
        row = bar(tick(0, 1, price=one), tick(1, 1, price=other))
        assert (repr(row["high"]), repr(row["low"])) == ("0.0", "0.0")


def test_a_fact_that_is_told_twice_counts_twice() -> None:
    row = bar(tick(0, 1, volume=0.1), tick(0, 2, volume=0.1), tick(0, 3, volume=0.1))
    assert (row["ticks"], row["volume"]) == (3, Decimal("0.3"))


def test_the_largest_volumes_stay_exact() -> None:
    row = bar(tick(0, 1, volume=1e15), *(tick(0, number, volume=1e-9) for number in range(2, 12)))
    assert row["volume"] == Decimal("1000000000000000.000000010")


def test_days_are_utc_days() -> None:
    tokyo = datetime(2024, 3, 2, 8, 0, tzinfo=timezone(timedelta(hours=9)))
    ((_, day),) = folded(daily_bars, [tick(time=tokyo)])
    assert day == date(2024, 3, 1)


def test_a_fold_returns_the_row_it_changed() -> None:
    fold = daily_bars.folds[MarketDataRecorded]
    row: DailyBar = fold(None, tick())
    assert fold(row, tick(0, 2)) is row
