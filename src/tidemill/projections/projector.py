"""The projector of one stream: reads its events once and keeps every projection of them up to date.

Each projection has its own checkpoints and its own transaction per batch. A gap, an unreadable event or a changed
topic halts one lane of one projection; a bug in its code stops that projection; everything else continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from tidemill.domain.errors import TransientError
from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream
from tidemill.projections.batch_fold import read_by_columns
from tidemill.projections.cursor import Batch
from tidemill.projections.ports import EventCodec, EventSource, EventSourceFault, ViewStore
from tidemill.projections.read_ahead import MAX_EVENTS, ReadAhead
from tidemill.projections.retry import projector_retrier
from tidemill.projections.status import ProjectorStatus
from tidemill.projections.worker import ProjectionWorker
from tidemill.runtime.clock import Clock
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import FOREIGN_RECORDS

_log = logger(__name__)

DRAIN_S: Final = 3.0
_ABANDON_S: Final = 2.0
LOOK_AGAIN_FIRST_S: Final = 2.0
"""How long after a halt its cause is checked again; twice as long each time."""
_LOOK_AGAIN_LONGEST_S: Final = 60.0
_LOOK_AT_TABLES_S: Final = 4.0
"""The same for a table that is not as declared: a check costs little, and an operator who fixes it waits."""


class Projector:
    """Runs once, until told to stop; `status` may be called at any time."""

    def __init__(
        self,
        stream: Stream,
        projections: Sequence[Projection],
        *,
        source: EventSource,
        codec: EventCodec,
        store: ViewStore,
        clock: Clock,
        max_events: int = MAX_EVENTS,
    ) -> None:
        """Connect nothing yet. `max_events`: how many are read ahead, and so the usual bound of a transaction."""
        self._stream = stream
        self._source = source
        self._store = store
        self._pause_s = LOOK_AGAIN_FIRST_S
        self._look_again_at: float | None = None
        self._retrier = projector_retrier()
        self._reader = ReadAhead(
            source,
            codec,
            self._retrier,
            max_events=max_events,
            max_bytes=2 * stream.batch_bytes,
            by_columns=read_by_columns(projections),
        )
        self._workers = [
            ProjectionWorker(projection, stream, store, clock, self._retrier) for projection in projections
        ]

    async def run(self, stopping: asyncio.Event, *, drain_s: float = DRAIN_S) -> None:
        """Project until `stopping`, then finish the batch in flight; give it up after `drain_s`.

        Raises only bugs, also those of an adapter; it waits for servers that are unavailable.
        """
        work = asyncio.create_task(self._work(), name=f"projector {self._stream.aggregate}")
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            self._retrier.stop()
            self._reader.interrupt()
            await asyncio.wait({work}, timeout=drain_s)
        finally:
            stop.cancel()
            await self._end(work)

    def status(self) -> ProjectorStatus:
        """Return the state of every projection."""
        return ProjectorStatus(
            aggregate=self._stream.aggregate,
            projections=tuple(worker.status() for worker in self._workers),
            waiting_for=self._retrier.reason or None,
        )

    async def _work(self) -> None:
        await asyncio.gather(*(worker.open() for worker in self._workers))
        try:
            await self._retrier.call(self._start_source)
        except TransientError:
            return  # told to stop before the broker came back
        self._place()
        self._reader.start()
        self._plan_look()
        try:
            while not self._retrier.stopped:
                await self._turn()
        finally:
            await self._reader.stop()

    async def _start_source(self) -> None:
        try:
            await self._source.start(self._offsets())
        except TransientError:
            await self._source.close()
            raise

    async def _turn(self) -> None:
        try:
            batch = await self._take()
            if batch is None:
                await self._look_again()
            else:
                await self._apply(batch)
        except EventSourceFault as fault:
            await asyncio.gather(*(worker.lose(fault) for worker in self._workers))
            await self._read_again()
        except TransientError:
            if not self._retrier.stopped:  # else told to stop while a server was unavailable
                raise  # the client must be replaced
        self._plan_look()

    async def _take(self) -> Batch | None:
        """Return what has arrived; None when it is time to check halted projections again."""
        due = self._look_again_at
        if (
            due is not None and asyncio.get_running_loop().time() >= due
        ):  # a backlog would never let the timer fire
            return None
        try:
            async with asyncio.timeout_at(due):
                return await self._reader.take()
        except TimeoutError:
            return None

    async def _apply(self, batch: Batch) -> None:
        await self._tell_of_foreign_records()
        if not batch:
            return  # interrupted, or all of it was left out
        histories = await self._retrier.call(
            lambda: self._store.histories(self._stream.aggregate, batch.keys())
        )
        outcomes = await asyncio.gather(*(worker.apply(batch, histories) for worker in self._workers))
        if any(outcomes):
            await self._read_again()

    async def _tell_of_foreign_records(self) -> None:
        """A record that is not an event is left out: the numbers of the events prove that none is missing."""
        if found := self._reader.foreign():
            await self._retrier.call(lambda: self._store.note_foreign(self._stream.aggregate, found))
            FOREIGN_RECORDS.labels(self._stream.aggregate).inc(len(found))
            _log.warning(
                Log.FOREIGN_RECORDS,
                topic=self._stream.topics.events,
                records=len(found),
                lane=found[0].partition,
                offset=found[0].offset,
                detail=found[0].detail,
            )

    async def _look_again(self) -> None:
        """Load the checkpoints: an operator may have decided, a topic or a table may have been fixed."""
        self._look_again_at = None
        self._pause_s = min(_LOOK_AGAIN_LONGEST_S, 2 * self._pause_s)
        halted = [worker for worker in self._workers if worker.halted]
        await asyncio.gather(*(worker.open() for worker in halted))
        if not all(worker.misfits for worker in halted):  # else no further projection reads
            await self._read_again()

    def _plan_look(self) -> None:
        """Check again after a while if a projection is halted."""
        if not any(worker.halted for worker in self._workers):
            self._look_again_at = None
            if not any(worker.doubtful for worker in self._workers):
                self._pause_s = LOOK_AGAIN_FIRST_S
        elif self._look_again_at is None:
            compared = any(worker.misfits and not worker.doubtful for worker in self._workers)
            pause_s = min(self._pause_s, _LOOK_AT_TABLES_S) if compared else self._pause_s
            self._look_again_at = asyncio.get_running_loop().time() + pause_s

    async def _read_again(self) -> None:
        await self._reader.stop()
        self._place()
        self._reader.start()

    def _place(self) -> None:
        offsets = self._offsets()
        self._source.pause(frozenset(range(self._stream.partitions)) - offsets.keys())
        self._source.resume(frozenset(offsets))
        for partition, offset in offsets.items():
            self._source.seek(partition, offset)

    def _offsets(self) -> dict[int, int]:
        """Return the lowest next offsets of all projections, by partition."""
        wanted = [worker.start_offsets() for worker in self._workers]
        return {
            partition: min(offsets[partition] for offsets in wanted if partition in offsets)
            for partition in {partition for offsets in wanted for partition in offsets}
        }

    async def _end(self, work: asyncio.Task[None]) -> None:
        """Close what is still open, concurrently: neither server may answer, and the process must end soon."""
        work.cancel()
        await asyncio.gather(asyncio.wait({work}, timeout=_ABANDON_S), self._leave_topic())
        if work.done() and not work.cancelled():
            work.result()

    async def _leave_topic(self) -> None:
        await self._reader.stop()
        await self._source.close()
