"""Declared folds: by arrays, one by one, and as they were coded before, rows are the same, bit by bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.engine.coded_folds import coded_bars, coded_quotes
from tidemill.contexts.market_data.messages import MarketDataRecorded
from tidemill.contexts.market_data.read_models import DailyBar, daily_bars, latest_quotes
from tidemill.domain.carried_fields import unvalidated
from tidemill.domain.folds import Sum
from tidemill.domain.messages import ReadModelBase
from tidemill.domain.projection import Key, Projection, Recorded
from tidemill.projections import batch_fold
from tidemill.projections.batch_fold import MIN_BY_ARRAYS, Touched, touched
from tidemill.projections.column_fold import fold_columns, split
from tidemill.projections.event_columns import EventColumns, Events
from tidemill.projections.fold import FoldFailed

Tick = Recorded[Any]
Rows = dict[Key, ReadModelBase]

START = datetime(2024, 3, 1, 23, 59, 58, tzinfo=UTC)
BOTH = pytest.mark.parametrize("projection", [latest_quotes, daily_bars], ids=lambda each: each.name)
CODED = {latest_quotes.name: coded_quotes, daily_bars.name: coded_bars}


def tick(lane: int = 0, sequence: int = 1, at: datetime = START, **fields: Any) -> Tick:
    """Not validated: folds are tried with numbers that no message may have, too."""
    base = {
        "command_id": "c",
        "service_name": "s",
        "timestamp": START,
        "correlation_id": None,
        "symbol": "IBM",
    }
    optional = dict.fromkeys(("open", "high", "low", "volume"))
    body = {**base, "time": START, "price": 1.0, **optional, "source": "test", **fields}
    return Recorded(unvalidated(MarketDataRecorded, body), at, lane, sequence, b"key")


def by_lane(ticks: Iterable[Tick]) -> list[list[Tick]]:
    lanes: dict[int, list[Tick]] = {}
    for each in ticks:
        lanes.setdefault(each.lane, []).append(each)
    return list(lanes.values())


def one_by_one(projection: Projection, lanes: Sequence[Events]) -> Touched:
    return touched(CODED.get(projection.name, projection), lanes)


def declared(projection: Projection, lanes: Sequence[Events]) -> Touched:
    return touched(replace(projection, stamped=True, parts=None), lanes)


def by_arrays(projection: Projection, lanes: Sequence[Events]) -> Touched:
    (fold,) = projection.folds.values()
    columns = [lane if isinstance(lane, EventColumns) else EventColumns.of(lane) for lane in lanes]
    return fold_columns(projection, fold, columns)  # type: ignore[arg-type]  # it is a DeclaredFold


Way = Callable[[Projection, Sequence[Events]], Touched]


def folded(projection: Projection, batches: Iterable[Sequence[Tick]], way: Way) -> Rows:
    """Fold batch by batch, as a projector does: with the rows that are there already."""
    rows: Rows = {}
    for batch in batches:
        if not batch:
            continue
        touch = way(projection, by_lane(batch))
        assert len(set(touch.keys)) == len(touch.keys)
        changes = touch.into({key: replace(rows[key]) for key in touch.keys if key in rows})
        assert not changes.gone
        for row in [*changes.new, *changes.changed]:
            rows[tuple(getattr(row, name) for name in projection.key_columns)] = row
    return rows


def exactly(rows: Mapping[Key, ReadModelBase]) -> dict[Key, str]:
    """-0.0 is equal to 0.0, and NaN to nothing: their texts tell."""
    return {key: repr(row) for key, row in rows.items()}


# --- any events -------------------------------------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, 1.0, math.inf, -math.inf, 5e-324, -1e308]
prices = st.floats(allow_nan=False) | st.sampled_from(SPECIAL)
optional = st.none() | prices
ties = st.integers(0, 10**12).map(lambda half: half * 0.5e-9)
volumes = st.none() | st.integers(0, 10**12).map(float) | st.floats(0, 1e6) | st.floats(-10, 10) | ties
symbols = st.sampled_from(["IBM", "BRK.B", "^GSPC", "ÄÖ/Ü"]) | st.integers(0, 40).map("S{:02}".format)
TOKYO = timezone(timedelta(hours=9))


@st.composite
def facts(draw: st.DrawFn) -> dict[str, Any]:
    time = START + draw(
        st.integers(0, 4).map(lambda seconds: timedelta(seconds=seconds))
        | st.timedeltas(timedelta(days=-20_000), timedelta(days=20_000))
    )
    return {
        "symbol": draw(symbols),
        "time": draw(st.sampled_from([time, time.astimezone(TOKYO)])),
        "price": draw(prices),
        "open": draw(optional),
        "high": draw(optional),
        "low": draw(optional),
        "volume": draw(volumes),
        "source": draw(st.sampled_from(["a", "b"])),
    }


ANY = facts()


@st.composite
def batches(draw: st.DrawFn, of: st.SearchStrategy[dict[str, Any]] = ANY) -> list[list[Tick]]:
    """Ticks of some lanes, cut into batches; within a lane they are in order, and `at` may go back."""
    sequences: dict[int, int] = {}
    told = []
    for fields in draw(st.lists(of, min_size=1, max_size=40)):
        lane = draw(st.integers(0, 3))
        sequences[lane] = sequences.get(lane, 0) + 1
        at = START + timedelta(seconds=draw(st.integers(0, 3)))
        told.append(tick(lane, sequences[lane], at, **fields))
    cuts = sorted(draw(st.lists(st.integers(0, len(told)), max_size=4)))
    return [told[start:end] for start, end in zip([0, *cuts], [*cuts, len(told)], strict=True)]


@BOTH
@settings(max_examples=300)
@given(batches())
def test_arrays_give_the_rows_that_python_gives(projection: Projection, ticks: list[list[Tick]]) -> None:
    expected = exactly(folded(projection, ticks, one_by_one))
    assert exactly(folded(projection, ticks, declared)) == expected
    assert exactly(folded(projection, ticks, by_arrays)) == expected


@BOTH
@given(batches())
def test_a_cut_changes_nothing(projection: Projection, ticks: list[list[Tick]]) -> None:
    whole = [each for batch in ticks for each in batch]
    assert folded(projection, ticks, by_arrays) == folded(projection, [whole], by_arrays)


@BOTH
@given(batches())
def test_events_that_were_read_field_by_field_fold_alike(
    projection: Projection, ticks: list[list[Tick]]
) -> None:
    def read(projection: Projection, lanes: Sequence[Events]) -> Touched:
        return by_arrays(projection, [EventColumns.of(EventColumns.of(lane).recorded()) for lane in lanes])  # type: ignore[arg-type]

    assert exactly(folded(projection, ticks, read)) == exactly(folded(projection, ticks, by_arrays))


odd = st.sampled_from([math.nan, -math.nan, 0.0, -0.0, 1.5, math.inf])


@BOTH
@given(batches(of=st.fixed_dictionaries({"price": odd, "open": st.none() | odd, "high": st.none() | odd})))
def test_nan_counts_only_where_there_is_nothing_else(projection: Projection, ticks: list[list[Tick]]) -> None:
    assert exactly(folded(projection, ticks, by_arrays)) == exactly(folded(projection, ticks, declared))


@given(batches(of=st.fixed_dictionaries({"volume": st.none() | st.floats() | st.just(1e15)})))
def test_volumes_that_arrays_cannot_add_exactly_are_added_one_by_one(ticks: list[list[Tick]]) -> None:
    def tried(projection: Projection, lanes: Sequence[Events]) -> Touched:
        try:
            return by_arrays(projection, lanes)
        except ValueError:
            return one_by_one(projection, lanes)

    def rows(way: Way) -> dict[Key, str] | str:
        try:
            return exactly(folded(daily_bars, ticks, way))
        except FoldFailed as failed:  # infinities of both signs have no sum
            return type(failed.__cause__).__name__

    assert rows(tried) == rows(one_by_one) == rows(declared)


@settings(max_examples=500)
@given(
    st.lists(volumes.filter(lambda value: value is not None) | st.floats(-1e9, 1e9), min_size=1),
    st.integers(1, 9),
)
def test_numbers_are_rounded_as_their_texts_are(values: list[float], scale: int) -> None:
    wholes, rests = split(np.array(values), Sum("volume", of="volume", scale=scale))
    found = [whole * 10**scale + rest for whole, rest in zip(wholes.tolist(), rests.tolist(), strict=True)]
    assert found == [int(Decimal(f"{value:.{scale}f}").scaleb(scale)) for value in values]


# --- which way --------------------------------------------------------------------------------------------------------


def many(count: int, **fields: Any) -> list[Tick]:
    return [tick(0, number, **fields) for number in range(1, count + 1)]


def test_a_batch_is_folded_by_arrays_and_a_few_events_one_by_one() -> None:
    assert touched(daily_bars, [many(MIN_BY_ARRAYS)]).by_arrays
    assert not touched(daily_bars, [many(MIN_BY_ARRAYS - 1)]).by_arrays
    assert not touched(coded_bars, [many(MIN_BY_ARRAYS)]).by_arrays


@pytest.mark.parametrize("volume", [math.nan, math.inf, 1e300])
def test_what_arrays_do_not_add_is_folded_one_by_one(volume: float) -> None:
    batch = touched(daily_bars, [[*many(MIN_BY_ARRAYS), tick(0, MIN_BY_ARRAYS + 1, volume=volume)]])
    assert not batch.by_arrays
    (row,) = batch.into({}).new
    assert isinstance(row, DailyBar)
    assert row.ticks == MIN_BY_ARRAYS + 1


def test_a_time_without_a_zone_fails_by_name() -> None:
    batch = touched(latest_quotes, [[*many(MIN_BY_ARRAYS), tick(0, 99, time=START.replace(tzinfo=None))]])
    with pytest.raises(FoldFailed, match="event 99 of partition 0"):
        batch.into({})


def test_a_row_that_cannot_be_continued_names_an_event_of_it() -> None:
    ticks = [*many(MIN_BY_ARRAYS), tick(0, 99, symbol="AAPL")]
    batch = touched(latest_quotes, [ticks])
    (row,) = (each for each in batch.into({}).new if getattr(each, "symbol") == "AAPL")  # noqa: B009  a field of one class
    row.time = None  # type: ignore[attr-defined]  # as no database has it
    with pytest.raises(FoldFailed, match="event 99 of partition 0"):
        touched(latest_quotes, [ticks]).into({("AAPL",): row})


def test_events_of_other_classes_touch_nothing() -> None:
    class Other(MarketDataRecorded):
        pass

    other: Recorded[Any] = Recorded(Other(**vars(tick().event)), START, 0, 50)
    batch = touched(latest_quotes, [[*many(49), other], EventColumns.of([other])])
    assert batch.by_arrays
    (row,) = batch.into({}).new
    assert row.version == 49
    nothing = touched(latest_quotes, [[other] * MIN_BY_ARRAYS])
    assert (nothing.keys, nothing.into({}).new) == ([], [])


def test_a_class_that_one_read_model_folds_in_python_is_read_as_messages() -> None:
    assert batch_fold.read_by_columns([latest_quotes, daily_bars]) == {MarketDataRecorded}
    assert batch_fold.read_by_columns([latest_quotes, coded_bars]) == frozenset()
    assert batch_fold.read_by_columns([replace(latest_quotes, parts=lambda event: [event])]) == frozenset()


def test_long_lanes_are_joined_like_short_ones() -> None:
    lanes = [
        [
            tick(lane, number, symbol=f"S{number % (7 + lane)}", price=float(number))
            for number in range(1, 200)
        ]
        for lane in (3, 1, 2)
    ]
    for projection in (latest_quotes, daily_bars):
        whole = [each for lane in lanes for each in lane]
        assert exactly(folded(projection, [whole], by_arrays)) == exactly(
            folded(projection, [whole], one_by_one)
        )
