"""The result may not depend on where a batch was cut, nor on which lanes shared a transaction.

Each run has examples of its own: a few in the suite, ten times as many in `make trials`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.built_in import FULL
from tests.support.engine.commands import FakeRecord, Harness
from tests.support.engine.profile_streams import (
    STREAM,
    WANTED,
    contests,
    cut,
    groupings,
    play,
    sizes,
    streams,
)
from tidemill.domain.identity import event_id

EXAMPLES = 1_000 if FULL else 100
Seen = dict[tuple[int, int], Any]


def facts(store: MemoryCommandStore) -> tuple[Any, ...]:
    """Return the states without their times, and per lane the events, the log and what is parked, in order."""
    states = {
        key: (each.name, each.active, each.version, each.profile_data)
        for key, each in store.tables.states.get("connector_profiles", {}).items()
    }
    rows = [row for row in store.tables.outbox if row.event_type is not None]
    events = sorted(
        (
            row.lane,
            row.sequence,
            row.event_type,
            event_id(row.command_id or "", row.item + 1),
            row.chain,
            row.payload,
        )
        for row in rows
    )
    log = sorted(
        (
            row.lane,
            row.position,
            row.command_id or "",
            row.digest,
            row.outcome,
            row.code or "",
            row.repeats or "",
        )
        for row in store.tables.log[1]
    )
    parked = sorted((row.lane, row.position, row.record_offset, row.code) for row in store.tables.parked)
    return states, events, log, parked


def run(batches: Sequence[Sequence[FakeRecord]]) -> tuple[MemoryCommandStore, Seen]:
    async def playing() -> tuple[MemoryCommandStore, Seen]:
        store = MemoryCommandStore(STREAM)
        harness = Harness(STREAM, store)
        await harness.claim()
        return store, await play(harness, batches)

    return asyncio.run(playing())


def one_lane(records: Sequence[FakeRecord]) -> list[FakeRecord]:
    """Keep the records of the partition that has most of them."""
    partitions = [record.partition for record in records]
    busiest = max(set(partitions), key=partitions.count)
    return [record for record in records if record.partition == busiest]


@settings(max_examples=EXAMPLES)
@given(streams(), sizes)
def test_cutting_a_lane_changes_nothing(records: list[FakeRecord], cuts: list[int]) -> None:
    lane = one_lane(records)
    alone, seen_alone = run([[record] for record in lane])
    batched, seen_batched = run(cut(lane, cuts))
    assert seen_batched == seen_alone
    assert facts(batched) == facts(alone)


@settings(max_examples=EXAMPLES)
@given(streams(), sizes)
def test_grouping_lanes_changes_nothing_but_who_wins_a_contested_name(
    records: list[FakeRecord], cuts: list[int]
) -> None:
    """In a transaction the lanes come in ascending order: the same order, one by one, gives the same result."""
    batches = cut(records, cuts)
    in_order = [
        [record] for batch in batches for record in sorted(batch, key=lambda r: (r.partition, r.offset))
    ]
    alone, seen_alone = run(in_order)
    grouped, seen_grouped = run(batches)
    assert seen_grouped == seen_alone
    assert facts(grouped) == facts(alone)


@settings(max_examples=EXAMPLES)
@given(streams(contested=False), st.data())
def test_grouping_lanes_changes_nothing_where_none_contests_a_name(
    records: list[FakeRecord], data: st.DataObject
) -> None:
    one, other = (data.draw(groupings(records)) for _ in range(2))
    left, seen_left = run(one)
    right, seen_right = run(other)
    assert seen_left == seen_right
    assert facts(left) == facts(right)


@settings(max_examples=EXAMPLES)
@given(contests(), st.data())
def test_of_lanes_that_contest_a_name_exactly_one_wins_however_they_are_grouped(
    contest: tuple[list[FakeRecord], set[tuple[int, int]]], data: st.DataObject
) -> None:
    records, asking = contest
    store, seen = run(data.draw(groupings(records)))
    codes = [seen[at][2] for at in asking]
    assert sorted(codes, key=str) == ["NAME_TAKEN"] * (len(asking) - 1) + [None]
    held = store.tables.states["connector_profiles"].values()
    assert [each.name for each in held if each.active].count(WANTED) == 1


@settings(max_examples=EXAMPLES)
@given(streams(), sizes)
def test_a_name_has_at_most_one_holder_and_numbers_are_dense(
    records: list[FakeRecord], cuts: list[int]
) -> None:
    store, _ = run(cut(records, cuts))
    held = [
        (each.service_name, each.name)
        for each in store.tables.states.get("connector_profiles", {}).values()
        if each.active
    ]
    assert len(set(held)) == len(held)
    for lane in store.lanes:
        rows = [row for row in store.tables.log[1] if row.lane == lane]
        assert [row.position for row in rows] == list(range(1, len(rows) + 1))
        events = [
            row.sequence for row in store.tables.outbox if row.lane == lane and row.event_type is not None
        ]
        assert events == list(range(1, len(events) + 1))
