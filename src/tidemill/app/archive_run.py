"""`retention run --once`: serves retention in this process until nothing is due any more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from tidemill.app.archive_desk import rehearsal
from tidemill.app.archive_tasks import TableStatus, summary
from tidemill.app.deployment import Deployment
from tidemill.app.processes.base import Process, calm_collector
from tidemill.app.processes.retention import Working, retention_jobs, retention_probes
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState
from tidemill.domain.errors import LaneHalted, UsageError
from tidemill.retention.planner import UNSEEN, Facts, plan
from tidemill.retention.slices import AWAITED
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Health, Job
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.database.pool import quiet_driver
from tidemill.transport.kafka.client.logs import limit_client_logs

LOOK_EVERY_S: Final = 0.5
OWNED_ELSEWHERE_S: Final = 10.0
"""How long a lane that somebody else works is waited for."""

_GRACE_S: Final = 30.0  # for a group that forms anew, beyond the session of an owner that died
_S = ArchiveState

OnProgress = Callable[[int, int, str], None]
"""Told how many slices are settled, of how many, and what the others wait for."""


@dataclass(frozen=True)
class RunDone:
    """How a run ended. `finished`: nothing was due any more. `moved`: slices that left in this run."""

    finished: bool
    moved: int
    tables: tuple[TableStatus, ...]

    @property
    def ok(self) -> bool:
        """Return whether all that was asked for is gone, or held on purpose."""
        bad = {_S.QUARANTINED, _S.ABORTED}
        return self.finished and not any(note.state in bad for each in self.tables for note in each.notes)


def run_once(deployment: Deployment, as_of: datetime | None, on_progress: OnProgress) -> RunDone:
    """Work until nothing is due; a signal ends it earlier.

    Raises:
        UsageError: another process works the archive's lane.
        LaneHalted: nobody works it, until an operator decides.
        TidemillError: what no retry can mend.
    """
    wanted = rehearsal(deployment, as_of)
    health = wanted.settings.health.model_copy(update={"port": 0})  # its own port may be a serving process's
    wanted = replace(wanted, settings=wanted.settings.model_copy(update={"health": health}))
    limit_client_logs()
    quiet_driver()
    ending = Ending(on_progress)

    async def assemble(shared: AsyncExitStack) -> Sequence[Job]:
        return await retention_jobs(shared, wanted, lambda working: [_job(wanted, working, ending)])

    process = Process("retention", wanted.settings, assemble, retention_probes(wanted))
    ending.stop = process.request_stop
    calm_collector()
    process.run_to_its_end()
    if process.error is not None:
        raise process.error
    return RunDone(ending.finished, ending.moved, ending.tables)


class Ending:
    """What outlives the services of a run: what they have come to."""

    def __init__(self, on_progress: OnProgress) -> None:
        """Nothing has happened yet."""
        self.on_progress = on_progress
        self.stop: Callable[[], None] = lambda: None
        self.finished = False
        self.gone_before: int | None = None
        self.moved = 0
        self.tables: tuple[TableStatus, ...] = ()


def _job(deployment: Deployment, working: Working, ending: Ending) -> Job:
    settings = deployment.settings
    patience_s = settings.kafka.session_s + _GRACE_S
    return Job("run", lambda: Watch(working, ending, as_of=settings.retention.as_of, patience_s=patience_s))


class Watch:
    """A `Service`: looks how far it is, and ends the process when nothing is due."""

    def __init__(
        self, working: Working, ending: Ending, *, as_of: datetime | None, patience_s: float
    ) -> None:
        """`patience_s`: how long a lane is waited for that nobody works."""
        self._as_of = as_of
        self._patience_s = patience_s
        self._working = working
        self._ending = ending
        self._clock = SystemClock()
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Nothing to make ready."""

    async def run(self) -> None:
        """Look until `stop`."""
        had_s = self._clock.monotonic_s()
        while not self._stopping.is_set():
            if self._working.lane.claim is None:
                await self._demand_lane(self._clock.monotonic_s() - had_s)
                continue
            had_s = self._clock.monotonic_s()
            if await self._look():
                self._ending.finished = True
                self._ending.stop()
                await self._stopping.wait()
            await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), LOOK_EVERY_S)

    async def _demand_lane(self, waited_s: float) -> None:
        self._ending.on_progress(self._ending.moved, self._ending.moved + 1, "waiting for the archive's lane")
        await self._pause()
        if waited_s < OWNED_ELSEWHERE_S:
            return
        (lane,) = await OperationsDatabase(self._working.pool).lanes("archival")
        if lane.halt_code is not None:
            raise LaneHalted(lane.lane, lane.halt_code, lane.halt_detail or "")
        owner = lane.owner if lane.owner != self._working.owner else None
        if owner is not None and await self._working.store.is_connected(owner):
            raise UsageError(
                f"the archive's lane is worked by {owner!r}, which does by itself what is due: watch it by "
                "`tidemill retention status`, or stop it and run again"
            )
        if waited_s > self._patience_s:
            raise UsageError(
                f"this process was not given the archive's lane in {waited_s:.0f} s: who else is in the consumer group "
                f"{lane.command_topic}? See `tidemill lanes show {lane.name}`"
            )

    async def _look(self) -> bool:
        """Note how far it is; return whether nothing is due."""
        now, waits, gone, tables = self._clock.now(), Counter[str](), 0, []
        mode = await self._working.store.seal_mode()
        for policy in self._working.policies:
            facts = await self._working.store.facts(policy.table_name)
            waits += due(policy, facts, as_of=self._as_of or now, now=now)
            gone += sum(1 for each in facts.slices if each.state is _S.DROPPED)
            tables.append(summary(facts, now, mode, enabled=policy.enabled))
        if self._ending.gone_before is None:
            self._ending.gone_before = gone
        self._ending.moved = max(gone - self._ending.gone_before, 0)
        self._ending.tables = tuple(tables)
        words = ", ".join(f"{count} {what}" for what, count in waits.items())
        self._ending.on_progress(self._ending.moved, self._ending.moved + waits.total(), words)
        return not waits

    async def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def health(self) -> Health:
        """Return that it watches."""
        return Health(ok=True)


def due(policy: Retention, facts: Facts, *, as_of: datetime, now: datetime) -> Counter[str]:
    """Return what a run still waits for: how many slices are in which state, or are still to be sealed. Pure."""
    found = Counter(each.state.value for each in facts.slices if each.state in {*AWAITED, _S.ELIGIBLE})
    found["expired"] = sum(
        1
        for each in facts.slices
        if each.state is _S.RESTORED and each.restore_until is not None and each.restore_until <= now
    )
    intended = plan(policy, facts, as_of=as_of, now=now)
    found["to seal"] = len(intended.seal) + (0 if intended.quiet_until else len(intended.queued))
    found["to look at"] = sum(1 for each in intended.waiting if each.code == UNSEEN)
    return +found
