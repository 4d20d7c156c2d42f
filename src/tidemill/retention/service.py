"""The archive's worker as a service of its process."""

from __future__ import annotations

from tidemill.domain.errors import Fenced, LaneHalted, TransientError
from tidemill.retention.grouping import Round
from tidemill.retention.worker import ArchiveWorker
from tidemill.runtime.periodic import Periodic
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import ARCHIVE_PROBLEMS, ARCHIVE_ROUNDS

_log = logger(__name__)


class RetentionService(Periodic):
    """A `Service`: round after round, at once while there is something to do, else after a pause or a wake."""

    def __init__(self, worker: ArchiveWorker, *, every_s: float) -> None:
        """Nothing happens before `run`."""
        super().__init__(every_s=every_s)
        self._worker = worker
        self._last = Round()

    async def look(self) -> bool:
        """Move what is due."""
        self._last = await self._round()
        problems, moved = self._last.problems, self._last.moved
        ARCHIVE_PROBLEMS.set(len(problems))
        ARCHIVE_ROUNDS.labels("troubled" if problems else "moved" if moved else "idle").inc()
        return bool(moved)

    async def _round(self) -> Round:
        try:
            return await self._worker.round()
        except Fenced:
            return Round()  # the lane is somebody else's now, or comes back with a new claim
        except (TransientError, LaneHalted) as error:
            if str(error) not in self._last.problems:
                _log.warning(Log.ARCHIVE_WAITS, reason=str(error))
            return Round(problems=[str(error)])

    def health(self) -> Health:
        """Return that it works; what waits is no illness, and `retention status` lists it."""
        return Health(ok=True, detail={"troubles": list(self._last.problems[:5])})
