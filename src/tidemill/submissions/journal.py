"""The intents of writes in the journal: `ports.IntentJournal`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from tidemill.security.journal import MAX_TEXT, EntryKind, EntryRef, JournalEntry, payload_detail
from tidemill.security.journal_writer import Journal
from tidemill.submissions.ports import Intent


class JournalledIntents:
    """Writes intents to the journal of a process. No value that was sent is kept, and no key of a document."""

    def __init__(self, journal: Journal) -> None:
        """`journal`: of this process, which is entered."""
        self._journal = journal

    async def intents(self, entries: Sequence[Intent]) -> list[EntryRef]:
        return await self._journal.intents([entry_of(intent) for intent in entries])

    async def outcome(self, reference: object, result: str, *, code: str | None = None) -> None:
        assert isinstance(reference, EntryRef)
        await self._journal.outcome(reference, result, code=code)


def entry_of(intent: Intent) -> JournalEntry:
    """Return the entry of an intent. Its action is the command's name."""
    place: dict[str, str | int] = {"aggregate": intent.aggregate, "partition": intent.partition}
    if intent.address is not None:
        place["address"] = intent.address[:MAX_TEXT]
    return JournalEntry(
        kind=EntryKind.INTENT,
        action=intent.command.rpartition(".")[2][:MAX_TEXT],
        principal=intent.principal,
        collection=intent.collection,
        command_id=UUID(intent.identity),
        detail={**payload_detail(intent.fields, intent.payload), **place},
    )
