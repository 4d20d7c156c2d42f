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
        done = Round()
        for policy in self._policies:
            if self._claim() is not None:
                await self._work(policy, done)
        self._told = frozenset(done.troubles)
        return done

    async def _work(self, policy: Retention, done: Round) -> None:
        """Process one table; its misfit does not affect the others."""
        try:
            await _Table(self, policy, done).work()
        except TableMisfit as misfit:
            done.troubles.append(trouble := f"{policy.table_name}: {misfit}")
            if self.is_news(trouble):
                _log.error(Log.TABLE_MISFIT, table=policy.table_name, reason=misfit.detail)

    # --- for `_Table` ---

    def is_news(self, trouble: str) -> bool:
        """Tell whether the last round did not have it: a lasting problem is logged once, not in every round."""
        return trouble not in self._told

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

    def __init__(self, keeper: ArchiveWorker, policy: Retention, done: Round) -> None:
        self._keeper = keeper
        self._store = keeper.store
        self._policy = policy
        self._limits = AnswerLimits.of(policy)
        self._done = done
        self._stored: list[Transition] = []

    async def work(self) -> None:
        """Late steps first, so that sealed slices leave before more are sealed."""
        await self._note_writes()
        facts = await self._store.facts(self._policy.table_name)
        by_state: dict[ArchiveState, list[Slice]] = defaultdict(list)
        for which in facts.slices:
            by_state[which.state].append(which)
        for which in self._overdue(facts.slices):
            async with self._trying(which):
                await self._give_up(which)
        expired = self._expired(by_state[_S.RESTORED])
        free = [each for each in by_state[_S.VERIFIED] if self._kept(facts.views, each) is None]
        doubtful = self._doubtful([*free, *chain.from_iterable(expired)])
        for which in by_state[_S.VERIFIED]:
            if which not in doubtful:
                async with self._trying(which):
                    await self._drop(which)
        await self._verify([*by_state[_S.CONFIRMED], *sorted(doubtful, key=lambda each: each.id)])
        await self._request_again([*by_state[_S.REQUESTED], *by_state[_S.COPYING]])
        for which in by_state[_S.SEALED]:
            async with self._trying(which):
                await self._measure(which)
        if by_state[_S.SEALED]:
            await self._request()
        for generations in expired:
            if doubtful.isdisjoint(generations):
                async with self._trying(generations[0]):
                    await self._evict(generations[0])
        await self._seal(facts)

    @asynccontextmanager
    async def _trying(self, which: Slice) -> AsyncIterator[None]:
        """Continue with the others if this slice cannot move now."""
        try:
            yield
        except (Fenced, LaneHalted, NotCompared):  # of all slices alike
            raise
        except (TransientError, TableMisfit) as error:
            if self._is_new_trouble(f"{which.id}: {error}"):
                _log.warning(Log.ARCHIVE_WAITS, slice=str(which.id), reason=str(error))
        except Exception as error:  # noqa: BLE001  a mistake of ours must be loud, and not hold up other slices
            if self._is_new_trouble(f"{which.id}: {error!r}"):
                _log.exception(Log.ARCHIVE_FAILED, slice=str(which.id))

    def _is_new_trouble(self, trouble: str) -> bool:
        self._done.troubles.append(trouble)
        return self._keeper.is_news(trouble)

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
        async with self._store.transaction(self._keeper.claim()) as work:
            yield work
            await announce_ends(work, self._stored)
        for step in self._stored:
            self._done.done[step.action] += 1
            told = {"slice": str(step.after.id), "state": step.after.state.value, "action": step.action.value}
            _log.info(Log.ARCHIVE_MOVED, **told, **({"reason": step.why} if step.why else {}))

    # --- seal, measure, request ---

    async def _note_writes(self) -> None:
        if self._policy.enabled and self._policy.quiet:
            async with self._transaction() as work:
                await work.note_writes(self._policy.table_name, self._keeper.as_of() - self._policy.after)

    async def _seal(self, facts: Facts) -> None:
        """A sealed slice needs a table for late rows; without one only sealing stops."""
        for reason in obstacles(self._policy, facts):
            if self._is_new_trouble(reason):
                _log.warning(Log.ARCHIVE_WAITS, slice=facts.table, reason=reason)
        now = self._keeper.now()
        intended = plan(self._policy, facts, as_of=self._keeper.as_of(), now=now)
        for candidate in intended.seal:
            which = candidate.slice(now)
            async with self._trying(which):
                await self._seal_one(which)

    async def _seal_one(self, which: Slice) -> None:
        """Check the values first, while the range is open: what a copy cannot hold is named, and stays."""
        columns, refused = await self._store.shape(which, self._policy.bytes_per_s)
        async with self._transaction() as work:
            chosen = await self._store_step(work, transitions.choose(which, work.at))
            if chosen is None:
                return
            if refused:
                why = "; ".join(f"column {each.column}: {each.reason}" for each in refused)
                await self._store_step(work, transitions.refuse(chosen.after, work.at, why=why))
                return
            holds = await work.holds(which.id.table)
            await work.await_writers(which)  # before all batches of the table have to wait
            await work.lock_ranges(which.id.table)
            unfit = await work.late_unfit(which.id.table)  # again: it may have been altered since the facts
            if unfit is not None and needs_late_table(self._policy, which.source):
                raise TransientError(unfit)
            busy = in_the_way(which, await work.of_table(which.id.table))  # again: it may be restored by now
            if busy is not None:
                raise TransientError(busy)
            await work.lock_rows(which)
            # a chunk has its rows: late ones of its range belong to a slice of their own
            if which.source is Source.LATE:
                await work.adopt_late(which)
            sealed = transitions.seal(chosen.after, work.at, columns=columns, holds=holds)
            await self._store_step(work, sealed)

    async def _measure(self, which: Slice) -> None:
        if which.sealed is not None:
            return
        rate = self._policy.bytes_per_s
        columns, refused = await self._store.shape(which, rate)  # it may have been altered since the seal
        altered = replace(which, columns=columns)
        found = None if refused else await self._store.measure(altered, self._policy.time_column, rate)
        async with self._transaction() as work:
            if found is None:
                why = "; ".join(f"column {each.column}: {each.reason}" for each in refused)
                await self._store_step(work, transitions.refuse(which, work.at, why=why))
            else:
                measured = transitions.measure(which, work.at, seal=which.seal, found=found, columns=columns)
                await self._store_step(work, measured)

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
        for slices in due_again(waiting, self._keeper.now(), self._limits):
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
        now = self._keeper.now()
        return [each for each in slices if transitions.overdue(each, now, self._limits) is not None]

    async def _give_up(self, which: Slice) -> None:
        async with self._transaction() as work:
            await self._store_step(work, transitions.give_up(which, work.at, limits=self._limits))

    # --- verify ---

    async def _verify(self, unproven: Sequence[Slice]) -> None:
        """Read copies back, those at the same place in one pass; only the service's own reads count."""
        for wanted in at_one_place(unproven):
            async with self._trying(wanted[0].slice):
                await self._read_back(wanted)

    async def _read_back(self, wanted: Sequence[CopyToVerify]) -> None:
        try:
            found = await self._keeper.read_back(wanted, self._policy)
        except CopyError as error:
            if len(wanted) == 1:
                await self._set_aside(wanted[0], str(error))
                return
            for each in wanted:  # which of them it is, and not the others
                await self._read_back([each])
            return
        for which, copy in ((each.slice, each.copy) for each in wanted):
            async with self._transaction() as work:
                verified = transitions.verify(which, work.at, read=copy, found=found[which.id])
                await self._store_step(work, verified)

    async def _set_aside(self, wanted: CopyToVerify, why: str) -> None:
        async with self._transaction() as work:
            moved = transitions.quarantine(wanted.slice, work.at, read=wanted.copy, why=why)
            await self._store_step(work, moved)

    # --- drop, evict ---

    async def _drop(self, which: Slice) -> None:
        """Measure again with writers locked out, and only then drop, all in one transaction."""
        async with self._transaction() as work:
            holds = await work.holds(which.id.table)
            await self._demand_unseen(work, which)
            await work.lock_rows(which)
            found = await work.measure(which, self._policy.time_column)
            moved = transitions.drop(which, work.at, found=found, holds=holds)
            if isinstance(moved, TransitionRefused) and moved.code == "CHANGED":
                await self._store_step(work, transitions.reseal(which, work.at, found=found))
                return
            if isinstance(moved, Transition):
                await self._demand_unseen(work, which)  # again: that took its time
                await work.let_go(which)
            await self._store_step(work, moved)

    async def _demand_unseen(self, work: ArchiveWork, which: Slice) -> None:
        """Postpone the drop if a view would lose the rows: it may have been created since the seal."""
        kept = self._kept(await work.views(which.id.table), which)
        if kept is not None:
            raise TransientError(kept)

    def _kept(self, views: Iterable[ContinuousAggregate], which: Slice) -> str | None:
        return why_kept(views, which, self._policy.after, self._keeper.now())

    async def _evict(self, which: Slice) -> None:
        async with self._transaction() as work:
            for moved in await evict(work, which, self._policy.time_column):
                await self._store_step(work, moved)

    def _doubtful(self, proven: Iterable[Slice]) -> set[Slice]:
        """Return those whose copies must be read again before their rows are dropped."""
        now = self._keeper.now()
        return {each for each in proven if each.verified is not None and each.verified.is_old(now)}

    def _expired(self, restored: Sequence[Slice]) -> list[list[Slice]]:
        """Return the generations of every range whose restored rows are due to leave."""
        by_range: dict[datetime, list[Slice]] = defaultdict(list)
        for which in restored:
            by_range[which.id.start].append(which)
        now = self._keeper.now()
        return [
            slices
            for slices in by_range.values()
            if all(each.restore_until is not None and each.restore_until <= now for each in slices)
        ]
