"""Folding a batch: which rows it makes, changes and removes, and what the engine stamps on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.events import START
from tests.support.engine.projections import (
    Cleared,
    Counted,
    Cursed,
    Day,
    GoodsEvent,
    Stock,
    Stored,
    days,
    stocks,
    told,
)
from tidemill.domain.identity import row_id, row_uuid
from tidemill.domain.messages import ReadModelBase
from tidemill.domain.projection import Key, Projection, Recorded
from tidemill.projections.fold import Changes, FoldFailed, fold, keyed

DAY_S = 86_400


def folded(
    events: Sequence[Recorded[Any]],
    loaded: dict[Key, ReadModelBase] | None = None,
    projection: Projection = stocks,
) -> Changes:
    return fold(projection, keyed(projection, events), loaded or {})


def stock(good: str = "tea", **fields: Any) -> Stock:
    facts: dict[str, Any] = {
        "amount": 5,
        "labels": "{}",
        "version": 3,
        "created_at": START,
        "updated_at": START,
    }
    uuid = row_uuid("stocks", good)
    return Stock(**facts | {"good": good, "uuid": uuid, "id": row_id(uuid)} | fields)


def test_a_new_row_is_stamped_from_its_key_and_its_event() -> None:
    (row,) = folded([told(Stored(good="tea", amount=2), 7)]).new
    assert row == stock(
        amount=2,
        labels='{"first": 7}',
        version=1,
        created_at=START + timedelta(seconds=7),
        updated_at=START + timedelta(seconds=7),
    )


def test_a_row_that_was_loaded_is_changed_and_counts_its_events() -> None:
    changes = folded([told(Stored(good="tea"), 8), told(Stored(good="tea"), 9)], {("tea",): stock()})
    assert changes == Changes([], [stock(amount=7, version=5, updated_at=START + timedelta(seconds=9))], [])


def test_a_new_object_keeps_what_the_engine_knows() -> None:
    anew = replace(stocks, folds={Stored: lambda row, told: Stock(good="tea", amount=1, labels="{}")})
    changes = folded([told(Stored(good="tea"), 8)], {("tea",): stock()}, anew)
    assert changes.changed == [stock(amount=1, version=4, updated_at=START + timedelta(seconds=8))]


def test_an_earlier_time_of_another_lane_moves_the_beginning() -> None:
    early = START - timedelta(days=1)
    changes = folded([told(Stored(good="tea"), 1, lane_id=1, at=early)], {("tea",): stock()})
    assert changes.changed == [stock(amount=6, version=4, created_at=early)]


def test_a_row_can_go() -> None:
    assert folded([told(Cleared(good="tea"), 8)], {("tea",): stock()}) == Changes([], [], [("tea",)])


def test_what_came_and_went_within_a_batch_was_never_there() -> None:
    assert folded([told(Stored(good="tea"), 1), told(Cleared(good="tea"), 2)]) == Changes([], [], [])


def test_a_row_that_went_and_came_again_begins_anew() -> None:
    events = [told(Cleared(good="tea"), 8), told(Stored(good="tea", amount=4), 9)]
    at = START + timedelta(seconds=9)
    changes = folded(events, {("tea",): stock()})
    assert changes == Changes(
        [], [stock(amount=4, version=1, created_at=at, updated_at=at, labels='{"first": 9}')], []
    )


def test_events_without_a_fold_touch_nothing() -> None:
    assert keyed(stocks, [told(Counted(good="tea"), 1)]) == []


@pytest.mark.parametrize(
    "projection", [stocks, replace(stocks, key=lambda event: event.missing, folds={Cursed: lambda *_: None})]
)
def test_a_bug_names_its_event(projection: Projection) -> None:
    with pytest.raises(FoldFailed, match=r"stocks failed on event 12 of partition 3 \(Cursed\)") as failed:
        folded([told(Cursed(good="tea"), 12, lane_id=3)], projection=projection)
    assert (failed.value.lane_id, failed.value.sequence) == (3, 12)


def test_keys_that_join_alike_are_two_rows() -> None:
    both = replace(days, key=lambda event: tuple(event.good.split("|")))
    events = [told(Stored(good=good), 1) for good in ("a/b|c", "a|b/c", "a%2Fb|c")]
    assert len({row.uuid for row in folded(events, projection=both).new}) == 3


def test_a_key_of_two_columns() -> None:
    (row,) = folded([told(Stored(good="tea"), 1)], projection=days).new
    assert isinstance(row, Day)
    assert row.uuid == row_uuid("days", "tea/2026-01-01")


GOODS = st.sampled_from(["tea", "rum", "tin"])
EVENTS = st.lists(
    st.tuples(st.sampled_from([Stored, Stored, Cleared, Counted]), GOODS, st.integers(-3, 3)), max_size=25
)


@given(EVENTS, st.lists(st.integers(1, 6), max_size=10))
def test_rows_do_not_depend_on_where_a_batch_was_cut(
    facts: list[tuple[type[GoodsEvent], str, int]], cuts: list[int]
) -> None:
    def events() -> list[Recorded[Any]]:
        times = (datetime(2026, 1, 5, tzinfo=UTC) + timedelta(days=day) for _, _, day in facts)
        return [
            told(event(good=good), at, at=time)
            for at, ((event, good, _), time) in enumerate(zip(facts, times, strict=True), start=1)
        ]

    whole: dict[Key, ReadModelBase] = {}
    write(whole, events())
    parts: dict[Key, ReadModelBase] = {}
    start = 0
    for size in [*cuts, len(facts)]:
        write(parts, events()[start : start + size])
        start += size
    assert parts == whole


def write(rows: dict[Key, ReadModelBase], events: Sequence[Recorded[Any]]) -> None:
    """Fold events and keep the rows as a store would."""
    touches = keyed(stocks, events)
    loaded = {key: replace(rows[key]) for key, _, _ in touches if key in rows}
    changes = fold(stocks, touches, loaded)
    for key in changes.gone:
        del rows[key]
    for row in [*changes.new, *changes.changed]:
        assert isinstance(row, Stock)
        rows[(row.good,)] = row


# --- parts ------------------------------------------------------------------------------------------------------------


class Delivered(GoodsEvent):
    """Several goods at once; `good` is where."""

    goods: list[str]


def count_part(row: Stock | None, told: Recorded[Any]) -> Stock:
    """The part is the name of a good."""
    if row is None:
        return Stock(good=told.event, amount=1, labels=f"{told.lane}/{told.sequence}")
    return replace(row, amount=row.amount + 1, labels=f"{row.labels} {told.lane}/{told.sequence}")


DELIVERED = replace(
    stocks,
    parts=lambda event: event.goods,
    key=lambda good: (good,),
    folds={Delivered: count_part},
)


def delivered(number: int, *goods: str) -> Recorded[Any]:
    return told(Delivered(good="dock", goods=list(goods)), number)


def by_good(rows: Sequence[Any]) -> dict[str, Any]:
    return {row.good: row for row in rows}


def fail(*_: Any) -> Any:
    raise ZeroDivisionError


def test_an_event_of_several_parts_touches_several_rows_in_their_order() -> None:
    events = [delivered(1, "tea", "salt", "tea"), delivered(2), delivered(3, "salt")]
    rows = by_good(folded(events, projection=DELIVERED).new)
    tea, salt = rows["tea"], rows["salt"]
    assert (tea.amount, tea.version, tea.labels) == (2, 2, "0/1 0/1")
    assert (salt.amount, salt.version, salt.labels) == (2, 2, "0/1 0/3")
    assert (salt.created_at, salt.updated_at) == (events[0].at, events[2].at)


def test_parts_without_a_key_of_their_own_are_of_the_record_key() -> None:
    whole = replace(DELIVERED, key=None)
    event: Recorded[Any] = Recorded(Delivered(good="dock", goods=["tea", "salt"]), START, 0, 1, b"dock")
    assert [key for key, _, _ in keyed(whole, [event])] == [("dock",), ("dock",)]


def test_a_mistake_in_a_part_names_its_event() -> None:
    for wrong in (
        replace(DELIVERED, parts=fail),
        replace(DELIVERED, key=fail),
        replace(DELIVERED, folds={Delivered: fail}),
    ):
        with pytest.raises(FoldFailed, match="event 7 of partition 0") as failed:
            folded([delivered(7, "tea")], projection=wrong)
        assert failed.value.sequence == 7


@given(st.lists(st.lists(st.sampled_from(["tea", "salt", "rum"]), max_size=4), max_size=6), st.integers(0, 6))
def test_cutting_a_batch_of_events_with_parts_changes_nothing(goods: list[list[str]], at: int) -> None:
    events = [delivered(number, *some) for number, some in enumerate(goods, start=1)]
    whole = by_good(folded(events, projection=DELIVERED).new)
    first = by_good(folded(events[:at], projection=DELIVERED).new)
    second = folded(events[at:], {(good,): row for good, row in first.items()}, DELIVERED)
    assert first | by_good([*second.changed, *second.new]) == whole
