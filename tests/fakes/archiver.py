"""The archiver's ports in memory: requests, replies, rows, a lake. They obey the suites of the real ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support.waiting import HANGING_S
from tidemill.archiver.ports import Incoming, WrittenCopy
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent
from tidemill.domain.archive.slices import LakeColumn, LakeFile, LakePlace, Measured, SliceId
from tidemill.domain.errors import ContractError, CopyStands, Unavailable, Unreadable, UsageError

Row = tuple[Any, ...]


class MemoryRequests:
    """Records of one partition; what is not done comes again after `start`."""

    def __init__(self) -> None:
        self.log: list[ArchivalEvent | Unreadable] = []
        self.committed = 0
        self.taken_away = False
        self.away = False
        self.closed = 0
        self._next = 0
        self._news = asyncio.Event()

    def add(self, *events: ArchivalEvent | Unreadable) -> None:
        self.log += events
        self._news.set()

    async def start(self) -> None:
        self._ask()
        self._next = self.committed
        self.taken_away = False

    async def next(self) -> Incoming | None:
        self._ask()
        if self._next == len(self.log) or self.taken_away:
            self._news.clear()
            await asyncio.wait({asyncio.ensure_future(self._news.wait())}, timeout=0.05)
            return None
        self._next += 1
        return Incoming(0, self._next - 1, self.log[self._next - 1])

    def ours(self, incoming: Incoming) -> bool:
        return not self.taken_away

    async def done(self, incoming: Incoming) -> None:
        self._ask()
        self.committed = max(self.committed, incoming.offset + 1)

    async def close(self) -> None:
        self.closed += 1

    def _ask(self) -> None:
        if self.away:
            raise Unavailable("kafka", "away")


class MemoryConfirmations:
    """`sent` holds what was acknowledged; `away` loses the next ones, `largest` refuses more chunks than that."""

    def __init__(self) -> None:
        self.sent: list[ArchivalConfirmation] = []
        self.away = False
        self.largest = 1_000
        self.closed = 0
        self._news = asyncio.Event()

    async def start(self) -> None:
        if self.away:
            raise Unavailable("kafka", "away")

    async def send(self, confirmation: ArchivalConfirmation) -> None:
        if self.away:
            raise Unavailable("kafka", "away")
        if len(confirmation.chunks) > self.largest:
            raise UsageError("a record is larger than the topic allows")
        self.sent.append(confirmation)
        self._news.set()

    async def until(self, count: int) -> Sequence[ArchivalConfirmation]:
        """The confirmations, when there are that many."""
        async with asyncio.timeout(HANGING_S):
            while len(self.sent) < count:
                self._news.clear()
                await self._news.wait()
        return self.sent

    async def close(self) -> None:
        self.closed += 1


@dataclass(frozen=True)
class Rows:
    """A batch: rows whose first column is the time."""

    rows: tuple[Row, ...]

    @property
    def nbytes(self) -> int:
        return 100 * len(self.rows)


class MemoryReader:
    """SQL -> batches, or what reading raises; `reads` counts by SQL."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Rows | Exception]] = {}
        self.reads: list[str] = []
        self.ended: list[str] = []

    def read(self, read_sql: str, batch_bytes: int | None = None) -> Generator[Rows, None, None]:
        self.reads.append(read_sql)
        if read_sql not in self.answers:
            raise ContractError(f"the server refuses {read_sql}")
        try:
            for batch in self.answers[read_sql]:
                if isinstance(batch, Exception):
                    raise batch
                yield from _pieces(batch, batch_bytes)
        finally:
            self.ended.append(read_sql)


def _pieces(batch: Rows, batch_bytes: int | None) -> list[Rows]:
    rows = max(1, (batch_bytes or batch.nbytes) // 100)
    return [Rows(batch.rows[start : start + rows]) for start in range(0, len(batch.rows), rows)] or [batch]


@dataclass(frozen=True)
class MemoryCopy:
    """A copy of a slice."""

    columns: tuple[LakeColumn, ...]
    measured: Measured
    files: tuple[LakeFile, ...]
    rows: tuple[Row, ...] = field(default=(), repr=False)


def measure(rows: Sequence[Row], time_index: int = 0) -> Measured:
    """Order does not count."""
    hashes = [int.from_bytes(hashlib.sha256(repr(row).encode()).digest()[:8], "big") for row in rows]
    xor = 0
    for each in hashes:
        xor ^= each
    times: list[datetime] = [row[time_index] for row in rows if row[time_index] is not None]
    digest = f"v1:{sum(hashes) % (1 << 64):016x}:{xor:016x}"
    return Measured(len(rows), digest, min(times, default=None), max(times, default=None))


class MemoryLake:
    """`copies`: what is complete. `visible`: table -> slice -> event whose copy readers see. `away` fails all calls."""

    def __init__(self) -> None:
        self.copies: dict[tuple[SliceId, str], MemoryCopy] = {}
        self.visible: dict[str, dict[tuple[SliceId, str], MemoryCopy]] = {}
        self.writes = 0
        self.away = False
        self.publishing: Exception | None = None
        self.snapshots = 0

    def find(self, slice_: SliceId, event_id: str) -> MemoryCopy | None:
        self._ask()
        return self.copies.get((slice_, event_id))

    def write(
        self,
        slice_: SliceId,
        event_id: str,
        columns: Sequence[LakeColumn],
        time_column: str,
        batches: Iterable[Any],
        demand: Callable[[Measured], None] | None = None,
    ) -> MemoryCopy:
        self._ask()
        self.writes += 1
        rows = tuple(row for batch in batches for row in batch.rows)
        if any(len(row) != len(columns) for row in rows):
            raise ValueError("the rows have other columns")
        place = [column.name for column in columns].index(time_column)
        path = f"memory://lake/{slice_.table}/{slice_.start:%Y%m%d}-g{slice_.generation}-{event_id}.parquet"
        files = (LakeFile(path, 100 * len(rows), len(rows), "00" * 32),) if rows else ()
        copy = MemoryCopy(tuple(columns), measure(rows, place), files, rows)
        if demand is not None:
            demand(copy.measured)
        standing = self.copies.setdefault((slice_, event_id), copy)
        if standing.measured != copy.measured:
            raise CopyStands(path, slice_, event_id, f"{standing.measured}, not {copy.measured}")
        return standing

    def publish(
        self, table: str, event_id: str, copies: Mapping[SliceId, WrittenCopy], superseded: Sequence[str]
    ) -> LakePlace:
        self._ask()
        if self.publishing is not None:
            raise self.publishing
        seen = self.visible.setdefault(table, {})
        for slice_ in copies:
            for old in superseded:
                if old != event_id:
                    seen.pop((slice_, old), None)
                    self.copies.pop((slice_, old), None)
            seen[slice_, event_id] = self.copies[slice_, event_id]
        return LakePlace(f"memory://lake/{table}", "parquet")

    def rows(self, table: str) -> list[Row]:
        """What a reader of the table sees."""
        return [row for copy in self.visible.get(table, {}).values() for row in copy.rows]

    def _ask(self) -> None:
        if self.away:
            raise Unavailable("lake", "away")
