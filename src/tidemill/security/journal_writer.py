"""Writes the journal of a process: entries that wait are stored together, and what was not stored is not begun.

One task stores: while one insert is under way, whatever arrives waits for the next, so that a thousand waiting writes
cost a few commits. The chain never forks: after an error the very same rows are stored again, until the database says
that they are stored or that their places are taken. If others took them, a new chain is begun, whose anchor names the
end of this one.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar
from uuid import UUID, uuid4

from tidemill.domain.errors import RequestRefused, TidemillError
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.clock import Clock, SystemClock
from tidemill.runtime.outages import Over
from tidemill.runtime.pauses import stopped_within
from tidemill.runtime.retry import Retrier
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import (
    JOURNAL_COMMIT_ENTRIES,
    JOURNAL_ENTRIES,
    JOURNAL_LOST,
    JOURNAL_SECONDS,
)
from tidemill.security.journal import (
    Chain,
    ChainEnd,
    Detail,
    EntryKind,
    EntryRef,
    JournalEntry,
    JournalRow,
    WriterIdentity,
)
from tidemill.security.ports import JournalStore
from tidemill.security.server_time import ServerTime

NOT_BEGUN: Final = "not begun"
"""The outcome of an intent that was stored after its deadline: it was refused, and nothing was produced."""

ENDS: Final = "the process ends"

RETRY_AFTER_S: Final = 1.0

T = TypeVar("T")

_log = logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLimits:
    """Bounds of a process's journal; times in seconds.

    `deadline_s`: how long an entry may wait until it is durable. `lazy_s`: how long outcomes and refusals may wait for
    company. `max_waiting`: entries that wait. `max_rows`: of one insert. `anchor_entries`, `anchor_s`: how often the
    end of the chain is logged. `drain_s`: how long it stores at its end. `fails_at_once`: what waits is refused as
    soon as the database does not answer, for a verb.
    """

    deadline_s: float = 2.0
    lazy_s: float = 0.2
    max_waiting: int = 10_000
    max_rows: int = 2_000
    anchor_entries: int = 1_000
    anchor_s: float = 600.0
    drain_s: float = 5.0
    fails_at_once: bool = False


@dataclass(eq=False, slots=True)
class _Group:
    """Entries that are stored together or not at all. `is_given_up`: whoever waited does not wait any more."""

    entries: Sequence[JournalEntry]
    stored: asyncio.Future[list[EntryRef]] = field(default_factory=asyncio.Future)
    is_given_up: bool = False


class Journal:
    """The journal of one process. Use it with `async with`: it stores from then on, and drains at the end.

    `process`: what the anchor says. `new_id`: makes the id of a chain. `problem`: why the last attempt to store failed,
    None if it succeeded.
    """

    def __init__(
        self,
        store: JournalStore,
        process: WriterIdentity,
        *,
        limits: JournalLimits | None = None,
        clock: Clock | None = None,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        """Nothing is stored before it is entered."""
        self._store = store
        self._process = process
        self._limits = limits or JournalLimits()
        self._clock = clock or SystemClock()
        self._new_id = new_id
        self._chain = Chain(new_id())
        self._after: ChainEnd | None = None
        self._queue: deque[_Group] = deque()
        self._waiting = 0
        self._news, self._urgent, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.problem: TidemillError | None = None
        self._retrier = Retrier(self)
        self._server_time = ServerTime(self._clock)
        self._unlogged = 0
        self._logged_s = self._clock.monotonic_s()

    @property
    def anchor(self) -> ChainEnd:
        """Return the end of the chain as far as it is durable."""
        return ChainEnd(*self._chain)

    @property
    def ok(self) -> bool:
        """Tell whether the last attempt to store succeeded."""
        return self.problem is None

    async def __aenter__(self) -> Self:
        """Begin to store; the anchor is first, and nobody waits for it."""
        self._task = asyncio.create_task(self._work(), name="journal")
        self._put(_Group(()), urgent=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store what waits, within `drain_s`; refuse what is left."""
        assert self._task is not None, "it is left only after it was entered"
        self._closing.set()
        self._urgent.set()
        self._news.set()
        await asyncio.wait({self._task}, timeout=self._limits.drain_s)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        _refuse_all(self._queue, ENDS)
        self._log_anchor()

    async def intents(self, entries: Sequence[JournalEntry]) -> list[EntryRef]:
        """Store intents, all or none; return their places once they are durable.

        Raises:
            RequestRefused: `JOURNAL_AWAY`, they are not durable in time: what they intend must not be begun.
        """
        return await self._stored(_Group(tuple(entries)))

    async def change(self, entry: JournalEntry) -> EntryRef:
        """Store a change that was made, or is about to be. Raises like `intents`."""
        return (await self._stored(_Group((entry,))))[0]

    async def outcome(self, ref: EntryRef, result: str, *, code: str | None = None) -> None:
        """Note what became of an intent; it is stored soon. `result`: such as `applied`, `rejected`, `duplicate`.

        It never raises: an outcome that is lost leaves its intent open, and the log says what became of the command.
        """
        detail: Detail = {} if code is None else {"code": code}
        entry = JournalEntry(kind=EntryKind.OUTCOME, action=result, of=ref, detail=detail)
        if not await self._queued(entry):
            JOURNAL_LOST.labels(kind=EntryKind.OUTCOME).inc()

    async def refusal(self, entry: JournalEntry) -> None:
        """Note that something was refused; it is stored soon.

        Raises:
            RequestRefused: `JOURNAL_AWAY`, too many entries wait, and there was no room in time.
        """
        if not await self._queued(entry):
            JOURNAL_LOST.labels(kind=EntryKind.REFUSAL).inc()
            raise _unavailable("too many entries wait to be stored")

    # --- what waits --------------------------------------------------------------------------------------------------

    async def _stored(self, group: _Group) -> list[EntryRef]:
        if self._closing.is_set() or self._waiting + len(group.entries) > self._limits.max_waiting:
            raise _unavailable("too many entries wait to be stored")
        self._put(group, urgent=True)
        try:
            async with asyncio.timeout(self._limits.deadline_s):
                return await asyncio.shield(group.stored)
        except TimeoutError:
            if group.stored.done():  # at the very moment
                return group.stored.result()
            raise _unavailable("its entry was not stored in time") from None
        finally:
            group.is_given_up = not group.stored.done()

    async def _queued(self, entry: JournalEntry) -> bool:
        """Let an entry wait to be stored; return whether there was room in time."""
        if self._waiting < self._limits.max_waiting:
            return self._queued_now(entry)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.deadline_s):
                while self._waiting >= self._limits.max_waiting:
                    self._room.clear()
                    await self._room.wait()
                return self._queued_now(entry)
        return False

    def _queued_now(self, entry: JournalEntry) -> bool:
        if self._closing.is_set():
            return False
        self._put(_Group((entry,)), urgent=False)
        return True

    def _put(self, group: _Group, *, urgent: bool) -> None:
        group.stored.add_done_callback(_look_at)
        self._queue.append(group)
        self._waiting += len(group.entries)
        self._news.set()
        if urgent:
            self._urgent.set()

    def _take(self) -> list[_Group]:
        """Return what is stored next; what its waiters gave up is left out, since nobody will begin it."""
        taken: list[_Group] = []
        count = 0
        while self._queue and (not taken or count + len(self._queue[0].entries) <= self._limits.max_rows):
            group = self._queue.popleft()
            self._waiting -= len(group.entries)
            if not group.is_given_up:
                taken.append(group)
                count += len(group.entries)
        self._room.set()
        return taken

    # --- storing -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._closing.is_set() or self._queue:
            await self._wait_for_work()
            if self._queue:
                await self._store_next()

    async def _wait_for_work(self) -> None:
        if not self._queue and not self._closing.is_set():
            self._news.clear()
            if not await stopped_within(self._news, self._limits.anchor_s):
                self._log_anchor()
        if self._queue and not self._closing.is_set():
            await stopped_within(self._urgent, self._limits.lazy_s)
            self._urgent.clear()

    async def _store_next(self) -> None:
        # nothing is chosen before the database answers, or has just answered
        at = self._server_time.current() or await self._asked_time()
        groups = self._take()
        if at is None:
            _refuse_all(groups)
        elif groups:
            await self._store_groups(groups, at)

    async def _asked_time(self) -> datetime | None:
        answer = await self._until_known(self._store.now, retried=not self._limits.fails_at_once)
        return None if answer is None else self._server_time.learn(answer)

    async def _store_groups(self, groups: Sequence[_Group], at: datetime) -> None:
        entries = [entry for group in groups for entry in group.entries]
        try:
            with JOURNAL_SECONDS.time():
                rows = await self._appended(entries, at)
        except asyncio.CancelledError:  # nobody learns any more whether they are stored
            _refuse_all(groups, ENDS)
            raise
        if rows is None:
            _refuse_all(groups)
            return
        JOURNAL_COMMIT_ENTRIES.observe(len(rows))
        for kind, count in Counter(row.kind for row in rows).items():
            JOURNAL_ENTRIES.labels(kind=kind).inc(count)
        self._settle(groups, iter(rows[len(rows) - len(entries) :]))
        self._note_progress(len(rows))

    async def _appended(self, entries: Sequence[JournalEntry], at: datetime) -> list[JournalRow] | None:
        """Store entries, after the anchor of a new chain; return the rows, None if the database refused them."""
        while True:
            rows = self._chain.rows([*self._beginning(), *entries], at)
            if not rows:
                return rows
            is_stored = await self._until_known(partial(self._is_stored, rows))
            if is_stored is None:
                return None
            if is_stored:
                self._chain = self._chain.after(rows)
                return rows
            self._begin_anew()

    async def _is_stored(self, rows: Sequence[JournalRow]) -> bool:
        """Store rows, or see that they are stored already. False: their places are taken by other rows."""
        if await self._store.append(rows):
            return True
        return await self._store.hash_of(rows[-1].ref) == rows[-1].hash

    def _beginning(self) -> list[JournalEntry]:
        if self._chain.number:
            return []
        detail = self._process.detail(self._after)
        return [JournalEntry(kind=EntryKind.ANCHOR, action="start", detail=detail)]

    def _begin_anew(self) -> None:
        """Leave the chain to whatever took its next places; the new one says where it ended."""
        if self._chain.number:
            self._after = self.anchor
        lost, self._chain = self._chain, Chain(self._new_id())
        _log.error(
            Log.JOURNAL_BEGUN_ANEW, writer=str(lost.writer), number=lost.number, next=str(self._chain.writer)
        )

    async def _until_known(self, call: Callable[[], Awaitable[T]], *, retried: bool = True) -> T | None:
        """Return what the database answers, however long that takes; None if it refuses.

        A call that failed may have been carried out: only the very same call may follow it.
        """
        try:
            answer = await (self._retrier.call(call) if retried else call())
        except TidemillError as error:
            self.failed(error, begins=self.problem is None)
            return None
        self.recovered(None)
        return answer

    def _settle(self, groups: Sequence[_Group], rows: Iterator[JournalRow]) -> None:
        """Hand out the places; what nobody waits for any more was not begun, and its intents are closed."""
        for group in groups:
            refs = [next(rows).ref for _ in group.entries]
            if not group.is_given_up:
                if not group.stored.done():
                    group.stored.set_result(refs)
                continue
            for ref in refs:
                if group.entries[0].kind == EntryKind.INTENT:
                    self._put(
                        _Group((JournalEntry(kind=EntryKind.OUTCOME, action=NOT_BEGUN, of=ref),)),
                        urgent=False,
                    )

    # --- what is told ------------------------------------------------------------------------------------------------

    def _note_progress(self, count: int) -> None:
        self._unlogged += count
        late = self._clock.monotonic_s() - self._logged_s >= self._limits.anchor_s
        if self._unlogged >= self._limits.anchor_entries or late:
            self._log_anchor()

    def _log_anchor(self) -> None:
        """Tell the end of the chain to whatever keeps the log, outside of the database."""
        if self._unlogged:
            writer, number, sha256 = self.anchor
            _log.info(Log.JOURNAL_ANCHOR, writer=str(writer), number=number, hash=sha256.hex())
        self._unlogged, self._logged_s = 0, self._clock.monotonic_s()

    def failed(self, error: BaseException, *, begins: bool) -> None:
        """Hear of a failed attempt to store, as a `RetryListener`."""
        self._server_time.forget()
        if begins:
            _log.warning(Log.JOURNAL_FAILED, error=str(error))
        self.problem = error if isinstance(error, TidemillError) else None

    def recovered(self, outage: Over | None) -> None:
        """Hear that the database takes entries again."""
        del outage
        if self.problem is not None:
            _log.info(Log.JOURNAL_RECOVERED)
        self.problem = None


def _unavailable(detail: str) -> RequestRefused:
    return RequestRefused(RequestCode.JOURNAL_AWAY, detail, retry_after_s=RETRY_AFTER_S)


def _refuse_all(groups: Iterable[_Group], detail: str = "the database refused its entry") -> None:
    for group in groups:
        if not group.stored.done():
            group.stored.set_exception(_unavailable(detail))


def _look_at(stored: asyncio.Future[list[EntryRef]]) -> None:
    """Hear of an error that nobody waits for: it was counted and logged."""
    if not stored.cancelled():
        stored.exception()
