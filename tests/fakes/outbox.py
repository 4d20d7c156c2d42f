"""The outbox in memory: obeys the same conformance suite as the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.support.engine.outbox import Written, item_of
from tidemill.commands.rows import OutboxRow
from tidemill.domain.errors import ContractError, Fenced, Unavailable
from tidemill.domain.identity import event_id
from tidemill.domain.lane import Claim
from tidemill.outbox.ports import NOTHING_PUBLISHED, LaneEnd, OutboxItem, ParkedRecord, Published
from tidemill.storage.database.header_json import headers_of, headers_text


@dataclass
class Generation:
    """A generation as the database holds it."""

    closed: bool = False
    sent_at: datetime | None = None


@dataclass
class MemoryOutbox:
    """An `OutboxReader` and `OutboxGenerations`. `away`: every call fails. `reads`: how often rows were asked for."""

    rows: dict[int, list[OutboxRow]] = field(default_factory=dict)
    kept: dict[tuple[int, int], ParkedRecord] = field(default_factory=dict)
    ends: dict[int, LaneEnd] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    hints: dict[int, Published] = field(default_factory=dict)
    halts: dict[int, tuple[str, str]] = field(default_factory=dict)
    generations: dict[int, Generation] = field(default_factory=lambda: {1: Generation()})
    now: datetime = datetime(2026, 11, 21, tzinfo=UTC)
    away: bool = False
    reads: int = 0

    # --- what the way in and the keeper of generations do ---

    def store(self, *batches: Written) -> None:
        """Commit batches."""
        for written in batches:
            ledger = written.ledger
            self.epochs.setdefault(ledger.lane, 1)
            self.rows.setdefault(ledger.lane, []).extend(written.outbox)
            self.ends[ledger.lane] = LaneEnd(ledger.position, ledger.sequence, ledger.timeline)
            for row in written.parked:
                self.kept[row.lane, row.position] = ParkedRecord(
                    row.position, row.topic, row.partition, row.record_offset, row.key, row.value,
                    headers_of(row.headers), row.code, row.detail,
                )  # fmt: skip

    def create(self, lane_id: int) -> None:
        """Create a lane."""
        self.epochs[lane_id] = 1
        self.rows[lane_id] = []
        self.ends[lane_id] = LaneEnd(0, 0, 1)

    def roll(self) -> int:
        """Close the open generation, open the next one; return its number."""
        newest = max(self.generations)
        self.generations[newest].closed = True
        self.generations[newest + 1] = Generation()
        return newest + 1

    # --- OutboxReader ---

    async def read(self, lane_id: int, after: int, limit: int, max_bytes: int) -> list[OutboxItem]:
        self._check()
        self.reads += 1
        behind = [row for row in self.rows.get(lane_id, []) if row.position > after]
        found: list[OutboxItem] = []
        used = 0
        for position in sorted({row.position for row in behind}):
            rows = [row for row in behind if row.position == position]
            used += sum(self._size(row) for row in rows)
            if found and (position >= found[0].position + limit or used > max_bytes):
                break
            found += [item_of(row) for row in sorted(rows)]
        return found

    async def parked(self, lane_id: int, positions: Sequence[int], max_bytes: int) -> dict[int, ParkedRecord]:
        self._check()
        return {
            at: _small(self.kept[lane_id, at], max_bytes) for at in positions if (lane_id, at) in self.kept
        }

    async def pending(self, positions: Mapping[int, int]) -> dict[int, int]:
        self._check()
        newest = {
            lane: max((row.position for row in self.rows.get(lane, [])), default=0) for lane in positions
        }
        return {lane: newest[lane] for lane, position in positions.items() if newest[lane] > position}

    async def published(self, lane_id: int) -> Published:
        self._check()
        return self.hints.get(lane_id, NOTHING_PUBLISHED)

    async def mark(self, marks: Mapping[int, Published]) -> None:
        self._check()
        for lane, mark in marks.items():
            if mark.position > self.hints.get(lane, NOTHING_PUBLISHED).position:
                self.hints[lane] = mark

    async def end(self, claim: Claim) -> LaneEnd:
        self._check()
        if claim.lane.id not in self.ends:
            raise ContractError(f"lane {claim.lane.id} of {claim.lane.aggregate} has no ledger: restore it")
        if self.epochs[claim.lane.id] != claim.epoch:
            raise Fenced(frozenset({claim.lane.id}))
        return self.ends[claim.lane.id]

    async def events_at(self, lane_id: int, position: int) -> dict[int, str] | None:
        self._check()
        rows = [row for row in self.rows.get(lane_id, []) if row.position == position]
        if not rows:
            return None
        return {
            row.sequence: event_id(row.command_id or "", row.item + 1)
            for row in rows
            if row.payload is not None
        }

    async def halt(self, claim: Claim, code: str, detail: str) -> None:
        self._check()
        if self.epochs[claim.lane.id] == claim.epoch:
            self.halts.setdefault(claim.lane.id, (code, detail))

    async def halted(self, lanes: Sequence[int]) -> frozenset[int]:
        self._check()
        return frozenset(lanes) & self.halts.keys()

    # --- OutboxGenerations ---

    async def note_sent(self) -> None:
        self._check()
        for number, generation in self.generations.items():
            if generation.closed and generation.sent_at is None and self._is_sent(number):
                generation.sent_at = self.now

    async def droppable(self, keep: timedelta) -> list[int]:
        self._check()
        sent = [(number, each.sent_at) for number, each in sorted(self.generations.items())]
        return [number for number, at in sent if at is not None and at <= self.now - keep]

    async def drop(self, generation: int) -> None:
        self._check()
        self.generations.pop(generation, None)
        for lane, rows in self.rows.items():
            self.rows[lane] = [row for row in rows if row.gen != generation]

    def _is_sent(self, generation: int) -> bool:
        return all(
            row.position <= self.hints.get(lane, NOTHING_PUBLISHED).position
            for lane, rows in self.rows.items()
            for row in rows
            if row.gen == generation
        )

    def _size(self, row: OutboxRow) -> int:
        kept = self.kept.get((row.lane, row.position)) if row.outcome == b"p" else None
        values = (row.key, row.payload, kept.value if kept else None)
        headers = len(headers_text(kept.headers)) if kept else 0
        return headers + sum(len(value) for value in values if value is not None)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("database", "switched off by the test")


def _small(record: ParkedRecord, max_bytes: int) -> ParkedRecord:
    """Return the record without what alone is larger."""
    if record.value is not None and len(record.value) > max_bytes:
        record = record._replace(value=None, value_bytes=len(record.value))
    if record.key is not None and len(record.key) > max_bytes:
        record = record._replace(key=None, bare=True)
    if len(headers_text(record.headers)) > 2 * max_bytes:
        record = record._replace(headers=(), bare=True)
    return record
