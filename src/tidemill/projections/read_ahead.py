"""Reading ahead: records are fetched and decoded, once for all read models, while the last batch is being written.

A batch is what has arrived when it is requested: a single record at once, thousands from a backlog. While
polls come back full there is a backlog, and a batch is filled up before it is returned: the more events a batch has,
the fewer rows are written for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from tidemill.domain.errors import ContractError
from tidemill.domain.lane import BATCH_BYTES
from tidemill.domain.messages import EventBase
from tidemill.projections.cursor import Batch, Decoded, LaneBatch
from tidemill.projections.ports import EventCodec, EventRecord, EventSource, ForeignRecord
from tidemill.runtime.retry import Retrier

MAX_EVENTS: Final = 20_000
_MAX_FOREIGN: Final = 10_000  # reported together; the rest is not counted
_BACKLOG: Final = 500  # records of one poll that suggest more after them
_GRACE_S: Final = 0.05  # how long to wait for them: a fetch of megabytes takes 10 ms and more
_SLICE: Final = 500  # decoded at a time: 4 ms, so that a transaction in flight can continue
_MIN_COLUMNS: Final = 16  # fewer events are decoded faster one by one


class ReadAhead:
    """Polls a source into a bounded buffer. Between `stop` and `start` the source may be moved."""

    def __init__(
        self,
        source: EventSource,
        codec: EventCodec,
        retrier: Retrier,
        *,
        max_events: int = MAX_EVENTS,
        max_bytes: int = 2 * BATCH_BYTES,
        by_columns: Collection[type[EventBase]] = (),
    ) -> None:
        """`max_events`, `max_bytes` (of encoded events) bound the buffer; one poll may exceed them.

        `by_columns`: classes of events that are read field by field.
        """
        self._by_columns = by_columns
        self._source = source
        self._codec = codec
        self._retrier = retrier
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._lanes: dict[int, LaneBatch] = {}
        self._events = 0
        self._bytes = 0
        self._foreign: list[ForeignRecord] = []
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to read from the source's position."""
        self._room.set()
        self._task = asyncio.create_task(self._read(), name="read ahead")
        self._task.add_done_callback(lambda _: self._news.set())

    async def take(self) -> Batch:
        """Return what has arrived; waits for it. Empty after `interrupt`, or if all that arrived was left out.

        Raises what the source or the codec raised, after everything that was read before it has been taken.
        """
        await self._news.wait()
        self._news.clear()
        batch, self._lanes, self._events, self._bytes = self._lanes, {}, 0, 0
        self._room.set()
        if self._task is not None and self._task.done():
            self._news.set()
            if not batch:
                self._task.result()
        return batch

    def foreign(self) -> Sequence[ForeignRecord]:
        """Return what was left out since the last call: records that are not events."""
        found, self._foreign = self._foreign, []
        return found

    def interrupt(self) -> None:
        """Let `take` return now."""
        self._news.set()

    async def stop(self) -> None:
        """Stop reading and drop what was read ahead."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # it failed: those records are read again, and the error comes again
        self._lanes, self._events, self._bytes = {}, 0, 0
        self._news.clear()

    async def _read(self) -> None:
        while self._task is asyncio.current_task():  # a client may ignore the cancellation
            await self._room.wait()
            polled = await self._poll()
            if found := self._source.foreign():
                self._foreign += found[: _MAX_FOREIGN - len(self._foreign)]
                self._news.set()
            if polled:
                self._add(await self._lanes_of(polled), _bytes_of(polled))
            elif self._events:
                self._news.set()

    async def _poll(self) -> Mapping[int, Sequence[EventRecord]]:
        """Poll; if that has to wait, what is buffered is returned."""
        if not self._events:
            return await self._source.poll()
        release = asyncio.get_running_loop().call_later(_GRACE_S, self._news.set)
        try:
            return await self._source.poll()
        finally:
            release.cancel()

    async def _lanes_of(self, polled: Mapping[int, Sequence[EventRecord]]) -> Batch:
        values = [record.value for records in polled.values() for record in records]
        await self._retrier.call(lambda: self._codec.prepare(values))
        return {partition: await self._decoded(records) for partition, records in polled.items() if records}

    def _add(self, lanes: Batch, size: int) -> None:
        if self._task is not asyncio.current_task():
            return
        for partition, lane in lanes.items():
            earlier = self._lanes.setdefault(partition, lane)
            if earlier is not lane:
                earlier.extend(lane)
        events = sum(map(len, lanes.values()))
        self._events += events
        self._bytes += size
        if self._events >= self._max_events or self._bytes >= self._max_bytes:
            self._room.clear()
            self._news.set()
        elif events < _BACKLOG:
            self._news.set()

    async def _decoded(self, records: Sequence[EventRecord]) -> LaneBatch:
        lane = self._part(records[:_SLICE])
        await asyncio.sleep(0)
        for start in range(_SLICE, len(records), _SLICE):
            lane.extend(self._part(records[start : start + _SLICE]))
            await asyncio.sleep(0)
        return lane

    def _part(self, records: Sequence[EventRecord]) -> LaneBatch:
        if self._by_columns and len(records) >= _MIN_COLUMNS:
            columns = self._codec.decode_columns(records, self._by_columns)
            if columns is not None:
                return LaneBatch.of(records, columns, whole=True)
        try:
            return LaneBatch.of(records, [*self._codec.decode(records)], whole=True)
        except ContractError:
            return LaneBatch.of(records, [self._one(record) for record in records], whole=False)

    def _one(self, record: EventRecord) -> Decoded:
        try:
            return self._codec.decode([record])[0]
        except ContractError as error:
            return error


def _bytes_of(polled: Mapping[int, Sequence[EventRecord]]) -> int:
    return sum(len(record.value) for records in polled.values() for record in records)
