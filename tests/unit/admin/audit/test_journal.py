"""The audit of the journal: findings of every chain, ends to be kept, and what became of what was begun."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from tests.fakes.journal import BEGIN, MemoryJournal, MemoryJournalHistory
from tidemill.admin.audit.journal import MAX_LISTED, IntentResolution, JournalAuditor
from tidemill.security.journal import (
    Chain,
    ChainEnd,
    EntryKind,
    EntryRef,
    JournalEntry,
    JournalRow,
    WriterIdentity,
)
from tidemill.security.journal_check import JournalFault

PROCESS = WriterIdentity("http", "host-1", 17, "0.6.0", BEGIN)
COMMAND = UUID(int=77)


async def stored(writer: int, *entries: JournalEntry, after: ChainEnd | None = None) -> list[JournalRow]:
    anchor = JournalEntry(kind=EntryKind.ANCHOR, action="start", detail=PROCESS.detail(after))
    return Chain(UUID(int=writer)).rows([anchor, *entries], BEGIN)


def intent(command_id: UUID | None = None) -> JournalEntry:
    return JournalEntry(kind=EntryKind.INTENT, action="create", principal="pricing", command_id=command_id)


@pytest.fixture
def store() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def history(store: MemoryJournal) -> MemoryJournalHistory:
    return MemoryJournalHistory(store)


async def test_the_ends_of_all_chains_are_told_and_compared(
    store: MemoryJournal, history: MemoryJournalHistory
) -> None:
    for writer in (1, 2, 3):
        await store.append(await stored(writer, *[intent()] * writer))
    ends: list[ChainEnd] = []
    seen: list[tuple[int, int]] = []
    auditor = JournalAuditor(reader=history)
    result = await auditor.run(end_of_chain=ends.append, progress=lambda *counts: seen.append(counts))
    assert [(anchor.writer.int, anchor.number) for anchor in ends] == [(1, 2), (2, 3), (3, 4)]
    assert (result.entries, result.chains, result.finding_count) == (9, 3, 0)
    assert seen[-1] == (9, 9)
    assert (await auditor.run(anchors=ends)).finding_count == 0
    del store.table[EntryRef(UUID(int=2), 3)]
    (finding,) = (await auditor.run(anchors=ends)).findings
    assert (finding.fault, finding.writer.int, finding.number) == (JournalFault.CUT_OFF, 2, 3)


async def test_an_empty_journal_is_whole(history: MemoryJournalHistory) -> None:
    result = await JournalAuditor(reader=history).run()
    assert (result.entries, result.chains, result.finding_count, result.open_count) == (0, 0, 0, 0)


async def test_a_chain_that_another_continues_is_compared_with_it(
    store: MemoryJournal, history: MemoryJournalHistory
) -> None:
    rows = await stored(2, intent())
    await store.append(rows)
    await store.append(await stored(1, after=ChainEnd(rows[-1].writer, rows[-1].number, rows[-1].hash)))
    auditor = JournalAuditor(reader=history)
    assert (await auditor.run()).finding_count == 0
    del store.table[rows[-1].ref]
    (finding,) = (await auditor.run()).findings
    assert (finding.fault, finding.writer.int, finding.number) == (JournalFault.CUT_OFF, 2, 2)


@pytest.mark.parametrize(
    ("outcome", "code", "resolution"),
    [
        (b"a", None, IntentResolution.APPLIED),
        (b"r", "NOT_BELOW", IntentResolution.REJECTED),
        (b"p", "MALFORMED", IntentResolution.PARKED),
    ],
)
async def test_an_open_intent_is_resolved_by_the_log(
    store: MemoryJournal,
    history: MemoryJournalHistory,
    outcome: bytes,
    code: str | None,
    resolution: IntentResolution,
) -> None:
    await store.append(await stored(1, intent(COMMAND)))
    at = BEGIN + timedelta(seconds=1)
    history.log[COMMAND] = (outcome, code, at)
    (entry,) = (await JournalAuditor(reader=history).run()).open
    assert (entry.resolution, entry.code, entry.decided_at) == (resolution, code, at)
    assert (entry.principal, entry.action, entry.command_id) == ("pricing", "create", COMMAND)


@pytest.mark.parametrize(
    ("command_id", "log_begins", "resolution"),
    [
        (COMMAND, BEGIN - timedelta(days=1), IntentResolution.NOT_ARRIVED),
        (COMMAND, BEGIN + timedelta(days=1), IntentResolution.LOG_HAS_LEFT),
        (COMMAND, None, IntentResolution.LOG_HAS_LEFT),
        (None, BEGIN - timedelta(days=1), IntentResolution.NOT_KNOWN),
    ],
)
async def test_an_open_intent_that_the_log_does_not_know_says_why(
    store: MemoryJournal,
    history: MemoryJournalHistory,
    command_id: UUID | None,
    log_begins: datetime | None,
    resolution: IntentResolution,
) -> None:
    await store.append(await stored(1, intent(command_id)))
    history.log_begins = log_begins
    (entry,) = (await JournalAuditor(reader=history).run()).open
    assert entry.resolution is resolution


async def test_a_report_is_bounded_and_counts_everything(
    store: MemoryJournal, history: MemoryJournalHistory
) -> None:
    rows = await stored(1, *[intent()] * (MAX_LISTED + 10))
    await store.append([rows[0], *(row._replace(principal="mallory") for row in rows[1:])])
    result = await JournalAuditor(reader=history).run()
    assert (result.finding_count, len(result.findings)) == (MAX_LISTED + 10, MAX_LISTED)
    assert (result.open_count, len(result.open)) == (MAX_LISTED + 10, MAX_LISTED)
