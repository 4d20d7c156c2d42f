"""The worker of the archive: in rounds it does what is due for every slice, one transaction per step.

    choose and seal -> measure -> request -> (an archiver copies and confirms) -> read back, verify -> drop

It works only while this process owns the archive's lane, under that claim: a process that lost it is fenced at the next
step. A slice that fails does not hold up the others. Interrupted work is found again by its state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Final

from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState, Measured, SliceId, Source
from tidemill.domain.errors import CopyError, Fenced, LaneHalted, NotCompared, TableMisfit, TransientError
from tidemill.domain.lane import Claim
from tidemill.retention import requests, transitions
from tidemill.retention.eviction import evict
from tidemill.retention.explanations import in_the_way
from tidemill.retention.grouping import Round, at_one_place, batches, due_again
from tidemill.retention.planner import Facts, needs_late_table, plan
from tidemill.retention.ports import ArchiveStore, ArchiveWork, CopyReader, CopyToVerify
from tidemill.retention.settlement import announce_ends
from tidemill.retention.slices import AnswerLimits, Slice
from tidemill.retention.table_obstacles import obstacles
from tidemill.retention.timescale_jobs import ContinuousAggregate, why_kept
from tidemill.retention.transition_table import Action, Moved, Transition, TransitionRefused
from tidemill.runtime.clock import Clock
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.threads import in_thread

READ_TIMEOUT_S: Final = 1_800.0  # how long one read of copies may take by default

_S = ArchiveState
_log = logger(__name__)


class ArchiveWorker:
    """Moves the slices of some tables. `claim` gives the archive's lane while this process owns it."""

    def __init__(
        self,
        policies: Sequence[Retention],
        *,
        store: ArchiveStore,
        copies: CopyReader,
        claim: Callable[[], Claim | None],
        clock: Clock,
        as_of: datetime | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """`as_of`: the time for ages, if it is not now. `read_timeout_s`: for one read of copies."""
        self._policies = policies
        self.store = store
        self._copies = copies
        self._claim = claim
        self._clock = clock
        self._as_of = as_of
        self._read_timeout_s = read_timeout_s
        self._told: frozenset[str] = frozenset()

    async def round(self) -> Round:
        """Do what is due.

        Raises `Fenced` if the lane was lost, `LaneHalted` or `NotCompared` if it must not be written to, another
        `TransientError` if the database is unavailable.
        """
        this_round = Round()
        for policy in self._policies:
            if self._claim() is not None:
                await self._work(policy, this_round)
        self._told = frozenset(this_round.problems)
        return this_round

    async def _work(self, policy: Retention, this_round: Round) -> None:
        """Process one table; its misfit does not affect the others."""
        try:
            await _Table(self, policy, this_round).work()
        except TableMisfit as misfit:
            this_round.problems.append(problem := f"{policy.table_name}: {misfit}")
            if self.is_news(problem):
                _log.error(Log.TABLE_MISFIT, table=policy.table_name, reason=misfit.detail)

    # --- for `_Table` ---

    def is_news(self, problem: str) -> bool:
        """Tell whether the last round did not have it: a lasting problem is logged once, not in every round."""
        return problem not in self._told

    async def read_back(
        self, copies: Sequence[CopyToVerify], policy: Retention
    ) -> Mapping[SliceId, Measured]:
        """Measure copies in a thread. Raises as `CopyReader.measure`, and `Unavailable` if it takes too long."""
        rate, timeout_s = policy.bytes_per_s, self._read_timeout_s
        if rate is not None:  # longer than the read takes at its limited rate
            timeout_s += 10 * sum(each.slice.size_bytes for each in copies) / rate
        read = partial(self._copies.measure, copies, policy.time_column, rate)
        return await in_thread(read, server="lake", timeout_s=timeout_s)

    def now(self) -> datetime:
        """Return the time."""
        return self._clock.now()

    def as_of(self) -> datetime:
        """Return the time for ages."""
        return self._as_of or self._clock.now()

    def claim(self) -> Claim:
        """Return the lane's claim. Raises `Fenced`."""
        claim = self._claim()
        if claim is None:
            raise Fenced(frozenset())
        return claim


class _Table:
    """One table in one round."""

    def __init__(self, worker: ArchiveWorker, policy: Retention, this_round: Round) -> None:
        self._worker = worker
        self._store = worker.store
        self._policy = policy
        self._limits = AnswerLimits.of(policy)
        self._round = this_round
        self._stored: list[Transition] = []

    async def work(self) -> None:
        """Late steps first, so that sealed slices leave before more are sealed."""
        await self._note_writes()
        facts = await self._store.facts(self._policy.table_name)
        by_state: dict[ArchiveState, list[Slice]] = defaultdict(list)
        for archive_slice in facts.slices:
            by_state[archive_slice.state].append(archive_slice)
        for archive_slice in self._overdue(facts.slices):
            async with self._trying(archive_slice):
                await self._give_up(archive_slice)
        expired = self._expired(by_state[_S.RESTORED])
        free = [each for each in by_state[_S.VERIFIED] if self._kept(facts.views, each) is None]
        doubtful = self._doubtful([*free, *chain.from_iterable(expired)])
        for archive_slice in by_state[_S.VERIFIED]:
            if archive_slice not in doubtful:
                async with self._trying(archive_slice):
                    await self._drop(archive_slice)
        await self._verify([*by_state[_S.CONFIRMED], *sorted(doubtful, key=lambda each: each.id)])
        await self._request_again([*by_state[_S.REQUESTED], *by_state[_S.COPYING]])
        for archive_slice in by_state[_S.SEALED]:
            async with self._trying(archive_slice):
                await self._measure(archive_slice)
        if by_state[_S.SEALED]:
            await self._request()
        for generations in expired:
            if doubtful.isdisjoint(generations):
                async with self._trying(generations[0]):
                    await self._evict(generations[0])
        await self._seal(facts)

    @asynccontextmanager
    async def _trying(self, archive_slice: Slice) -> AsyncIterator[None]:
        """Continue with the others if this slice cannot move now."""
        try:
            yield
        except (Fenced, LaneHalted, NotCompared):  # of all slices alike
            raise
        except (TransientError, TableMisfit) as error:
            if self._is_new_problem(f"{archive_slice.id}: {error}"):
                _log.warning(Log.ARCHIVE_WAITS, slice=str(archive_slice.id), reason=str(error))
        except Exception as error:  # noqa: BLE001  a mistake of ours must be loud, and not hold up other slices
            if self._is_new_problem(f"{archive_slice.id}: {error!r}"):
                _log.exception(Log.ARCHIVE_FAILED, slice=str(archive_slice.id))

    def _is_new_problem(self, problem: str) -> bool:
        self._round.problems.append(problem)
        return self._worker.is_news(problem)

    async def _store_step(self, work: ArchiveWork, moved: Moved) -> Transition | None:
        """Store a step; a refusal is ignored, since another round may succeed."""
        if isinstance(moved, TransitionRefused):
            _log.debug(Log.ARCHIVE_REFUSED, code=moved.code, reason=moved.message)
            return None
        if moved.opens:
            await work.lock_ranges(moved.after.id.table)
        await work.store(moved)
        if moved.opens:
            await work.return_late(moved.before)
        self._stored.append(moved)
        return moved

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[ArchiveWork]:
        """Open one under the lane. Requests that its steps end are announced in it; they count once it is committed."""
        self._stored.clear()
        async with self._store.transaction(self._worker.claim()) as work:
            yield work
            await announce_ends(work, self._stored)
        for step in self._stored:
            self._round.done[step.action] += 1
            after = step.after
            fields = {"slice": str(after.id), "state": after.state.value, "action": step.action.value}
            _log.info(Log.ARCHIVE_MOVED, **fields, **({"reason": step.why} if step.why else {}))

    # --- seal, measure, request ---

    async def _note_writes(self) -> None:
        if self._policy.enabled and self._policy.quiet:
            async with self._transaction() as work:
                await work.note_writes(self._policy.table_name, self._worker.as_of() - self._policy.after)

    async def _seal(self, facts: Facts) -> None:
        """A sealed slice needs a table for late rows; without one only sealing stops."""
        for reason in obstacles(self._policy, facts):
            if self._is_new_problem(reason):
                _log.warning(Log.ARCHIVE_WAITS, slice=facts.table, reason=reason)
        now = self._worker.now()
        intended = plan(self._policy, facts, as_of=self._worker.as_of(), now=now)
        for candidate in intended.seal:
            archive_slice = candidate.slice(now)
            async with self._trying(archive_slice):
                await self._seal_one(archive_slice)

    async def _seal_one(self, archive_slice: Slice) -> None:
        """Check the values first, while the range is open: what a copy cannot hold is named, and stays."""
        columns, refused = await self._store.shape(archive_slice, self._policy.bytes_per_s)
        async with self._transaction() as work:
            chosen = await self._store_step(work, transitions.choose(archive_slice, work.at))
            if chosen is None:
                return
            if refused:
                why = "; ".join(f"column {each.column}: {each.reason}" for each in refused)
                await self._store_step(work, transitions.refuse(chosen.after, work.at, why=why))
                return
            table = archive_slice.id.table
            holds = await work.holds(table)
            await work.await_writers(archive_slice)  # before all batches of the table have to wait
            await work.lock_ranges(table)
            unfit = await work.late_unfit(table)  # again: it may have been altered since the facts
            if unfit is not None and needs_late_table(self._policy, archive_slice.source):
                raise TransientError(unfit)
            busy = in_the_way(archive_slice, await work.of_table(table))  # again: it may be restored by now
            if busy is not None:
                raise TransientError(busy)
            await work.lock_rows(archive_slice)
            # a chunk has its rows: late ones of its range belong to a slice of their own
            if archive_slice.source is Source.LATE:
                await work.adopt_late(archive_slice)
            sealed = transitions.seal(chosen.after, work.at, columns=columns, holds=holds)
            await self._store_step(work, sealed)

    async def _measure(self, archive_slice: Slice) -> None:
        if archive_slice.sealed is not None:
            return
        rate = self._policy.bytes_per_s
        columns, refused = await self._store.shape(archive_slice, rate)  # it may be altered since the seal
        altered = replace(archive_slice, columns=columns)
        found = None if refused else await self._store.measure(altered, self._policy.time_column, rate)
        async with self._transaction() as work:
            if found is None:
                why = "; ".join(f"column {each.column}: {each.reason}" for each in refused)
                await self._store_step(work, transitions.refuse(archive_slice, work.at, why=why))
            else:
                seal = archive_slice.seal
                moved = transitions.measure(archive_slice, work.at, seal=seal, found=found, columns=columns)
                await self._store_step(work, moved)

    async def _request(self) -> None:
        """Request all that is sealed and measured, as many per event as fit; one generation of a range in each."""
        facts = await self._store.facts(self._policy.table_name)
        ready = [each for each in facts.slices if each.state is _S.SEALED and each.sealed is not None]
        for together in batches(ready):
            async with self._trying(together[0]):
                await self._request_one(together, facts.registry)

    async def _request_one(self, slices: Sequence[Slice], registry: str) -> None:
        event_id = requests.request_id(registry, slices)
        async with self._transaction() as work:
            asked = [
                await self._store_step(
                    work, transitions.request(each, work.at, event_id=event_id, limits=self._limits)
                )
                for each in slices
            ]
            self._announce(work, [step.after for step in asked if step is not None])

    def _announce(self, work: ArchiveWork, slices: Sequence[Slice]) -> None:
        if slices:
            work.announce(requests.request(slices, self._policy, work.at, self._store.read_sql))

    # --- wait, request again, give up ---

    async def _request_again(self, waiting: Sequence[Slice]) -> None:
        for slices in due_again(waiting, self._worker.now(), self._limits):
            async with self._trying(slices[0]):
                await self._again(slices)

    async def _again(self, slices: Sequence[Slice]) -> None:
        """Measure the rows again first: if an external writer changed them, no archiver can copy what was sealed."""
        time_column, rate = self._policy.time_column, self._policy.bytes_per_s
        found = {each.id: await self._store.measure(each, time_column, rate) for each in slices}
        async with self._transaction() as work:
            asked = []
            for each in slices:
                moved: Moved = transitions.reseal(each, work.at, found=found[each.id])
                if isinstance(moved, TransitionRefused):
                    moved = transitions.request_again(each, work.at, limits=self._limits)
                asked.append(await self._store_step(work, moved))
            again = [step.after for step in asked if step is not None and step.action is Action.REQUEST_AGAIN]
            self._announce(work, again)

    def _overdue(self, slices: Iterable[Slice]) -> list[Slice]:
        now = self._worker.now()
        return [each for each in slices if transitions.overdue(each, now, self._limits) is not None]

    async def _give_up(self, archive_slice: Slice) -> None:
        async with self._transaction() as work:
            await self._store_step(work, transitions.give_up(archive_slice, work.at, limits=self._limits))

    # --- verify ---

    async def _verify(self, unproven: Sequence[Slice]) -> None:
        """Read copies back, those at the same place in one pass; only the service's own reads count."""
        for wanted in at_one_place(unproven):
            async with self._trying(wanted[0].slice):
                await self._read_back(wanted)

    async def _read_back(self, wanted: Sequence[CopyToVerify]) -> None:
        try:
            found = await self._worker.read_back(wanted, self._policy)
        except CopyError as error:
            if len(wanted) == 1:
                await self._set_aside(wanted[0], str(error))
                return
            for each in wanted:  # which of them it is, and not the others
                await self._read_back([each])
            return
        for archive_slice, copy in ((each.slice, each.copy) for each in wanted):
            async with self._transaction() as work:
                rows = found[archive_slice.id]
                moved = transitions.verify(archive_slice, work.at, read=copy, found=rows)
                await self._store_step(work, moved)

    async def _set_aside(self, wanted: CopyToVerify, why: str) -> None:
        async with self._transaction() as work:
            moved = transitions.quarantine(wanted.slice, work.at, read=wanted.copy, why=why)
            await self._store_step(work, moved)

    # --- drop, evict ---

    async def _drop(self, archive_slice: Slice) -> None:
        """Measure again with writers locked out, and only then drop, all in one transaction."""
        async with self._transaction() as work:
            holds = await work.holds(archive_slice.id.table)
            await self._demand_unseen(work, archive_slice)
            await work.lock_rows(archive_slice)
            found = await work.measure(archive_slice, self._policy.time_column)
            moved = transitions.drop(archive_slice, work.at, found=found, holds=holds)
            if isinstance(moved, TransitionRefused) and moved.code == "CHANGED":
                await self._store_step(work, transitions.reseal(archive_slice, work.at, found=found))
                return
            if isinstance(moved, Transition):
                await self._demand_unseen(work, archive_slice)  # again: that took its time
                await work.drop_rows(archive_slice)
            await self._store_step(work, moved)

    async def _demand_unseen(self, work: ArchiveWork, archive_slice: Slice) -> None:
        """Postpone the drop if a view would lose the rows: it may have been created since the seal."""
        kept = self._kept(await work.views(archive_slice.id.table), archive_slice)
        if kept is not None:
            raise TransientError(kept)

    def _kept(self, views: Iterable[ContinuousAggregate], archive_slice: Slice) -> str | None:
        return why_kept(views, archive_slice, self._policy.after, self._worker.now())

    async def _evict(self, archive_slice: Slice) -> None:
        async with self._transaction() as work:
            for moved in await evict(work, archive_slice, self._policy.time_column):
                await self._store_step(work, moved)

    def _doubtful(self, proven: Iterable[Slice]) -> set[Slice]:
        """Return those whose copies must be read again before their rows are dropped."""
        now = self._worker.now()
        return {each for each in proven if each.verified is not None and each.verified.is_old(now)}

    def _expired(self, restored: Sequence[Slice]) -> list[list[Slice]]:
        """Return the generations of every range whose restored rows are due to leave."""
        by_range: dict[datetime, list[Slice]] = defaultdict(list)
        for archive_slice in restored:
            by_range[archive_slice.id.start].append(archive_slice)
        now = self._worker.now()
        return [
            slices
            for slices in by_range.values()
            if all(each.restore_until is not None and each.restore_until <= now for each in slices)
        ]
