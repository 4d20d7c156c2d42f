"""One projection in a process: its failures do not affect the others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

from tidemill.domain.errors import DataError, TableMisfit, TidemillError, TransientError
from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream
from tidemill.projections import halts
from tidemill.projections.cursor import Batch
from tidemill.projections.fold import FoldFailed
from tidemill.projections.history import LaneHistory
from tidemill.projections.ports import (
    CheckpointMoved,
    EventSourceFault,
    EventsOutOfRange,
    FoldHalt,
    ViewStore,
)
from tidemill.projections.row_writer import Applied, ViewWriter
from tidemill.projections.status import LaneStatus, ProjectionStatus
from tidemill.runtime.clock import Clock
from tidemill.runtime.retry import Retrier
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import (
    FOLDED,
    PROJECTED,
    PROJECTION_HALTED,
    PROJECTION_MISFIT,
    PROJECTION_SECONDS,
    REPEATED,
)

_log = logger(__name__)

_STABLE_S: Final = 60.0
"""After this long without another projector, the next conflict is logged again."""


class ProjectionWorker:
    """Keeps one projection up to date; stops it, with the reason in `status`, when it cannot continue.

    While its table is not as declared it is stopped, and opened again periodically.
    """

    def __init__(
        self, projection: Projection, stream: Stream, store: ViewStore, clock: Clock, retrier: Retrier
    ) -> None:
        """Open nothing yet."""
        self._projection = projection
        self._stream = stream
        self._store = store
        self._clock = clock
        self._retrier = retrier
        self._writer: ViewWriter | None = None
        # the lanes as they were, while checkpoints are loaded anew: a halt does not end by that
        self._opening: tuple[LaneStatus, ...] = ()
        self._error: str | None = None
        self._misfit: str | None = None
        self.doubtful = False
        self._events = 0
        self._active_at: datetime | None = None
        self._moved_s = -_STABLE_S

    async def open(self) -> None:
        """Load the checkpoints. Afterwards it runs, unless the store refuses, or a stop came first."""
        self._opening = self._lanes()
        self._writer = None
        try:
            standing = await self._retrier.call(
                lambda: self._store.open(self._projection, self._stream.aggregate, self._stream.partitions)
            )
        except TransientError:
            return
        except TableMisfit as misfit:
            self._stand(misfit)
            return
        except TidemillError as error:
            self._fail(error)
            return
        finally:
            self._opening = ()
        self._fits()
        self._writer = ViewWriter(self._store, standing, self._stream.aggregate)

    def start_offsets(self) -> Mapping[int, int]:
        """Return where to read from, for the partitions that it wants."""
        return {} if self._writer is None or self._error else self._writer.start_offsets()

    @property
    def halted(self) -> bool:
        """Return whether it is halted in a lane for a reason that may be gone meanwhile."""
        if self._writer is None or self._error:
            return self.misfits
        return any((cursor.halt or cursor.recorded) is not None for cursor in self._writer.cursors.values())

    @property
    def misfits(self) -> bool:
        """Return whether its table was not as declared at the last check."""
        return self._misfit is not None

    async def apply(self, batch: Batch, histories: Mapping[int, LaneHistory]) -> bool:
        """Take what is next of a batch; return whether `start_offsets` no longer follow from what was read."""
        writer = self._writer
        if writer is None or self._error:
            return False
        closed = writer.closed
        try:
            started = self._clock.monotonic_s()
            applied = await self._retrier.call(lambda: writer.apply(batch, histories))
        except CheckpointMoved as moved:
            self._say_who_else_writes(moved)
            await self.open()
            return True
        except TransientError:
            return False  # the process is being stopped, and the batch will be read again
        except TidemillError as error:
            await self._cannot(writer, batch, error)
            return True
        self.doubtful = False
        self._count(applied, self._clock.monotonic_s() - started)
        return writer.closed != closed

    def _say_who_else_writes(self, moved: CheckpointMoved) -> None:
        """Two writers of one read model conflict at every other batch: logged once, not each time."""
        now_s = self._clock.monotonic_s()
        if now_s - self._moved_s >= _STABLE_S:
            _log.info(Log.PROJECTION_READS_AGAIN, projection=self._projection.name, reason=str(moved))
        self._moved_s = now_s

    async def lose(self, error: EventSourceFault) -> None:
        """Handle the error of a partition: continue without its proof if only that may be missing, else halt."""
        offset = self.start_offsets().get(error.partition)
        if self._writer is None or offset is None or offset > error.offset:
            return
        cursor = self._writer.cursors[error.partition]
        if not isinstance(error, EventsOutOfRange):
            cursor.hold(halts.UNFETCHABLE, str(error))
        elif not cursor.waive_proof():
            cursor.hold(halts.OFFSET_LOST, str(error))
        with suppress(TransientError):
            await self._retrier.call(self._writer.record_halts)

    def status(self) -> ProjectionStatus:
        """Return its status."""
        return ProjectionStatus(
            name=self._projection.name,
            lanes=self._lanes(),
            events=self._events,
            active_at=self._active_at,
            error=self._error,
            misfit=self._misfit,
        )

    def _lanes(self) -> tuple[LaneStatus, ...]:
        if self._writer is None:
            return self._opening
        return tuple(
            LaneStatus(partition, cursor.checkpoint.sequence, cursor.halt or cursor.recorded)
            for partition, cursor in sorted(self._writer.cursors.items())
        )

    def _count(self, applied: Applied, seconds: float) -> None:
        name = self._projection.name
        REPEATED.labels(name).inc(applied.repeated)
        PROJECTION_HALTED.labels(name).set(len(self.status().halted))
        if applied.folded:
            PROJECTED.labels(name).inc(applied.folded)
            FOLDED.labels(name, "numpy").inc(applied.by_arrays)
            FOLDED.labels(name, "python").inc(applied.folded - applied.by_arrays)
            PROJECTION_SECONDS.labels(name).observe(seconds)
            self._events += applied.folded
            self._active_at = self._clock.now()

    async def _cannot(self, writer: ViewWriter, batch: Batch, error: TidemillError) -> None:
        """Stop permanently, or wait for the table: a table that is not as declared refuses values, too."""
        if isinstance(error, DataError | TableMisfit):
            await self.open()
        if isinstance(error, TableMisfit) and not self.misfits:
            self.doubtful = True  # the comparison finds nothing wrong: it is tried less and less often
            self._writer = None
            self._stand(error)
        if self.misfits:
            await self._record(writer, batch, halts.TABLE_MISFIT, error)
        else:
            self._fail(error)
            await self._record(writer, batch, halts.STOPPED, error)

    async def _record(self, writer: ViewWriter, batch: Batch, code: str, error: TidemillError) -> None:
        partition = error.lane_id if isinstance(error, FoldFailed) else min(batch)
        cursor = writer.cursors[partition]
        got = error.sequence if isinstance(error, FoldFailed) else cursor.expected
        cursor.halt = FoldHalt(code, cursor.expected, got, str(error))
        with suppress(
            TidemillError
        ):  # the log and the status have it already; the stored halt is for other processes
            await self._retrier.call(writer.record_halts)

    def _stand(self, misfit: TableMisfit) -> None:
        PROJECTION_MISFIT.labels(self._projection.name).set(1)
        if self._misfit != misfit.detail:
            self._misfit = misfit.detail
            _log.error(Log.TABLE_MISFIT, projection=self._projection.name, reason=misfit.detail)

    def _fits(self) -> None:
        PROJECTION_MISFIT.labels(self._projection.name).set(0)
        if self._misfit is not None:
            self._misfit = None
            _log.warning(Log.TABLE_FITS, projection=self._projection.name)

    def _fail(self, error: TidemillError) -> None:
        self._error = str(error)
        _log.error(Log.PROJECTION_STOPPED, projection=self._projection.name, reason=self._error)
