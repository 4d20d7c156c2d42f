"""Read models in memory: obeys the same conformance suite as the database."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any

from tidemill.domain.errors import ContractError, TableMisfit, TransientError, UsageError
from tidemill.domain.messages import ReadModelBase
from tidemill.domain.projection import Key, Projection
from tidemill.projections.history import LaneHistory
from tidemill.projections.ports import (
    Checkpoint,
    CheckpointMove,
    CheckpointMoved,
    Comparison,
    FoldHalt,
    ForeignRecord,
    RowDifference,
    Standing,
    View,
)

Rows = dict[Key, ReadModelBase]


@dataclass
class Shelf:
    """One projection as it is kept. `rows`, `checkpoints` and their `locks` are by incarnation."""

    aggregate: str
    live: int = 1
    newest: int = 1
    rows: dict[int, Rows] = field(default_factory=lambda: {1: {}})
    checkpoints: dict[int, dict[int, Checkpoint]] = field(default_factory=lambda: {1: {}})
    halts: dict[int, FoldHalt] = field(default_factory=dict)
    locks: dict[int, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    busy: bool = False


class MemoryViews:
    """`ViewStore` and `RebuildTargets` on dictionaries.

    `problems`: raised by the next calls that reach the store, one each. `lost_answers`: raised by the next commits,
    after they have taken effect. `lanes`: what the log says of them. `foreign`: places of records that were noted.
    `misfits`: what is wrong with the tables of projections, by name.
    """

    def __init__(self) -> None:
        self.shelves: dict[str, Shelf] = {}
        self.problems: deque[Exception] = deque()
        self.lost_answers: deque[Exception] = deque()
        self.lanes: dict[int, LaneHistory] = {}
        self.foreign: set[tuple[int, int]] = set()
        self.misfits: dict[str, str] = {}
        self.commits = 0

    async def open(self, projection: Projection, aggregate: str, partitions: int) -> Standing:
        self.meet_trouble()
        self.demand_table(projection)
        shelf = self._shelf(projection, aggregate, partitions)
        return Standing(View(projection, shelf.live), dict(shelf.checkpoints[shelf.live]), dict(shelf.halts))

    @asynccontextmanager
    async def transaction(self, view: View) -> AsyncIterator[MemoryTransaction]:
        self.meet_trouble()
        transaction = MemoryTransaction(self, view)
        try:
            yield transaction
            transaction.commit()
            self.commits += 1
        finally:
            transaction.end()
        if self.lost_answers:
            raise self.lost_answers.popleft()

    async def histories(self, aggregate: str, partitions: Collection[int]) -> dict[int, LaneHistory]:
        return {at: self.lanes[at] for at in partitions if at in self.lanes}

    async def note_foreign(self, aggregate: str, found: Sequence[ForeignRecord]) -> None:
        self.foreign |= {(record.partition, record.offset) for record in found}

    async def halt(self, view: View, partition: int, halt: FoldHalt) -> None:
        self.meet_trouble()
        shelf = self.shelves[view.projection.name]
        if view.incarnation == shelf.live:
            shelf.halts[partition] = halt

    def rows(self, projection: Projection) -> Rows:
        """The live rows."""
        shelf = self.shelves[projection.name]
        return shelf.rows[shelf.live]

    def checkpoints(self, projection: Projection) -> dict[int, Checkpoint]:
        """The live checkpoints."""
        shelf = self.shelves[projection.name]
        return shelf.checkpoints[shelf.live]

    def meet_trouble(self) -> None:
        if self.problems:
            raise self.problems.popleft()

    def demand_table(self, projection: Projection) -> None:
        if projection.name in self.misfits:
            raise TableMisfit(self.misfits[projection.name])

    def _shelf(self, projection: Projection, aggregate: str, partitions: int) -> Shelf:
        shelf = self.shelves.setdefault(projection.name, Shelf(aggregate))
        if shelf.aggregate != aggregate:
            raise ContractError(f"projection {projection.name} is recorded for {shelf.aggregate}")
        for partition in range(partitions):
            shelf.checkpoints[shelf.live].setdefault(partition, Checkpoint(0, 0))
        return shelf


class MemoryTransaction:
    """Changes a copy, and puts it in place at the commit."""

    def __init__(self, views: MemoryViews, view: View) -> None:
        self._views = views
        self._shelf = views.shelves[view.projection.name]
        self._view = view
        self._locked = False
        self._rows: Rows = {}
        self._checkpoints: dict[int, Checkpoint] = {}
        self._cleared: frozenset[int] = frozenset()

    async def advance(self, steps: Mapping[int, CheckpointMove]) -> None:
        await self._shelf.locks[self._view.incarnation].acquire()
        self._locked = True
        held = self._shelf.checkpoints.get(self._view.incarnation, {})
        for partition, step in steps.items():
            if partition not in held or held[partition].sequence != step.before:
                raise CheckpointMoved(f"{self._view.projection.name}: lane {partition} was moved")
            self._checkpoints[partition] = Checkpoint(step.sequence, step.next_offset)
        self._rows = dict(self._shelf.rows[self._view.incarnation])

    async def load(self, keys: Sequence[Key]) -> Rows:
        self._views.demand_table(self._view.projection)
        return {key: copy(self._rows[key]) for key in keys if key in self._rows}

    async def write(
        self, new: Sequence[ReadModelBase], changed: Sequence[ReadModelBase], gone: Sequence[Key]
    ) -> None:
        self._views.demand_table(self._view.projection)
        for key in gone:
            del self._rows[key]
        for row in changed:
            self._rows[key_of(self._view.projection, row)] = copy(row)
        for row in new:
            key = key_of(self._view.projection, row)
            if key in self._rows:
                raise TransientError(f"another process inserted {key}")
            self._rows[key] = copy(row)

    async def clear_halts(self, partitions: frozenset[int]) -> None:
        self._cleared = partitions

    def commit(self) -> None:
        if not self._locked:
            return
        self._shelf.rows[self._view.incarnation] = self._rows
        self._shelf.checkpoints[self._view.incarnation] |= self._checkpoints
        for partition in self._cleared:
            self._shelf.halts.pop(partition, None)

    def end(self) -> None:
        if self._locked:
            self._shelf.locks[self._view.incarnation].release()


class MemoryRebuildTargets:
    """`RebuildTargets` beside `MemoryViews`."""

    def __init__(self, views: MemoryViews, *, is_exact: bool = False) -> None:
        """`is_exact`: as of rebuild targets of states."""
        self._views = views
        self._is_exact = is_exact

    @asynccontextmanager
    async def open(
        self, projection: Projection, aggregate: str, partitions: int, *, lasting: bool
    ) -> AsyncIterator[MemoryRebuildTarget]:
        await self._views.open(projection, aggregate, partitions)
        shelf = self._views.shelves[projection.name]
        if shelf.busy:
            raise UsageError(f"projection {projection.name} is being rebuilt or verified by another process")
        shelf.busy = True
        target = MemoryRebuildTarget(shelf, projection, partitions, is_exact=self._is_exact)
        try:
            yield target
        finally:
            shelf.busy = False
            target.clear()


class MemoryRebuildTarget:
    """One projection's rows, a second time."""

    corrected: Comparison | None = None

    def __init__(
        self, shelf: Shelf, projection: Projection, partitions: int, *, is_exact: bool = False
    ) -> None:
        self._shelf = shelf
        self.is_exact = is_exact
        self._snapshot: Rows = {}
        shelf.newest += 1
        self.view = View(projection, shelf.newest, live=False)
        shelf.rows[shelf.newest] = {}
        shelf.checkpoints[shelf.newest] = dict.fromkeys(range(partitions), Checkpoint(0, 0))

    async def live(self) -> Mapping[int, Checkpoint]:
        return dict(self._shelf.checkpoints[self._shelf.live])

    async def take_snapshot(self) -> Mapping[int, Checkpoint]:
        self._snapshot = {key: copy(row) for key, row in self._shelf.rows[self._shelf.live].items()}
        return await self.live()

    async def compare(self, examples: int) -> Comparison:
        built = self._shelf.rows[self.view.incarnation]
        keys = sorted(self._snapshot.keys() | built.keys())
        found = [_difference(key, self._snapshot.get(key), built.get(key)) for key in keys]
        differing = [difference for difference in found if difference is not None]
        return Comparison(len(keys), len(differing), differing[:examples])

    @asynccontextmanager
    async def swap(self) -> AsyncIterator[Mapping[int, Checkpoint]]:
        async with self._shelf.locks[self._shelf.live]:
            yield await self.live()
            self._shelf.live = self.view.incarnation
            self._shelf.halts.clear()
            self.clear()

    def clear(self) -> None:
        for incarnation in [one for one in self._shelf.rows if one != self._shelf.live]:
            del self._shelf.rows[incarnation], self._shelf.checkpoints[incarnation]


def key_of(projection: Projection, row: ReadModelBase) -> Key:
    return tuple(attrgetter(name)(row) for name in projection.key_columns)


def _difference(key: Key, live: Any, built: Any) -> RowDifference | None:
    text = tuple(map(str, key))
    if live is None or built is None:
        return RowDifference(text, {}, "rebuilt" if live is None else "live")
    columns = {
        item.name: (str(getattr(live, item.name)), str(getattr(built, item.name)))
        for item in fields(live)
        if getattr(live, item.name) != getattr(built, item.name)
    }
    return RowDifference(text, columns, None) if columns else None
