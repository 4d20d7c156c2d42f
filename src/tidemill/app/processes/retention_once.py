"""`retention run --once`: serves retention in this process until nothing is due any more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

from tidemill.admin.archive.run_once import OnProgress, RunProgress, RunResult, RunWatch, RunWork
from tidemill.app.deployment import Deployment
from tidemill.app.processes.base import Process, tune_gc
from tidemill.app.processes.retention import Working, retention_jobs, retention_probes
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Job
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.database.pool import quiet_driver
from tidemill.transport.kafka.client.logs import limit_client_logs

_GRACE_S: Final = 30.0  # for a group that forms again, after the session of a dead owner


def run_once(deployment: Deployment, as_of: datetime | None, on_progress: OnProgress) -> RunResult:
    """Work until nothing is due; a signal ends it earlier.

    Raises:
        UsageError: another process owns the archive's lane.
        LaneHalted: no process may own it until an operator decides.
        TidemillError: what no retry can fix.
    """
    wanted = deployment.rehearsed(as_of).without_health_port()  # a serving process may have it
    limit_client_logs()
    quiet_driver()
    progress = RunProgress(on_progress)

    async def assemble(shared: AsyncExitStack) -> Sequence[Job]:
        return await retention_jobs(shared, wanted, lambda working: [_job(wanted, working, progress)])

    process = Process("retention", wanted.settings, assemble, retention_probes(wanted))
    progress.stop = process.request_stop
    tune_gc()
    process.run_to_its_end()
    if process.error is not None:
        raise process.error
    return RunResult(progress.finished, progress.moved, progress.tables)


def _job(deployment: Deployment, working: Working, progress: RunProgress) -> Job:
    settings = deployment.settings
    work = RunWork(
        claim=lambda: working.lane.claim,
        lanes=OperationsDatabase(working.pool),
        store=working.store,
        policies=working.policies,
        owner=working.owner,
    )
    max_wait_s = settings.kafka.session_s + _GRACE_S

    def make() -> RunWatch:
        as_of = settings.retention.as_of
        return RunWatch(work, progress, as_of=as_of, max_wait_s=max_wait_s, clock=SystemClock())

    return Job("run", make)
