"""`retention run --once`: the progress of a run, and whether it is finished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidemill.admin.archive.inspection import TableStatus, summary
from tidemill.admin.archive.ports import ArchiveInspector
from tidemill.admin.ports import LaneReader
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState
from tidemill.domain.errors import LaneHalted, UsageError
from tidemill.domain.lane import Claim
from tidemill.retention.planner import UNSEEN, Facts, plan
from tidemill.retention.slices import AWAITED
from tidemill.runtime.clock import Clock
from tidemill.runtime.periodic import Periodic

LOOK_EVERY_S: Final = 0.5
OWNED_ELSEWHERE_S: Final = 10.0
"""How long to wait for a lane that another process owns."""

_S = ArchiveState

OnProgress = Callable[[int, int, str], None]
"""Called with the number of settled slices, their total, and what the others wait for."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `finished`: nothing more was due. `moved`: slices that left in this run."""

    finished: bool
    moved: int
    tables: tuple[TableStatus, ...]

    @property
    def ok(self) -> bool:
        """Return whether all that was asked for is gone, or held on purpose."""
        bad = {_S.QUARANTINED, _S.ABORTED}
        return self.finished and not any(note.state in bad for each in self.tables for note in each.notes)


class RunProgress:
    """The progress of a run, which outlives its services."""

    def __init__(self, on_progress: OnProgress) -> None:
        """Nothing has happened yet."""
        self.on_progress = on_progress
        self.stop: Callable[[], None] = lambda: None
        self.finished = False
        self.gone_before: int | None = None
        self.moved = 0
        self.tables: tuple[TableStatus, ...] = ()


@dataclass(frozen=True)
class RunWork:
    """What a run reads. `claim`: the archive's, None while this process does not have it. `owner`: this process."""

    claim: Callable[[], Claim | None]
    lanes: LaneReader
    store: ArchiveInspector
    policies: Sequence[Retention]
    owner: str


class RunWatch(Periodic):
    """A `Service`: checks the progress, and ends the process when nothing is due."""

    def __init__(
        self, work: RunWork, progress: RunProgress, *, as_of: datetime | None, max_wait_s: float, clock: Clock
    ) -> None:
        """`max_wait_s`: how long to wait for a lane that no process owns."""
        super().__init__(every_s=LOOK_EVERY_S)
        self._as_of = as_of
        self._max_wait_s = max_wait_s
        self._work = work
        self._progress = progress
        self._clock = clock
        self._had_s = clock.monotonic_s()

    async def look(self) -> None:
        """Note how far it is; end the process when nothing is due."""
        if self._progress.finished:
            return
        if self._work.claim() is None:
            await self._demand_lane(self._clock.monotonic_s() - self._had_s)
            return
        self._had_s = self._clock.monotonic_s()
        if await self._look():
            self._progress.finished = True
            self._progress.stop()

    async def _demand_lane(self, waited_s: float) -> None:
        self._progress.on_progress(
            self._progress.moved, self._progress.moved + 1, "waiting for the archive's lane"
        )
        if waited_s < OWNED_ELSEWHERE_S:
            return
        (state,) = await self._work.lanes.lanes("archival")
        if state.halt_code is not None:
            raise LaneHalted(state.lane, state.halt_code, state.halt_detail or "", name=state.name)
        owner = state.owner if state.owner != self._work.owner else None
        if owner is not None and await self._work.store.is_connected(owner):
            raise UsageError(
                f"the archive's lane belongs to {owner!r}, which does what is due: watch it with "
                "`tidemill retention status`, or stop it and run again"
            )
        if waited_s > self._max_wait_s:
            raise UsageError(
                f"this process did not get the archive's lane in {waited_s:.0f} s: look at the consumer group "
                f"{state.command_topic}, and at `tidemill lanes show {state.name}`"
            )

    async def _look(self) -> bool:
        """Record the progress; return whether nothing is due."""
        now, waits, dropped, tables = self._clock.now(), Counter[str](), 0, []
        mode = await self._work.store.seal_mode()
        for policy in self._work.policies:
            facts = await self._work.store.facts(policy.table_name)
            waits += due(policy, facts, as_of=self._as_of or now, now=now)
            dropped += sum(1 for each in facts.slices if each.state is _S.DROPPED)
            tables.append(summary(facts, now, mode, enabled=policy.enabled))
        if self._progress.gone_before is None:
            self._progress.gone_before = dropped
        self._progress.moved = max(dropped - self._progress.gone_before, 0)
        self._progress.tables = tuple(tables)
        words = ", ".join(f"{count} {what}" for what, count in waits.items())
        self._progress.on_progress(self._progress.moved, self._progress.moved + waits.total(), words)
        return not waits


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
