"""The journal of a process: what waits is stored together, what is not stored is not begun, and no chain forks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from tests.fakes.journal import MemoryJournal
from tests.support.engine.codecs import HandClock
from tests.support.waiting import eventually
from tidemill.domain.errors import DataError, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.metrics import REGISTRY
from tidemill.security.journal import EntryKind, JournalEntry, JournalRow, WriterIdentity
from tidemill.security.journal_check import faults
from tidemill.security.journal_writer import NOT_BEGUN, Journal, JournalLimits

PROCESS = WriterIdentity("http", "host-1", 17, "0.6.0", datetime(2026, 12, 1, tzinfo=UTC))
PATIENT = JournalLimits(deadline_s=300.0, lazy_s=0.0)
HASTY = JournalLimits(deadline_s=0.01, lazy_s=0.0)


class GatedJournal(MemoryJournal):
    """One whose database answers while `gate` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def append(self, rows: Sequence[JournalRow]) -> bool:
        self.asked += 1
        await self.gate.wait()
        return await super().append(rows)


def journal(store: MemoryJournal, limits: JournalLimits = PATIENT, **options: Any) -> Journal:
    ids = count(1)
    return Journal(store, PROCESS, limits=limits, new_id=lambda: UUID(int=next(ids)), **options)


def intent(number: int = 0) -> JournalEntry:
    return JournalEntry(
        kind=EntryKind.INTENT, action="create", principal="pricing", command_id=UUID(int=number)
    )


def kinds(store: MemoryJournal) -> list[str]:
    return [store.table[ref].kind for ref in sorted(store.table)]


