"""Updating one read model: its part of a batch, in one transaction with its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tidemill.domain.lane import lane_name
from tidemill.projections.batch_fold import touched
from tidemill.projections.cursor import Batch, Cursor, Taken
from tidemill.projections.history import PLAIN, LaneHistory
from tidemill.projections.ports import FoldHalt, Standing, View, ViewStore
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger

_log = logger(__name__)


class Applied(NamedTuple):
    """The result of a batch: events folded, and records dropped because they had been folded before.

    `by_arrays`: how many of the events were folded by arrays, not one by one.
    """

    folded: int
    repeated: int
    by_arrays: int


class ViewWriter:
    """One read model with its cursors. After any exception nothing has moved, and the batch may be tried again.

    `until`: partition -> last sequence wanted.
    """

    def __init__(
        self, store: ViewStore, standing: Standing, aggregate: str, until: Mapping[int, int] | None = None
    ) -> None:
        """Load the checkpoints. `aggregate`: whose events they are."""
        self._store = store
        self._aggregate = aggregate
        self.closed = 0  # how often a lane was closed
        self.view: View = standing.view
        self.cursors = {
            partition: Cursor(
                checkpoint,
                recorded=standing.halts.get(partition),
                until=None if until is None else until.get(partition, 0),
            )
            for partition, checkpoint in standing.checkpoints.items()
        }

    def start_offsets(self) -> dict[int, int]:
        """Return where to read from, for the partitions that are to be read."""
        return {
            partition: cursor.start_offset for partition, cursor in self.cursors.items() if not cursor.closed
        }

    async def apply(self, batch: Batch, histories: Mapping[int, LaneHistory]) -> Applied:
        """Fold what is next, commit, record halts. `histories`: of the lanes, read after the batch has arrived.

        Raises `TransientError` (try again), `CheckpointMoved` (read again), `FoldFailed`, `DataError` and others
        (this projection cannot continue).
        """
        for partition in batch:
            self.cursors[partition].history = histories.get(partition, PLAIN)
        repeated = sum(lane.before(self.cursors[at].expected) for at, lane in batch.items())
        taken = self._take(batch)
        folded, by_arrays = await self._fold(
            {partition: part for partition, part in taken.items() if part.events}
        )
        for partition, part in taken.items():
            self._move(partition, part)
        await self.record_halts()
        return Applied(folded, repeated, by_arrays)

    async def record_halts(self) -> None:
        """Record the halts that are not recorded yet."""
        for partition, cursor in self.cursors.items():
            if cursor.halt is not None and cursor.halt != cursor.recorded:
                await self._store.halt(self.view, partition, cursor.halt)
                cursor.recorded = cursor.halt
                self._log(Log.PROJECTION_HALTED, partition, cursor.halt)

    def _take(self, batch: Batch) -> dict[int, Taken]:
        offered = ((partition, self.cursors[partition].take(lane)) for partition, lane in batch.items())
        return {partition: taken for partition, taken in offered if taken is not None}

    async def _fold(self, taken: Mapping[int, Taken]) -> tuple[int, int]:
        """Fold and commit; return how many events were folded, and how many of them by arrays."""
        if not taken:
            return 0, 0
        batch = touched(self.view.projection, [part.events for part in taken.values()])
        async with self._store.transaction(self.view) as transaction:
            await transaction.advance({at: self.cursors[at].step(part) for at, part in taken.items()})
            if batch.keys:
                loaded = await transaction.load(batch.keys)
                await transaction.write(*batch.into(loaded))
            resumed = frozenset(at for at in taken if self.cursors[at].recorded is not None)
            if resumed:
                await transaction.clear_halts(resumed)
        events = sum(len(part.events) for part in taken.values())
        return events, events if batch.by_arrays else 0

    def _move(self, partition: int, taken: Taken) -> None:
        cursor = self.cursors[partition]
        cursor.move(taken)
        if taken.events and cursor.recorded is not None:
            self._log(Log.PROJECTION_RESUMED, partition, cursor.recorded)
            cursor.recorded = None
        if cursor.closed:
            self.closed += 1

    def _log(self, event: Log, partition: int, halt: FoldHalt) -> None:
        lane = lane_name(self._aggregate, partition)
        _log.warning(
            event, projection=self.view.projection.name, lane=lane, code=halt.code, detail=halt.detail
        )
