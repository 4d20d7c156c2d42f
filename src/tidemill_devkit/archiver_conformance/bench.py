"""The tools of the cases: slices moved by retention's own rules, and copies that are read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final
from uuid import uuid4

from sqlalchemy import Column, DateTime, MetaData, Table

from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState, Measured, SliceId, Source
from tidemill.domain.errors import CopyError
from tidemill.lakehouse.copy_reader import LakeCopies
from tidemill.retention import requests, transitions
from tidemill.retention.confirmations import CODES, fold
from tidemill.retention.ports import CopyToVerify
from tidemill.retention.slices import AnswerLimits, Slice, late_name
from tidemill.retention.transition_table import Moved, Transition
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.threads import in_thread
from tidemill.storage.retention.archive import ArchiveDatabase
from tidemill_devkit.archiver_conformance.line import ArchiverLine
from tidemill_devkit.archiver_conformance.place import ConformanceSite
from tidemill_devkit.archiver_conformance.samples import TIME_COLUMN

LIMITS: Final = AnswerLimits()


class Failed(Exception):
    """The archiver did something wrong; the text says what."""


class NotTried(Exception):
    """A case needs the result of an earlier one, which failed."""


@dataclass
class Bench:
    """`within_s`: how long each answer may take. `copied`: verified slices by the case that had them copied."""

    place: ConformanceSite
    line: ArchiverLine
    copies: LakeCopies
    within_s: float
    copied: dict[str, list[Slice]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Open nothing: the place has its pool."""
        self._database = ArchiveDatabase(self.place.pool)
        self._clock = SystemClock()
        self._registry = str(uuid4())  # copies stay when the database is dropped
        _, _, name = self.place.table.name.partition(".")
        table = Table(name, MetaData(), Column(TIME_COLUMN, DateTime(timezone=True)), schema="public")
        age = self._clock.now() - self.place.table.day(0).start
        self._policy = Retention(table=table, after=age, time_column=TIME_COLUMN)

    # --- slices, as the worker moves them ---

    async def chunk(self, number: int) -> Slice:
        """Return the chunk of a day, sealed and measured."""
        day = self.place.table.day(number)
        chunks = (await self._database.facts(self.place.table.name)).chunks
        found = next(each for each in chunks if each.start == day.start)
        return await self._sealed(day, Source.CHUNK, found.chunk, found.size_bytes)

    async def late(self, number: int, generation: int) -> Slice:
        """Return late rows of a day, sealed and measured."""
        day = self.place.table.day(number, generation)
        return await self._sealed(day, Source.LATE, late_name(day), 0)

    async def resealed(self, copied: Slice) -> Slice:
        """Return a slice that was copied, under a new seal, since its rows have changed."""
        found = await self._database.measure(copied, TIME_COLUMN)
        again = _after(transitions.reseal(copied, self._clock.now(), found=found))
        return _after(transitions.measure(again, self._clock.now(), seal=again.seal, found=found))

    async def _sealed(self, day: SliceId, source: Source, chunk: str, size_bytes: int) -> Slice:
        now = self._clock.now()
        fresh = Slice(day, ArchiveState.LIVE, now, source, chunk, size_bytes)
        columns, refused = await self._database.shape(fresh)
        assert not refused, refused
        chosen = _after(transitions.choose(fresh, now))
        sealed = _after(transitions.seal(chosen, now, columns=columns, holds=()))
        found = await self._database.measure(sealed, TIME_COLUMN)
        return _after(transitions.measure(sealed, now, seal=sealed.seal, found=found))

    def requested(self, *sealed: Slice) -> list[Slice]:
        """Return slices in the state of a shared request."""
        event_id, now = requests.request_id(self._registry, sealed), self._clock.now()
        return [_after(transitions.request(each, now, event_id=event_id, limits=LIMITS)) for each in sealed]

    def requested_again(self, requested: Sequence[Slice]) -> list[Slice]:
        """Return slices in the state of a repeated request."""
        now = self._clock.now()
        due = [replace(each, deadline=now) for each in requested]
        return [_after(transitions.request_again(each, self._clock.now(), limits=LIMITS)) for each in due]

    def event(self, requested: Sequence[Slice]) -> ArchivalEvent:
        """Return retention's request for them."""
        event = requests.request(requested, self._policy, self._clock.now(), self._database.read_sql)
        return event.model_copy(update={"database": self.place.database})

    # --- requests, and checks of the answers ---

    async def ask(self, requested: Sequence[Slice], *before: ArchivalEvent | bytes | None) -> list[Slice]:
        """Send a request, optionally after other records; return the slices with their verified copies.

        Raises:
            Failed: the answer or the copy is wrong. Silent, Unreadable: see `ArchiverLine`.
        """
        return (await self.ask_and_hear(requested, *before))[1]

    async def ask_and_hear(
        self, requested: Sequence[Slice], *before: ArchivalEvent | bytes | None
    ) -> tuple[ArchivalConfirmation, list[Slice]]:
        """Also return the answer. Raises as `ask`."""
        event = self.event(requested)
        await self.line.send(*before, event)
        answer = await self.line.answer(event.event_id, self.within_s)
        return answer, await self.judged(requested, answer)

    async def judged(self, requested: Sequence[Slice], answer: ArchivalConfirmation) -> list[Slice]:
        """Apply an answer to its slices, read the copies back and verify them. Raises `Failed`."""
        folded = fold(answer, requested, self._clock.now(), LIMITS)
        for ignored in folded.ignored:
            raise Failed(f"{ignored.code}, {ignored.message}: {CODES[ignored.code]}")
        after = {step.after.id: step.after for step in folded.steps}
        for each in requested:
            now = after.get(each.id)
            if now is None:
                raise Failed(f"{each.chunk} is not in the answer, which has chunks but not this one")
            if now.state is not ArchiveState.CONFIRMED:
                raise Failed(f"it answered failed: {now.reason or 'no reason given'}")
        return await self._verified([after[each.id] for each in requested])

    async def _verified(self, confirmed: Sequence[Slice]) -> list[Slice]:
        found = []
        for together in _at_one_place(confirmed):
            try:
                measured = await self._measured(together)
            except CopyError as error:
                raise Failed(f"{together[0].slice.chunk}: {error}") from error
            for each in together:
                moved = transitions.verify(
                    each.slice, self._clock.now(), read=each.copy, found=measured[each.slice.id]
                )
                now = _after(moved)
                if now.state is not ArchiveState.VERIFIED:
                    raise Failed(f"{now.chunk}: the copy is not the rows: {now.reason}")
                found.append(now)
        return found

    async def still_there(self, copied: Sequence[Slice]) -> list[Slice]:
        """Return those of some copied slices whose copies still read back unchanged."""
        found = []
        for together in _at_one_place(copied):
            try:
                measured = await self._measured(together)
            except CopyError:
                continue
            found += [each.slice for each in together if measured[each.slice.id] == each.slice.sealed]
        return found

    async def _measured(self, together: Sequence[CopyToVerify]) -> Mapping[SliceId, Measured]:
        read = partial(self.copies.measure, together, TIME_COLUMN)
        return await in_thread(read, server="lake", timeout_s=self.within_s)

    def needed(self, case: str) -> list[Slice]:
        """Return the copied slices of an earlier case. Raises `NotTried`."""
        if case not in self.copied:
            raise NotTried(f"it needs case {case}, which failed")
        return self.copied[case]


def _after(moved: Moved) -> Slice:
    assert isinstance(moved, Transition), moved
    return moved.after


def _at_one_place(slices: Sequence[Slice]) -> list[list[CopyToVerify]]:
    """Group slices whose copies are read in one pass, as retention does: those that have only a common path."""
    wanted = [CopyToVerify(each, each.copy) for each in slices if each.copy is not None]
    alone = [[each] for each in wanted if each.copy.files or not each.copy.location]
    shared: dict[str, list[CopyToVerify]] = {}
    for each in wanted:
        if each.copy.location and not each.copy.files:
            shared.setdefault(each.copy.location, []).append(each)
    return [*alone, *shared.values()]
