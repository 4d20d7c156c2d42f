"""Confirmations as the engine hands them over: decided in its transaction, one after the other."""

from __future__ import annotations

from typing import Any

from tests.fakes.archive import MemorySlices
from tests.fakes.commands import MemoryCommandStore
from tests.support.archive.slices import NOW, brought_to
from tests.support.engine.commands import FakeRecord
from tidemill.commands.decide_fold import HandlerResult
from tidemill.commands.ports import Locked
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalStatus
from tidemill.domain.archive.slices import ArchiveState
from tidemill.domain.decision import Rejected
from tidemill.retention.slices import Slice
from tidemill.retention.stream import ConfirmationHandler, archive_stream

ASKED = brought_to(ArchiveState.REQUESTED)


def said(status: ArchivalStatus, event_id: str = "e1", **told: Any) -> IncomingCommand:
    confirmation: Any = ArchivalConfirmation(event_id=event_id, status=status, completed_at=NOW, **told)
    return IncomingCommand(1, FakeRecord(0, 0, None, None), command=confirmation)


async def decided(store: MemoryCommandStore, *arrivals: IncomingCommand) -> list[HandlerResult]:
    async with store.unit_of_work() as work:
        return await ConfirmationHandler({}, MemorySlices).apply(work, arrivals, Locked(1, NOW, {}))


def registry() -> MemoryCommandStore:
    store = MemoryCommandStore(archive_stream("tidemill"))
    store.tables.joined["slices"] = {ASKED.id: ASKED}
    return store


def held(store: MemoryCommandStore) -> Slice:
    found: Slice = store.tables.joined["slices"][ASKED.id]
    return found


async def test_a_later_confirmation_of_a_batch_sees_what_the_earlier_ones_did() -> None:
    store = registry()
    copied = said(ArchivalStatus.COMPLETED, lakehouse_path="/lake/ticks")
    assert await decided(store, said(ArchivalStatus.IN_PROGRESS), copied) == [[], []]
    assert held(store).state is ArchiveState.CONFIRMED


async def test_one_that_nobody_asked_for_is_rejected_and_the_others_count() -> None:
    store = registry()
    stranger, begun = await decided(
        store, said(ArchivalStatus.COMPLETED, "e2"), said(ArchivalStatus.IN_PROGRESS)
    )
    assert isinstance(stranger, Rejected)
    assert stranger.code == "UNKNOWN_ARCHIVAL"
    assert begun == []
    assert held(store).state is ArchiveState.COPYING
