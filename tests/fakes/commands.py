"""The way in's database in memory: obeys the same conformance suite as the real one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tests.fakes.table_parts import chunk_start, overlaps_one, parts_of
from tidemill.commands.ports import ClosedRange, Locked
from tidemill.commands.rows import LedgerRow, LoggedCommand, LogRow, OutboxRow, ParkedRow
from tidemill.commands.superseded_ports import OwnerOfFacts, SupersededFacts, TablePart
from tidemill.commands.version_wait import next_wait
from tidemill.commands.waits import Newer, Wait
from tidemill.domain.errors import (
    CommitUnknown,
    ContractError,
    Fenced,
    GenerationClosed,
    LaneHalted,
    NotCompared,
    RepeatedIds,
    TransientError,
    Unavailable,
)
from tidemill.domain.headers import Headers
from tidemill.domain.lane import Anchor, Claim, Lane, Progress
from tidemill.domain.state import Expiry, Reference, State, Unique
from tidemill.domain.stream import Stream
from tidemill.domain.table_shape import TableShape
from tidemill.runtime.clock import Clock, SystemClock
from tidemill.storage.database.header_json import headers_text

T = TypeVar("T")

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Held:
    """A lane as the database holds it."""

    lane: Lane
    progress: Progress
    epoch: int = 0
    owner: str | None = None
    claimed_offset: int | None = None
    compared_epoch: int | None = None
    claims_without_progress: int = 0
    attempt: tuple[int, int] = (-1, 0)


@dataclass
class Tables:
    """What a transaction may change; a transaction works on a copy."""

    log: dict[int, list[LogRow]] = field(default_factory=lambda: {1: []})
    outbox: list[OutboxRow] = field(default_factory=list)
    parked: list[ParkedRow] = field(default_factory=list)
    ledger: list[LedgerRow] = field(default_factory=list)
    appended: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    late: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    joined: dict[str, dict[Any, Any]] = field(default_factory=dict)

    def copy(self) -> Tables:
        return Tables(
            {gen: list(rows) for gen, rows in self.log.items()},
            list(self.outbox),
            list(self.parked),
            list(self.ledger),
            {name: list(rows) for name, rows in self.appended.items()},
            {name: dict(rows) for name, rows in self.states.items()},
            {name: list(rows) for name, rows in self.late.items()},
            {name: dict(rows) for name, rows in self.joined.items()},
        )

    def superseded(self, of: SupersededFacts) -> dict[str, list[tuple[Any, ...]]]:
        """Return the facts of each owner, in a part of their table, whose revision can never be current again."""
        facts, owner, part = of
        assert facts.removal is not None
        removable: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        names = [column.name for column in facts.table.columns]
        key_at, number_at = names.index(facts.owner), names.index(facts.revision)
        for row in self.appended.get(facts.table.name, []):
            held = self.states[owner.table.name][row[key_at]]
            kept = {getattr(held, facts.revision)}
            if getattr(held, facts.removal.filled) is not None:
                kept.add(getattr(held, facts.removal.newest))
            if part.start is not None and chunk_start(row[0]) != part.start:
                continue
            if row[number_at] not in kept:
                removable[row[key_at]].append(row)
        return removable


class MemoryCommandStore:
    """A `CommandStore`. `away`: every call fails. `lose_commits`: that many commits happen unheard."""

    def __init__(self, *streams: Stream) -> None:
        self.tables = Tables()
        self.gen = 1
        self.lanes: dict[int, Held] = {}
        self.halts: dict[int, tuple[str, str]] = {}
        self.waits: dict[int, Wait] = {}
        self.clock: Clock = SystemClock()
        self.closed: list[ClosedRange] = []
        self.away = False
        self.lose_commits = 0
        self.transactions = 0
        for stream in streams:
            for partition in range(stream.partitions):
                number = len(self.lanes) + 1
                lane = Lane(number, stream.aggregate, partition, stream.partitions, stream.topics)
                self.lanes[number] = Held(lane, Progress(0, 0, None, 0, 0, 0, 1, START))

    def headers_text(self, headers: Headers) -> str:
        return headers_text(headers)

    def check(self) -> None:
        if self.away:
            raise Unavailable("database", "switched off by the test")

    async def claim(self, aggregate: str, partitions: Sequence[int], owner: str) -> list[Claim]:
        self.check()
        held = [
            each
            for each in self.lanes.values()
            if each.lane.aggregate == aggregate and each.lane.partition in partitions
        ]
        if len(held) != len(set(partitions)):
            raise ContractError("lanes that were never created: run `tidemill topics create`")
        for each in held:
            if each.owner != owner:
                stuck = each.claimed_offset == each.progress.next_offset
                each.claims_without_progress = min(each.claims_without_progress + 1, 3) if stuck else 0
            each.epoch, each.owner, each.claimed_offset = each.epoch + 1, owner, each.progress.next_offset
        return [
            Claim(each.lane, each.epoch, each.progress, cautious=each.claims_without_progress >= 3)
            for each in held
        ]

    async def compared(self, claims: Sequence[Claim], *, idle: Collection[int] = ()) -> None:
        self.check()
        for claim in claims:
            held = self.lanes[claim.lane.id]
            if held.epoch == claim.epoch:
                held.compared_epoch = held.epoch
                if claim.lane.id in idle:
                    held.claimed_offset, held.claims_without_progress = None, 0

    async def release(self, claims: Sequence[Claim]) -> None:
        self.check()
        for claim in claims:
            held = self.lanes[claim.lane.id]
            if held.epoch == claim.epoch:
                held.owner, held.claimed_offset, held.claims_without_progress, held.attempt = (
                    None,
                    None,
                    0,
                    (-1, 0),
                )

    async def halted(self, lanes: Sequence[int]) -> dict[int, tuple[str, str]]:
        self.check()
        return {lane: self.halts[lane] for lane in lanes if lane in self.halts}

    async def halt(self, claim: Claim, code: str, detail: str) -> None:
        self.check()
        if self.lanes[claim.lane.id].epoch == claim.epoch:
            self.halts.setdefault(claim.lane.id, (code, detail))

    async def count_attempt(self, claim: Claim, offset: int) -> int:
        self.check()
        held = self.lanes[claim.lane.id]
        if held.epoch != claim.epoch:
            raise Fenced(frozenset({claim.lane.id}))
        before, count = held.attempt
        held.attempt = (offset, count + 1 if before == offset else 1)
        return held.attempt[1]

    async def forget_attempts(self, claim: Claim) -> None:
        self.check()
        if self.lanes[claim.lane.id].epoch == claim.epoch:
            self.lanes[claim.lane.id].attempt = (-1, 0)

    async def wait(self, claim: Claim, newer: Newer, at_most: timedelta) -> Wait:
        self.check()
        lane = claim.lane.id
        if self.lanes[lane].epoch != claim.epoch:
            raise Fenced(frozenset({lane}))
        self.lanes[lane].attempt = (-1, 0)
        self.waits[lane] = next_wait(self.waits.get(lane), newer, self.clock.now(), at_most)
        return self.waits[lane]

    async def waiting(self, lanes: Sequence[int]) -> frozenset[int]:
        self.check()
        now = self.clock.now()
        held = {lane: self.waits[lane] for lane in lanes if lane in self.waits}
        return frozenset(lane for lane, wait in held.items() if wait.over_at is None and now < wait.until)

    async def expired(
        self, state: State, ending: Expiry, after: tuple[datetime, str], limit: int
    ) -> list[tuple[datetime, str]]:
        self.check()
        now, column = self.clock.now(), ending.column
        rows = self.tables.states.get(state.table.name, {}).items()
        over = [
            (getattr(row, column), key)
            for key, row in rows
            if state.in_force(row) and ending.is_over(row, now)
        ]
        return sorted(pair for pair in over if pair > after)[:limit]

    async def removable_parts(self, table: TableShape) -> list[TablePart]:
        self.check()
        parts = parts_of(table, self.tables.appended.get(table.name, []))
        return [part for part in parts if not overlaps_one(part, self.closed)]

    async def owners_of_superseded(
        self, facts: SupersededFacts, after: str, limit: int
    ) -> list[OwnerOfFacts]:
        self.check()
        rows = self.tables.states.get(facts.owner.table.name, {})
        keys = sorted(key for key in rows if key > after)[:limit]
        superseded = self.tables.superseded(facts)
        return [OwnerOfFacts(key, bool(superseded.get(key))) for key in keys]

    def unit_of_work(self) -> AbstractAsyncContextManager[MemoryWork]:
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[MemoryWork]:
        self.check()
        self.transactions += 1
        work = MemoryWork(self, self.tables.copy())
        yield work
        self.check()
        self.tables = work.tables
        for row in work.closed:
            anchor = (
                None if row.anchor_offset is None else Anchor(row.anchor_offset, row.anchor_checksum or 0)
            )
            self.lanes[row.lane].progress = Progress(
                row.batch, row.to_offset, anchor, row.position, row.sequence, row.chain, row.timeline, row.at
            )
        if self.lose_commits:
            self.lose_commits -= 1
            raise CommitUnknown("the test swallowed the answer")

    # --- what a keeper of generations does ---

    def roll(self) -> None:
        """Close the open generation."""
        self.gen += 1
        self.tables.log[self.gen] = []


class MemoryWork:
    """A `UnitOfWork` on a copy of the tables."""

    def __init__(self, store: MemoryCommandStore, tables: Tables) -> None:
        self.store = store
        self.tables = tables
        self.closed: list[LedgerRow] = []
        self.gen = store.gen

    def join(self, open_port: Callable[[MemoryWork], T]) -> T:
        return open_port(self)

    async def lock(self, claims: Sequence[Claim]) -> Locked:
        lanes = {claim.lane.id: claim.epoch for claim in claims}
        lost = frozenset(lane for lane, epoch in lanes.items() if self.store.lanes[lane].epoch != epoch)
        if lost:
            raise Fenced(lost)
        progress = {lane: self.store.lanes[lane].progress for lane in lanes}
        return Locked(self.gen, self.store.clock.now(), progress)

    async def demand_going(self, claim: Claim) -> None:
        lane = claim.lane.id
        if lane in self.store.halts:
            raise LaneHalted(lane, *self.store.halts[lane], name=claim.lane.name)
        if self.store.lanes[lane].compared_epoch != self.store.lanes[lane].epoch:
            raise NotCompared(lane, "since it was claimed or changed last", name=claim.lane.name)

    async def find(self, ids: Sequence[str], *, open_too: bool) -> dict[str, LoggedCommand]:
        wanted = set(ids)
        return {
            row.command_id: LoggedCommand(
                row.command_id,
                row.digest,
                row.outcome,
                row.code,
                row.detail,
                self.store.lanes[row.lane].lane.name,
                row.position,
                row.sequence,
                int(row.events > 0) if row.rows is None else row.rows,
            )
            for gen, rows in self.tables.log.items()
            if gen != self.gen or open_too
            for row in rows
            if row.command_id in wanted
        }

    async def append(self, table: Any, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        self.tables.appended.setdefault(table.name, []).extend(rows)

    async def closed_ranges(self, table: Any, first: datetime, last: datetime) -> list[ClosedRange]:
        return [each for each in self.store.closed if each.end > first and each.start <= last]

    async def divert(
        self, table: Any, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], starts: Sequence[datetime]
    ) -> None:
        late = [(*row, start) for row, start in zip(rows, starts, strict=True)]
        self.tables.late.setdefault(table.name, []).extend(late)

    async def load(self, state: State, keys: Sequence[str]) -> dict[str, Any]:
        held = self.tables.states.get(state.table.name, {})
        return {key: held[key] for key in keys if key in held}

    async def remove_superseded(
        self, facts: SupersededFacts, keys: Sequence[str], limit: int
    ) -> dict[str, int]:
        if facts.part not in await self.store.removable_parts(facts.facts.table):
            return {}
        held = self.tables.appended.get(facts.facts.table.name, [])
        superseded = self.tables.superseded(facts)
        removed = [(key, row) for key in keys for row in superseded.get(key, [])][:limit]
        for _, row in removed:
            held.remove(row)
        return dict(Counter(key for key, _ in removed))

    async def owners(
        self, state: State, unique: Unique, values: Sequence[tuple[Any, ...]]
    ) -> dict[tuple[Any, ...], str]:
        held = self.tables.states.get(state.table.name, {})
        owned = {unique.of(each): key for key, each in held.items()}
        return {value: owned[value] for value in values if value in owned}

    async def in_force(self, state: State, keys: Sequence[str]) -> set[str]:
        held = self.tables.states.get(state.table.name, {})
        return {key for key in keys if state.in_force(held.get(key))}

    async def referred_to(
        self, state: State, child: State, reference: Reference, keys: Sequence[str]
    ) -> set[str]:
        rows = self.tables.states.get(child.table.name, {}).values()
        return {getattr(row, reference.column) for row in rows if child.in_force(row)} & set(keys)

    async def replace(self, state: State, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        held = self.tables.states.setdefault(state.table.name, {})
        for key, row in before.items():
            if key not in held or held.pop(key).version != row.version:
                raise TransientError("rows changed under the batch")
        for key, row in after.items():
            if key in held:
                raise TransientError("another lane took the key")
            held[key] = row
        for unique in state.unique:
            values = [value for value in map(unique.of, held.values()) if value is not None]
            if len(set(values)) != len(values):
                raise TransientError("another lane took a unique value")

    async def log(self, rows: Sequence[LogRow]) -> None:
        there = {row.command_id for row in self.tables.log[self.gen]} - {None}
        ids = [row.command_id for row in rows if row.command_id is not None]
        if there.intersection(ids) or len(set(ids)) != len(ids):
            raise RepeatedIds("the open generation has one of the ids")
        self.tables.log[self.gen].extend(rows)

    async def park(self, rows: Sequence[ParkedRow]) -> None:
        self.tables.parked.extend(rows)

    async def send(self, rows: Sequence[OutboxRow]) -> None:
        self.tables.outbox.extend(rows)

    async def append_ledger(self, rows: Sequence[LedgerRow]) -> None:
        self.tables.ledger.extend(rows)
        self.closed = list(rows)
        if self.store.gen != self.gen:
            raise GenerationClosed("closed under the batch")


def moved(progress: Progress, **changes: Any) -> Progress:
    """Return a progress with changes, for tests that plant one."""
    return replace(progress, **changes)
