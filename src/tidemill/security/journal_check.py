"""The check of the journal: each chain is walked from its anchor, and compared with what was seen from outside.

Pure: rows in, faults out. Memory is bounded by the anchors that are given, whatever the number of rows.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tidemill.security.journal import BEFORE_ALL, ChainEnd, EntryKind, EntryRef, JournalRow, link_of, row_hash


class JournalFault(StrEnum):
    """What is wrong with a chain."""

    CHANGED = "CHANGED"
    """The hash does not follow from the row and the entry before: one of the two was changed, or their order."""
    MISSING = "MISSING"
    """Numbers are left out: entries were removed."""
    REPEATED = "REPEATED"
    """A number comes again, or lower ones follow."""
    NO_ANCHOR = "NO_ANCHOR"
    """The first entry is not an anchor, or a later one is."""
    CUT_OFF = "CUT_OFF"
    """The end that was seen from outside is not there any more: entries were removed, or the whole chain."""
    OTHER = "OTHER"
    """The entry that was seen from outside is another one now: the chain was written anew."""


@dataclass(frozen=True, slots=True)
class JournalFinding:
    """A fault, where it is, and the evidence in a sentence."""

    fault: JournalFault
    writer: UUID
    number: int
    detail: str


class ChainWalk:
    """Takes the rows of all chains, by writer and number, and finds what is wrong with them.

    `anchors`: what was seen from outside, of any number of chains. `links`: the ends of chains that others continue,
    as their anchors say; whoever walks compares them with `linked` at the end.
    """

    def __init__(self, anchors: Iterable[ChainEnd] = ()) -> None:
        self.entries = 0
        self.chains = 0
        self.links: list[ChainEnd] = []
        self._expected = {anchor[:2]: anchor.hash for anchor in anchors}
        self._last: ChainEnd | None = None

    def take(self, row: JournalRow) -> Iterator[JournalFinding]:
        """Find what is wrong with the next row."""
        self.entries += 1
        before = self._last
        if before is None or before.writer != row.writer:
            before = ChainEnd(row.writer, 0, BEFORE_ALL)
            self.chains += 1
        self._last = ChainEnd(row.writer, row.number, row.hash)
        yield from _number_faults(before, row)
        yield from _hash_faults(before, row)
        expected = self._expected.pop((row.writer, row.number), row.hash)
        if not hmac.compare_digest(expected, row.hash):
            yield JournalFinding(
                JournalFault.OTHER, *row.ref, "its hash is not the one of the anchor that was kept outside"
            )
        if row.kind == EntryKind.ANCHOR and (link := link_of(row)) is not None:
            self.links.append(link)

    @property
    def last(self) -> ChainEnd | None:
        """Return the end of the present chain as far as it was walked; None before the first row."""
        return self._last

    def missing(self) -> Iterator[JournalFinding]:
        """Find, after the last row, what was seen from outside and did not come."""
        for writer, number in self._expected:
            yield JournalFinding(
                JournalFault.CUT_OFF,
                writer,
                number,
                "the anchor that was kept outside names it, and it is not there",
            )


def linked(link: ChainEnd, stored: bytes | None) -> Iterator[JournalFinding]:
    """Compare the end of a chain, as the one that continues it names it, with the hash that is stored there."""
    if stored is None:
        detail = "the chain that continues this one names it, and it is not there"
        yield JournalFinding(JournalFault.CUT_OFF, link.writer, link.number, detail)
    elif not hmac.compare_digest(stored, link.hash):
        detail = "its hash is not the one that the chain that continues this one names"
        yield JournalFinding(JournalFault.OTHER, link.writer, link.number, detail)


def faults(rows: Iterable[JournalRow], anchors: Iterable[ChainEnd] = ()) -> list[JournalFinding]:
    """Return all that is wrong with chains that fit in memory."""
    walk, hashes = ChainWalk(anchors), dict[EntryRef, bytes]()
    findings: list[JournalFinding] = []
    for row in sorted(rows, key=lambda row: row.ref):
        hashes[row.ref] = row.hash
        findings += walk.take(row)
    findings += walk.missing()
    return findings + [
        finding
        for link in walk.links
        for finding in linked(link, hashes.get(EntryRef(link.writer, link.number)))
    ]


def _number_faults(before: ChainEnd, row: JournalRow) -> Iterator[JournalFinding]:
    if row.number > before.number + 1:
        lost = (
            f"{before.number + 1}"
            if row.number == before.number + 2
            else f"{before.number + 1} to {row.number - 1}"
        )
        yield JournalFinding(
            JournalFault.MISSING, row.writer, before.number + 1, f"number {lost} of the chain is not there"
        )
    elif row.number <= before.number:
        yield JournalFinding(
            JournalFault.REPEATED, *row.ref, f"number {row.number} follows number {before.number}"
        )
    if (row.kind == EntryKind.ANCHOR) != (row.number == 1):
        is_first = row.number == 1
        detail = f"the first entry is of kind {row.kind}" if is_first else "an anchor follows other entries"
        yield JournalFinding(JournalFault.NO_ANCHOR, *row.ref, detail)


def _hash_faults(before: ChainEnd, row: JournalRow) -> Iterator[JournalFinding]:
    if row.number == before.number + 1 and not hmac.compare_digest(row_hash(before.hash, row), row.hash):
        detail = "its hash does not follow from its columns and the entry before"
        yield JournalFinding(JournalFault.CHANGED, *row.ref, detail)
