"""Commands that append many rows: one event each, every row counted, no late row lost or counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.codecs import JsonCodec
from tests.fakes.commands import MemoryCommandStore, MemoryWork
from tests.support.engine.any_commands import cut
from tests.support.engine.commands import FakeRecord, Harness, Topic, codes, outcomes
from tests.support.engine.many_rows import (
    BEGAN,
    DAY,
    ReadMeter,
    SeriesRecorded,
    command_of,
    meters,
    read_meter,
    series,
    series_points,
    watching,
)
from tidemill.commands import batch as batches_of
from tidemill.commands import handlers
from tidemill.commands.ports import ClosedRange
from tidemill.domain.archive.policy import LateRule
from tidemill.domain.context import Context, append, decide
from tidemill.domain.decision import accepted
from tidemill.domain.errors import ContractError
from tidemill.domain.stream import Stream

CONTEXTS: dict[str, Callable[..., Context]] = {"arrays": series, "records": watching, "decisions": meters}
CLOSED = [ClosedRange(BEGAN + DAY, BEGAN + 2 * DAY), ClosedRange(BEGAN + 3 * DAY, BEGAN + 4 * DAY)]


async def harness_of(
    context: Context, closed: Sequence[ClosedRange] = ()
) -> tuple[MemoryCommandStore, Harness]:
    stream = Stream.of(context)
    store = MemoryCommandStore(stream)
    store.closed += closed
    harness = Harness(stream, store)
    await harness.claim()
    return store, harness


def appended(store: MemoryCommandStore) -> list[tuple[Any, ...]]:
    return [row for rows in store.tables.appended.values() for row in rows]


def late(store: MemoryCommandStore) -> list[tuple[Any, ...]]:
    return [row for rows in store.tables.late.values() for row in rows]


def counts(store: MemoryCommandStore) -> tuple[list[int | None], list[int | None], list[int | None]]:
    """What log, outbox and ledger count."""
    tables = store.tables
    return (
        [row.rows for row in tables.log[1]],
        [row.rows for row in tables.outbox],
        [row.rows for row in tables.ledger],
    )


async def test_arrays_become_rows_in_the_order_of_the_columns_and_one_event() -> None:
    store, harness = await harness_of(series())
    command = command_of(series(), [0, 1, 2])
    await harness.send(command)
    own_id = str(UUID(command.command_id))
    assert appended(store) == [
        (BEGAN, "s", 0.0, own_id),
        (BEGAN + DAY, "s", None, own_id),
        (BEGAN + 2 * DAY, "s", 2.0, own_id),
    ]
    (row,) = store.tables.outbox
    event = SeriesRecorded.of(command)
    assert row.payload == JsonCodec(harness.stream).encode_event(event)
    assert counts(store) == ([3], [3], [3])


async def test_chosen_columns_are_filled_and_the_others_are_not() -> None:
    context = series(columns=("series", "time"), rows=lambda command: [("x", time) for time in command.times])
    store, harness = await harness_of(context)
    columns: list[Sequence[str]] = []
    append_rows = MemoryWork.append

    async def noting(work: MemoryWork, table: Any, names: Sequence[str], rows: Any) -> None:
        columns.append(names)
        await append_rows(work, table, names, rows)

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(MemoryWork, "append", noting)
        await harness.send(command_of(context, [0]))
    assert columns == [("series", "time", "command_id")]
    assert [row[:2] for row in appended(store)] == [("x", BEGAN)]


async def test_records_become_rows_with_what_the_command_says_of_all_of_them() -> None:
    store, harness = await harness_of(watching())
    command = command_of(watching(), [0, 1])
    await harness.send(command)
    own_id = str(UUID(command.command_id))
    assert appended(store) == [(BEGAN, "whale", None, "o", own_id), (BEGAN + DAY, "whale", None, "o", own_id)]


async def test_a_decision_appends_rows_beside_its_events() -> None:
    store, harness = await harness_of(meters())
    done = await harness.send(
        command_of(meters(), [0, 1], 2), command_of(meters(), [2], 4), command_of(meters(), [3], 3)
    )
    assert codes(done) == [None, "FULL", None]
    assert [row[0] for row in appended(store)] == [BEGAN, BEGAN + DAY, BEGAN + 3 * DAY]
    assert store.tables.states["meters"]["m"].total == 5
    assert counts(store) == ([2, None, 1], [2, None, 1], [3])


@pytest.mark.parametrize("make", CONTEXTS.values(), ids=CONTEXTS)
async def test_no_rows_are_legal_and_counted_as_none(make: Callable[..., Context]) -> None:
    store, harness = await harness_of(make())
    done = await harness.send(command_of(make(), []))
    assert outcomes(done) == {"applied": 1}
    assert (appended(store), len(store.tables.outbox)) == ([], 1)
    assert counts(store) == ([0], [0], [0])


async def test_one_row_each_is_not_counted() -> None:
    """So where every command has one row, a batch stores what it always did."""
    store, harness = await harness_of(series())
    await harness.send(command_of(series(), [0]), command_of(series(), [1]))
    assert counts(store) == ([None, None], [None, None], [None])
    await harness.send(command_of(series(), [0]), command_of(series(), [1, 2]))
    assert counts(store)[2] == [None, 3]


async def test_a_repeat_is_told_how_many_rows_the_first_one_had() -> None:
    _, harness = await harness_of(series())
    three, one = (harness.topic.record(command_of(series(), days)) for days in ([0, 1, 2], [0]))
    again = [harness.topic.again(record) for record in (three, one)]
    done = await harness.apply(three, one, *again)
    assert [row.rows for _, row in done.outcomes] == [3, None, 3, 1], "in the batch of the first"
    later = [harness.topic.again(record) for record in (three, one)]
    done = await harness.apply(*later)
    assert [row.rows for _, row in done.outcomes] == [3, 1], "found in the log"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (lambda _: [(BEGAN, "s")], "table series_points: a row has 3 values, for time, series, value"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (lambda _: None, "TypeError"),
    ],
    ids=["a wrong width", "an error", "no rows at all"],
)
async def test_a_mistake_in_making_rows_parks_the_record_and_no_other(
    rows: Callable[[Any], Any], says: str
) -> None:
    wrong = series(rows=lambda command: rows(command) if len(command.times) == 2 else [(BEGAN, "s", 1.0)])
    store, harness = await harness_of(wrong)
    done = await harness.send(*(command_of(wrong, [0] * size) for size in (1, 2, 1)))
    assert codes(done) == [None, "CRASHED", None]
    assert says in store.tables.parked[0].detail
    assert len(appended(store)) == 2


async def test_arrays_of_different_lengths_are_refused_before_any_row_is_made() -> None:
    _, harness = await harness_of(series())
    command = command_of(series(), [0, 1]).model_copy(update={"values": [1.0]})
    done = await harness.send(command)
    assert codes(done) == ["INVALID"]
    (_, row), *_ = done.outcomes
    assert row.detail == "values are 1, times are 2: send as many"


async def test_a_record_whose_time_is_refused_is_named() -> None:
    _, harness = await harness_of(watching())
    done = await harness.send(command_of(watching(), [0, 100_000, 1]), command_of(watching(), [0]))
    assert codes(done) == ["INVALID", None]
    (_, row), *_ = done.outcomes
    assert row.detail is not None
    assert row.detail.startswith("sightings.1: time 2299")


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_a_batch_appends_no_more_rows_at_once_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many commands come at once; a command that has more alone is applied alone."""
    monkeypatch.setattr(handlers, "MAX_ROWS", 10)
    store, harness = await harness_of(series())
    sizes: list[int] = []
    append_rows = MemoryWork.append

    async def noting(work: MemoryWork, table: Any, columns: Sequence[str], rows: Any) -> None:
        sizes.append(len(rows))
        await append_rows(work, table, columns, rows)

    monkeypatch.setattr(MemoryWork, "append", noting)
    done = await harness.send(*(command_of(series(), [0] * size) for size in (4, 4, 4, 0, 25, 3, 9, 1)))
    assert outcomes(done) == {"applied": 8}
    assert sum(sizes) == 50
    assert max(size for size in sizes if size != 25) <= 10
    assert sum(row.rows or 0 for row in store.tables.ledger) == 50


