"""A projector as a service of its process."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tidemill.projections import halts
from tidemill.projections.projector import Projector
from tidemill.projections.status import ProjectionStatus
from tidemill.runtime.service import Health

_SHOWN_HALTS: Final = 5


class ProjectorService:
    """A projector as a `Service`."""

    def __init__(self, projector: Projector) -> None:
        """Nothing happens before `run`."""
        self._projector = projector
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Nothing: a projector waits for its servers while it runs."""

    async def run(self) -> None:
        """Project until `stop`."""
        await self._projector.run(self._stopping)

    async def stop(self) -> None:
        """Let the batch in flight end."""
        self._stopping.set()

    def health(self) -> Health:
        """Return the state of every projection; a halt in a lane needs an operator, not a restart."""
        status = self._projector.status()
        detail: dict[str, Any] = {projection.name: _shown(projection) for projection in status.projections}
        if status.waiting_for is not None:
            detail["waiting_for"] = status.waiting_for
        stopped = any(projection.error for projection in status.projections)
        return Health(ok=status.waiting_for is None and not stopped, detail=detail)


def _shown(projection: ProjectionStatus) -> dict[str, Any]:
    shown: dict[str, Any] = {"events": projection.events}
    if projection.error is not None:
        shown["error"] = projection.error
    if projection.misfit is not None:
        shown |= {"code": halts.TABLE_MISFIT, "misfit": projection.misfit}
    if projection.halted:
        halted = [(lane.partition, lane.halt.detail) for lane in projection.halted if lane.halt is not None]
        shown["halted"] = {str(partition): detail for partition, detail in halted[:_SHOWN_HALTS]}
    return shown
