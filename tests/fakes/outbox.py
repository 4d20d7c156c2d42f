"""The outbox in memory: obeys the same conformance suite as the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.support.engine.outbox import Written, item_of
from tidemill.commands.rows import OutboxRow
from tidemill.domain.errors import ContractError, Fenced, Unavailable
from tidemill.domain.identity import event_id
from tidemill.domain.lane import Claim
from tidemill.outbox.pack import Pack
from tidemill.outbox.ports import (
    NOTHING_PUBLISHED,
    LaneEnd,
    OutboxItem,
    PackFormat,
    ParkedRecord,
    Published,
)
from tidemill.storage.database.header_json import headers_of, headers_text


@dataclass
class Generation:
    """A generation as the database holds it."""

    closed: bool = False
    sent_at: datetime | None = None


@dataclass
class MemoryOutbox:
    """An `OutboxReader` and `OutboxGenerations`. `away`: every call fails. `reads`: how often rows were asked for.

    `packs`: (generation, pack) by lane. `logged`: the events of the positions that are in packs, by (lane, position).
    """

    rows: dict[int, list[OutboxRow]] = field(default_factory=dict)
    packs: dict[int, list[tuple[int, Pack]]] = field(default_factory=dict)
    logged: dict[tuple[int, int], dict[int, str]] = field(default_factory=dict)
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

    def store(self, *batches: Written, packs: PackFormat | None = None) -> None:
        """Commit batches, in packs if a format of them is given."""
        for written in batches:
            ledger = written.ledger
            self.epochs.setdefault(ledger.lane, 1)
            rows = self.rows.setdefault(ledger.lane, [])
            if packs is None:
                rows.extend(written.outbox)
            else:
                self._pack(written, packs)
            self.ends[ledger.lane] = LaneEnd(ledger.position, ledger.sequence, ledger.timeline)
            for row in written.parked:
                self.kept[row.lane, row.position] = ParkedRecord(
                    row.position, row.topic, row.partition, row.record_offset, row.key, row.value,
                    headers_of(row.headers), row.code, row.detail,
                )  # fmt: skip

    def _pack(self, written: Written, packs: PackFormat) -> None:
        for lane_id, gen, *columns in written.packs(packs):
            self.packs.setdefault(lane_id, []).append((gen, Pack(*columns)))
        for row in written.outbox:
            events = self.logged.setdefault((row.lane, row.position), {})
            if row.payload is not None:
                events[row.sequence] = event_id(row.command_id or "", row.item + 1)

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

    async def read(
        self, lane_id: int, after: int, limit: int, max_bytes: int
    ) -> list[OutboxItem] | list[Pack]:
        self._check()
        self.reads += 1
        packs = [pack for _, pack in self.packs.get(lane_id, []) if pack.position > after]
        behind = [row for row in self.rows.get(lane_id, []) if row.position > after]
        if packs:
            behind = [row for row in behind if row.position < packs[0].first_position]
        if packs and not behind:
            return self._packs(lane_id, packs, max(after, packs[0].first_position - 1) + limit, max_bytes)
        return self._rows(behind, limit, max_bytes)

    def _packs(self, lane_id: int, packs: Sequence[Pack], last: int, max_bytes: int) -> list[Pack]:
        """Return the first one, and those that follow it up to position `last`."""
        found = [packs[0]]
        used, unpacked = self._pack_size(lane_id, packs[0]), packs[0].unpacked_bytes
        for pack in packs[1:]:
            used += self._pack_size(lane_id, pack)
            unpacked += pack.unpacked_bytes
            too_large = used > max_bytes or unpacked > 8 * max_bytes
            if pack.first_position != found[-1].position + 1 or pack.position > last or too_large:
                break
            found.append(pack)
        return found

    def _rows(self, behind: Sequence[OutboxRow], limit: int, max_bytes: int) -> list[OutboxItem]:
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
        newest = {lane: max(self._positions(lane), default=0) for lane in positions}
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
            packs = self.packs.get(lane_id, [])
            held = any(pack.first_position <= position <= pack.position for _, pack in packs)
            return self.logged[lane_id, position] if held else None
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
        for lane, packs in self.packs.items():
            self.packs[lane] = [(gen, pack) for gen, pack in packs if gen != generation]

    def _is_sent(self, generation: int) -> bool:
        return all(
            position <= self.hints.get(lane, NOTHING_PUBLISHED).position
            for lane in self.rows
            for position in self._positions(lane, lambda gen: gen == generation)
        )

    def _positions(self, lane: int, of: Callable[[int], bool] = lambda _: True) -> Iterator[int]:
        """Yield the positions of rows, and the last one of each pack, of the generations that are asked for."""
        yield from (row.position for row in self.rows.get(lane, []) if of(row.gen))
        yield from (pack.position for gen, pack in self.packs.get(lane, []) if of(gen))

    def _pack_size(self, lane_id: int, pack: Pack) -> int:
        positions = range(pack.first_position, pack.position + 1)
        kept = [self.kept[lane_id, at] for at in positions if (lane_id, at) in self.kept]
        parked = sum(len(each.value or b"") + len(headers_text(each.headers)) for each in kept)
        return len(pack.events or b"") + len(pack.outcomes) + parked

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