def value_of(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


@pytest.fixture
def lost() -> Iterator[dict[str, float]]:
    """How many entries were lost by the test, by kind."""
    names = [EntryKind.OUTCOME, EntryKind.REFUSAL]
    before = {name: value_of("tidemill_journal_lost_entries_total", kind=name) for name in names}
    counts: dict[str, float] = {}
    yield counts
    for name in names:
        assert value_of("tidemill_journal_lost_entries_total", kind=name) - before[name] == counts.get(
            name, 0
        )


async def test_a_process_begins_with_its_anchor() -> None:
    store = MemoryJournal()
    async with journal(store) as ours:
        await eventually(lambda: store.table, what="the anchor")
        assert ours.ok
    (row,) = store.table.values()
    assert (row.kind, row.number) == (EntryKind.ANCHOR, 1)
    assert '"host":"host-1"' in row.detail
    assert '"process":"http"' in row.detail


async def test_intents_are_durable_when_their_places_are_returned() -> None:
    store = MemoryJournal()
    async with journal(store) as ours:
        refs = await ours.intents([intent(1), intent(2)])
        assert [store.table[ref].command_id for ref in refs] == [UUID(int=1), UUID(int=2)]
        assert ours.anchor[:2] == refs[-1]


async def test_a_thousand_waiting_writes_cost_a_few_inserts() -> None:
    store = GatedJournal()
    store.gate.clear()
    async with journal(store) as ours:
        first = asyncio.create_task(ours.intents([intent()]))
        await eventually(lambda: store.asked, what="the first insert to begin")
        others = [asyncio.create_task(ours.intents([intent(number)])) for number in range(1_000)]
        await eventually(lambda: ours._waiting >= 1_000, what="all of them to wait")
        store.gate.set()
        refs = [await task for task in [first, *others]]
    assert len({ref for group in refs for ref in group}) == 1_001
    assert len(store.appends) <= 3
    assert faults(store.table.values()) == []


async def test_what_belongs_together_is_stored_together() -> None:
    store = GatedJournal()
    store.gate.clear()
    limits = JournalLimits(deadline_s=300.0, lazy_s=0.0, max_rows=5)
    async with journal(store, limits) as ours:
        tasks = [asyncio.create_task(ours.intents([intent()] * 3)) for _ in range(4)]
        tasks.append(asyncio.create_task(ours.intents([intent()] * 9)))
        await eventually(lambda: ours._waiting, what="them to wait")
        store.gate.set()
        for task in tasks:
            numbers = [ref.number for ref in await task]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert max(store.appends) == 9


async def test_an_outcome_names_its_intent_and_the_result() -> None:
    store = MemoryJournal()
    async with journal(store) as ours:
        (ref,) = await ours.intents([intent()])
        await ours.outcome(ref, "rejected", code="NOT_BELOW")
        await ours.refusal(
            JournalEntry(kind=EntryKind.REFUSAL, action="delete", detail={"code": "FORBIDDEN"})
        )
        await ours.change(JournalEntry(kind=EntryKind.CHANGE, action="grant", principal="root@host-1"))
    assert kinds(store) == ["anchor", "intent", "outcome", "refusal", "change"]
    outcome = next(row for row in store.table.values() if row.kind == "outcome")
    assert (outcome.of_writer, outcome.of_number) == ref
    assert (outcome.action, outcome.detail) == ("rejected", '{"code":"NOT_BELOW"}')
    assert faults(store.table.values()) == []


async def test_a_database_that_does_not_answer_in_time_refuses_the_write_and_closes_it_later() -> None:
    store = GatedJournal()
    async with journal(store, HASTY) as ours:
        await eventually(lambda: store.table, what="the anchor")
        store.gate.clear()
        with pytest.raises(RequestRefused) as refused:
            await ours.intents([intent(1), intent(2)])
        assert refused.value.request_code is RequestCode.JOURNAL_AWAY
        assert refused.value.retry_after_s
        store.gate.set()
        await eventually(lambda: len(store.table) == 5, what="what was given up to be closed")
    assert kinds(store) == ["anchor", "intent", "intent", "outcome", "outcome"]
    assert {row.action for row in store.table.values() if row.kind == "outcome"} == {NOT_BEGUN}


async def test_what_was_given_up_before_its_insert_is_never_stored() -> None:
    store = GatedJournal()
    async with journal(store, HASTY) as ours:
        await eventually(lambda: store.table, what="the anchor")
        store.gate.clear()
        for number in range(5):
            with pytest.raises(RequestRefused):
                await ours.intents([intent(number)])
        store.gate.set()
        await eventually(lambda: len(store.table) == 3, what="the insert that was under way")
    assert kinds(store) == ["anchor", "intent", "outcome"]


async def test_a_client_that_leaves_gives_its_intent_up() -> None:
    store = GatedJournal()
    async with journal(store) as ours:
        await eventually(lambda: store.table, what="the anchor")
        store.gate.clear()
        waiting = asyncio.create_task(ours.intents([intent()]))
        await eventually(lambda: store.asked == 2, what="the insert to begin")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        store.gate.set()
    assert kinds(store) == ["anchor", "intent", "outcome"]


@pytest.mark.parametrize("failures", [["refused"], ["answer lost"], ["refused", "answer lost", "refused"]])
async def test_an_unknown_result_is_resolved_before_anything_follows(failures: list[str]) -> None:
    store = MemoryJournal()
    async with journal(store) as ours:
        await eventually(lambda: store.table, what="the anchor")
        store.failures = failures
        refs = [*await ours.intents([intent(1)]), *await ours.intents([intent(2)])]
        assert ours.ok
    assert [ref.number for ref in refs] == [2, 3]
    assert [store.table[ref].command_id for ref in refs] == [UUID(int=1), UUID(int=2)]
    assert faults(store.table.values()) == []


@pytest.mark.parametrize("failures", [[], ["refused"], ["answer lost"]])
async def test_a_place_that_another_took_ends_the_chain_and_the_next_one_names_its_end(
    failures: list[str],
) -> None:
    store = MemoryJournal()
    async with journal(store) as ours:
        (ref,) = await ours.intents([intent(1)])
        planted = store.table[ref]._replace(number=3, hash=bytes(32))
        store.table[planted.ref] = planted
        store.failures = failures
        with capture_logs() as logs:
            (after,) = await ours.intents([intent(2)])
    assert after == (UUID(int=2), 3 - 1)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [Log.JOURNAL_BEGUN_ANEW]
    anchor = store.table[after._replace(number=1)]
    assert f'"after_hash":"{store.table[ref].hash.hex()}"' in anchor.detail
    assert [finding.number for finding in faults(store.table.values())] == [
        3
    ]  # what was planted, nothing else


async def test_an_entry_that_the_database_refuses_is_refused_and_the_next_one_is_stored() -> None:
    class Refusing(MemoryJournal):
        is_refusing = False

        async def append(self, rows: Sequence[JournalRow]) -> bool:
            if self.is_refusing:
                self.is_refusing = False
                raise DataError("23514", "a check")
            return await super().append(rows)

    store = Refusing()
    async with journal(store) as ours:
        await ours.intents([intent(1)])
        store.is_refusing = True
        with pytest.raises(RequestRefused, match="refused"):
            await ours.intents([intent(2)])
        assert not ours.ok
        (ref,) = await ours.intents([intent(3)])
    assert ref.number == 3
    assert faults(store.table.values()) == []


async def test_no_more_entries_wait_than_the_bound(lost: dict[str, float]) -> None:
    store = GatedJournal()
    limits = JournalLimits(deadline_s=0.01, lazy_s=0.0, max_waiting=2)
    async with journal(store, limits) as ours:
        (ref,) = await ours.intents([intent()])
        store.gate.clear()
        asked = store.asked
        await ours.outcome(ref, "applied")
        await eventually(lambda: store.asked > asked, what="an insert that hangs")
        refusal = JournalEntry(kind=EntryKind.REFUSAL, action="create")
        await ours.refusal(refusal)
        await ours.refusal(refusal)
        with pytest.raises(RequestRefused, match="too many"):
            await ours.intents([intent()])
        with pytest.raises(RequestRefused, match="too many"):
            await ours.refusal(refusal)
        await ours.outcome(ref, "applied")
        store.gate.set()
    lost.update({EntryKind.REFUSAL: 1, EntryKind.OUTCOME: 1})
    assert kinds(store) == ["anchor", "intent", "outcome", "refusal", "refusal"]


async def test_an_entry_waits_for_room_before_it_is_lost() -> None:
    store = GatedJournal()
    limits = JournalLimits(deadline_s=300.0, lazy_s=0.0, max_waiting=1)
    async with journal(store, limits) as ours:
        (ref,) = await ours.intents([intent()])
        store.gate.clear()
        asked = store.asked
        await ours.outcome(ref, "applied")
        await eventually(lambda: store.asked > asked, what="an insert that hangs")
        tasks = [asyncio.create_task(ours.outcome(ref, "duplicate")) for _ in range(5)]
        store.gate.set()
        await asyncio.gather(*tasks)
    assert kinds(store) == ["anchor", "intent", *["outcome"] * 6]


async def test_the_end_is_logged_after_so_many_entries_after_a_time_and_at_the_stop() -> None:
    store, clock = MemoryJournal(), HandClock()
    limits = JournalLimits(deadline_s=300.0, lazy_s=0.0, anchor_entries=3, anchor_s=600.0)
    with capture_logs() as logs:
        async with journal(store, limits, clock=clock) as ours:
            await ours.intents([intent()])
            await ours.intents([intent()])
            await ours.intents([intent()])
            clock.at_s += 600.0
            await ours.intents([intent()])
            await ours.intents([intent()])
    anchors = [line for line in logs if line["event"] == Log.JOURNAL_ANCHOR]
    numbers = [line["number"] for line in anchors]
    assert numbers == [3, 5, 6]
    ends = {ref.number: row.hash.hex() for ref, row in store.table.items()}
    assert [line["hash"] for line in anchors] == [ends[number] for number in numbers]


async def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    store = MemoryJournal()
    async with journal(store) as ours:
        await ours.intents([intent()])
        store.failures = ["refused"] * 3
        with capture_logs() as logs:
            await ours.intents([intent()])
    told = [line["event"] for line in logs if line["log_level"] in {"warning", "info"}]
    assert told[:2] == [Log.JOURNAL_FAILED, Log.JOURNAL_RECOVERED]


async def test_a_stop_stores_what_waits_and_refuses_what_it_cannot() -> None:
    store = GatedJournal()
    limits = JournalLimits(deadline_s=300.0, lazy_s=300.0, drain_s=0.01)
    async with journal(store, limits) as ours:
        (ref,) = await ours.intents([intent()])
        await ours.outcome(ref, "applied")
    assert kinds(store) == ["anchor", "intent", "outcome"]
    async with journal(store := GatedJournal(), limits) as ours:
        await ours.intents([intent()])
        store.gate.clear()
        asked = store.asked
        under_way = asyncio.create_task(ours.intents([intent()]))
        await eventually(lambda: store.asked > asked, what="an insert that hangs")
        behind = asyncio.create_task(ours.intents([intent()]))
        await eventually(lambda: ours._waiting, what="another one to wait")
    for task in (under_way, behind):
        with pytest.raises(RequestRefused, match="ends"):
            await task
    with pytest.raises(RequestRefused):
        await ours.intents([intent()])
