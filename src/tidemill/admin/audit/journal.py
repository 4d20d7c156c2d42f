"""The audit of the journal: every chain is walked, and what was begun without an outcome is resolved by the log.

It reads and reports; it writes nothing. Its memory is bounded, however long the journal is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from tidemill.security.journal import ChainEnd, EntryRef, JournalRow
from tidemill.security.journal_check import ChainWalk, JournalFinding, linked
from tidemill.security.ports import JournalReader, OpenIntent

MAX_LISTED: Final = 1_000
"""Findings, and open intents, that a report lists; it counts all of them."""


class IntentResolution(StrEnum):
    """What became of an intent without an outcome."""

    APPLIED = "applied"
    REJECTED = "rejected"
    PARKED = "parked"
    NOT_ARRIVED = "not arrived"
    """The log does not have the command: it was never produced, or is not consumed yet."""
    LOG_HAS_LEFT = "log has left"
    """The log of that time was dropped."""
    NOT_KNOWN = "not known"
    """It was not a command: what it did is seen where it worked."""


_RESOLUTIONS: Final = {
    b"a": IntentResolution.APPLIED,
    b"r": IntentResolution.REJECTED,
    b"p": IntentResolution.PARKED,
}


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An intent without an outcome. `code`: why its command was rejected or parked."""

    writer: UUID
    number: int
    at: datetime | None
    principal: str | None
    action: str
    collection: str | None
    command_id: UUID | None
    resolution: IntentResolution
    code: str | None
    decided_at: datetime | None


@dataclass(slots=True)
class JournalAudit:
    """The result; the journal is intact if there are no findings. An open intent is not a finding.

    `findings`, `open`: the first thousand. `anchors`: how many were compared.
    """

    entries: int = 0
    chains: int = 0
    anchors: int = 0
    finding_count: int = 0
    open_count: int = 0
    findings: list[JournalFinding] = field(default_factory=list)
    open: list[OpenEntry] = field(default_factory=list)

    def note(self, findings: Iterable[JournalFinding]) -> None:
        """Count findings, and list the first ones."""
        for finding in findings:
            self.finding_count += 1
            if len(self.findings) < MAX_LISTED:
                self.findings.append(finding)


@dataclass(frozen=True, kw_only=True)
class JournalAuditor:
    """Walks the journal of a database."""

    reader: JournalReader

    async def run(
        self,
        *,
        anchors: Sequence[ChainEnd] = (),
        progress: Callable[[int, int], None] | None = None,
        end_of_chain: Callable[[ChainEnd], None] | None = None,
    ) -> JournalAudit:
        """Check every chain.

        `anchors`: ends that were seen earlier, and kept outside of the database. `progress`: gets the entries walked
        and their number. `end_of_chain`: gets the end of each chain, to be kept. Raises `Unavailable`.
        """
        audit, end_of_chain = JournalAudit(anchors=len(anchors)), end_of_chain or _ignore
        walk = ChainWalk(anchors)
        total = await self.reader.size()
        async for rows in self.reader.rows():
            audit.note(_walked(walk, rows, end_of_chain))
            await self._compare_links(walk, audit)
            if progress is not None:
                progress(walk.entries, max(total, walk.entries))
        if walk.last is not None:
            end_of_chain(walk.last)
        audit.note(walk.missing())
        audit.entries, audit.chains = walk.entries, walk.chains
        await self._resolve(audit)
        return audit

    async def _compare_links(self, walk: ChainWalk, audit: JournalAudit) -> None:
        for link in walk.links:
            audit.note(linked(link, await self.reader.hash_of(EntryRef(link.writer, link.number))))
        walk.links.clear()

    async def _resolve(self, audit: JournalAudit) -> None:
        async for intents in self.reader.open_intents():
            audit.open_count += len(intents)
            room = MAX_LISTED - len(audit.open)
            audit.open += [open_entry(intent) for intent in intents[:room]]


def _ignore(anchor: ChainEnd) -> None:
    del anchor


def _walked(
    walk: ChainWalk, rows: Sequence[JournalRow], end_of_chain: Callable[[ChainEnd], None]
) -> Iterator[JournalFinding]:
    for row in rows:
        if walk.last is not None and walk.last.writer != row.writer:
            end_of_chain(walk.last)
        yield from walk.take(row)


def open_entry(intent: OpenIntent) -> OpenEntry:
    """Return an open intent as it is reported."""
    row = intent.row
    return OpenEntry(
        writer=row.writer,
        number=row.number,
        at=row.at,
        principal=row.principal,
        action=row.action,
        collection=row.collection,
        command_id=row.command_id,
        resolution=_resolution(intent),
        code=intent.code,
        decided_at=intent.logged_at,
    )


def _resolution(intent: OpenIntent) -> IntentResolution:
    if intent.row.command_id is None:
        return IntentResolution.NOT_KNOWN
    if intent.outcome is not None:
        return _RESOLUTIONS.get(intent.outcome, IntentResolution.NOT_KNOWN)
    begins, at = intent.log_begins, intent.row.at
    is_covered = begins is not None and at is not None and at >= begins
    return IntentResolution.NOT_ARRIVED if is_covered else IntentResolution.LOG_HAS_LEFT