async def test_decisions_have_the_same_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "MAX_ROWS", 3)
    store, harness = await harness_of(meters())
    done = await harness.send(*(command_of(meters(), [0, 1]) for _ in range(4)))
    assert outcomes(done) == {"applied": 4}
    assert [row.rows for row in store.tables.ledger] == [2, 2, 2, 2]


@pytest.mark.parametrize("make", CONTEXTS.values(), ids=CONTEXTS)
async def test_a_batch_that_was_cut_teaches_where_to_cut_the_next_one(
    make: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So commands are decided in vain once, not in every batch."""
    monkeypatch.setattr(handlers, "MAX_ROWS", 10)
    monkeypatch.setattr(batches_of, "MAX_ROWS", 10)
    store, harness = await harness_of(make())
    refused: list[str] = []
    demand_room = handlers._demand_room

    def noting(held: int, more: int) -> None:
        try:
            demand_room(held, more)
        except handlers.TooManyRows as fault:
            refused.append(str(fault))
            raise

    monkeypatch.setattr(handlers, "_demand_room", noting)
    for cuts in (1, 1, 1):
        done = await harness.send(*(command_of(make(), [0, 1, 2, 3], 0) for _ in range(4)))
        assert (outcomes(done), len(refused)) == ({"applied": 4}, cuts)
    assert [row.rows for row in store.tables.ledger] == [8] * 6, "each batch is as large as it may be"


def test_a_context_of_many_rows_takes_fewer_bytes_at_once() -> None:
    assert Stream.of(series()).batch_bytes == 1 << 20
    assert Stream.of(replace(series(), batch_bytes=5)).batch_bytes == 5
    single = append(type(command_of(series(), [])), into=series_points, event=SeriesRecorded)
    assert Stream.of(replace(series(), commands=(single,))).batch_bytes == 8 << 20
    with pytest.raises(ContractError, match="batch_bytes must be positive"):
        replace(series(), batch_bytes=0)


# --- late rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", CONTEXTS.values(), ids=CONTEXTS)
async def test_late_rows_are_diverted_and_the_others_stay(make: Callable[..., Context]) -> None:
    context = make(LateRule.DIVERT)
    store, harness = await harness_of(context, CLOSED)
    done = await harness.send(command_of(context, [0, 1.5, 2]), command_of(context, [3.5]))
    assert outcomes(done) == {"applied": 2}
    assert [row[0] for row in appended(store)] == [BEGAN, BEGAN + 2 * DAY]
    assert [(row[0], row[-1]) for row in late(store)] == [
        (BEGAN + 1.5 * DAY, BEGAN + DAY),
        (BEGAN + 3.5 * DAY, BEGAN + 3 * DAY),
    ]
    assert [row.rows for row in store.tables.ledger] == [4]


@pytest.mark.parametrize("make", CONTEXTS.values(), ids=CONTEXTS)
async def test_one_late_row_refuses_its_command_whole_and_no_other(make: Callable[..., Context]) -> None:
    context = make(LateRule.REJECT)
    store, harness = await harness_of(context, CLOSED)
    done = await harness.send(
        command_of(context, [0]), command_of(context, [0, 3.5, 1.5, 2]), command_of(context, [2, 4])
    )
    assert codes(done) == [None, "RANGE_CLOSED", None]
    (_, refused) = done.outcomes[1]
    assert f"begins at {CLOSED[1].start:%Y-%m-%d}" in (refused.detail or ""), (
        "the range of the first late row"
    )
    assert [row[0] for row in appended(store)] == [BEGAN, BEGAN + 2 * DAY, BEGAN + 4 * DAY]
    assert late(store) == []
    assert [row.rows for row in store.tables.ledger] == [3]


COMMANDS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([0, 0.5, 1, 1.5, 2.5, 3.5, 4, 100_000]), max_size=4),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)
SIZES = st.lists(st.integers(1, 5), max_size=5)


def facts(store: MemoryCommandStore) -> Any:
    """What must not depend on where a batch was cut."""
    tables = store.tables
    log = [(row.position, row.outcome, row.code, row.rows, row.repeats) for row in tables.log[1]]
    sent = [(row.sequence, row.payload, row.rows, row.code, row.chain) for row in tables.outbox]
    states = [(name, row.total, row.version) for name, row in tables.states.get("meters", {}).items()]
    return appended(store), late(store), log, sent, states


def run(context: Context, batches: Sequence[Sequence[FakeRecord]]) -> MemoryCommandStore:
    async def playing() -> MemoryCommandStore:
        store, harness = await harness_of(context, CLOSED)
        for batch in batches:
            await harness.apply(*batch)
        return store

    return asyncio.run(playing())


@pytest.mark.parametrize("late_rule", LateRule)
@pytest.mark.parametrize("make", CONTEXTS.values(), ids=CONTEXTS)
@settings(max_examples=100)
@given(drawn=COMMANDS, sizes=SIZES)
def test_cutting_a_batch_changes_nothing_and_every_row_is_counted_once(
    make: Callable[..., Context],
    late_rule: LateRule,
    drawn: list[tuple[list[float], int, bool]],
    sizes: list[int],
) -> None:
    context = make(late_rule)
    topic = Topic(Stream.of(context))
    records: list[FakeRecord] = []
    for days, amount, repeat in drawn:
        again = repeat and records
        records.append(topic.again(records[-1]) if again else topic.record(command_of(context, days, amount)))
    cut_up, alone = run(context, cut(records, sizes)), run(context, [[record] for record in records])
    assert facts(cut_up) == facts(alone)
    counted = sum(row.applied if row.rows is None else row.rows for row in cut_up.tables.ledger)
    assert counted == len(appended(cut_up)) + len(late(cut_up))
    by_log = [row for row in cut_up.tables.log[1] if row.outcome == b"a"]
    assert counted == sum(1 if row.rows is None else row.rows for row in by_log)


# --- declarations -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_at_the_declaration() -> None:
    model = type(command_of(series(), []))
    for fields, says in (
        ({"rows": "values"}, "'values' is not a field with a list of records"),
        ({"columns": ("time",)}, "columns are those of rows="),
        ({"rows": lambda _: [], "columns": ("tide",)}, "table series_points has no tide"),
    ):
        with pytest.raises(ContractError, match=says):
            append(model, into=series_points, event=SeriesRecorded, **fields)


async def test_rows_by_which_nothing_could_leave_are_refused_at_start() -> None:
    context = series(LateRule.DIVERT, columns=("series", "value"))
    with pytest.raises(ContractError, match="time, by which rows leave, is not filled"):
        await harness_of(context)


async def test_rows_of_a_decision_need_an_event_and_a_table() -> None:
    with pytest.raises(ContractError, match="needs an event"):
        accepted(rows=[(1,)])
    without = replace(meters(), commands=(decide(ReadMeter, read_meter),))
    store, harness = await harness_of(without)
    done = await harness.send(command_of(without, [0]))
    assert codes(done) == ["CRASHED"]
    assert "decide(..., into=table)" in store.tables.parked[0].detail


@pytest.mark.parametrize("time", [None, BEGAN.replace(tzinfo=None)], ids=["none", "without a zone"])
async def test_a_row_that_has_no_instant_to_be_late_by_parks_its_record(time: Any) -> None:
    """It could not be compared with the closed ranges, and would end the batch of all others."""
    wrong = series(
        LateRule.DIVERT, rows=lambda command: [(time if len(command.times) > 1 else BEGAN, "s", 1.0)]
    )
    store, harness = await harness_of(wrong, CLOSED)
    done = await harness.send(command_of(wrong, [0]), command_of(wrong, [0, 0]), command_of(wrong, [0]))
    assert codes(done) == [None, "CRASHED", None]
    assert len(appended(store)) == 2
