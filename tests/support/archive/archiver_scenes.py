"""An archiver between fakes, and a database that makes it wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes.archiver import MemoryConfirmations, MemoryLake, MemoryReader, MemoryRequests, Rows, measure
from tests.support.archive.archival import DAY, START, chunk
from tests.support.waiting import HANGING_S, eventually
from tidemill.archiver.archiver import Archiver
from tidemill.archiver.copier import Copier
from tidemill.domain.archive.messages import ArchivalChunk, ArchivalStatus
from tidemill.runtime.clock import SystemClock


class Scene:
    """An archiver between fakes, and a database with days of rows."""

    def __init__(self) -> None:
        self.requests = MemoryRequests()
        self.replies = MemoryConfirmations()
        self.reader: Any = MemoryReader()
        self.lake = MemoryLake()
        self.options: dict[str, Any] = {}

    def day(self, number: int, **fields: Any) -> ArchivalChunk:
        """A chunk whose rows the reader has, and that says so."""
        rows = tuple((START + (number - 1) * DAY, n) for n in range(3))
        self.reader.answers[f"select {number}"] = [Rows(rows[:2]), Rows(rows[2:])]
        measured = measure(rows)
        plain = {"row_count": measured.row_count, "digest": measured.digest}
        return chunk(number, **plain | fields)

    def make(self) -> Archiver:
        return Archiver(
            self.requests,
            self.replies,
            Copier(self.reader, self.lake),
            SystemClock(),
            archiver_id="archiver-1",
            **self.options,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        archiver = self.make()
        await archiver.start()
        work = asyncio.create_task(archiver.run())
        try:
            yield work
        finally:
            await archiver.stop()
            await asyncio.wait({work}, timeout=HANGING_S)
            assert work.done()

    async def settled(self) -> None:
        """All records are done."""
        await eventually(lambda: self.requests.committed == len(self.requests.log), what="all done")

    def said(self) -> list[ArchivalStatus]:
        return [each.status for each in self.replies.sent]


class SlowReader(MemoryReader):
    """Gives one batch, then waits to be let on."""

    def __init__(self) -> None:
        super().__init__()
        self.on = threading.Event()
        self.reading = threading.Event()

    def read(self, read_sql: str, batch_bytes: int | None = None) -> Generator[Rows, None, None]:
        batches = super().read(read_sql, batch_bytes)
        yield next(batches)
        self.reading.set()
        assert self.on.wait(HANGING_S)
        yield from batches
