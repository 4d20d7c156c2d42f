"""A projector as a service: what of it makes its process ill, and what only an operator can change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.waiting import HANGING_S
from tidemill.projections import halts
from tidemill.projections.ports import FoldHalt
from tidemill.projections.service import ProjectorService
from tidemill.projections.status import LaneStatus, ProjectionStatus, ProjectorStatus


class Told:
    """A projector that is how it is told to be."""

    def __init__(self, waiting_for: str | None = None, **told: Any) -> None:
        fields: dict[str, Any] = {"lanes": (), "events": 7, "active_at": None, "error": None} | told
        self._status = ProjectorStatus("trades", [ProjectionStatus("stocks", **fields)], waiting_for)

    def status(self) -> ProjectorStatus:
        return self._status

    async def run(self, stopping: asyncio.Event) -> None:
        await stopping.wait()


HALTED = [LaneStatus(lane, 1, FoldHalt(halts.GAP, 2, 3, f"gap in {lane}")) for lane in range(7)]


@pytest.mark.parametrize(
    ("told", "ok", "shown"),
    [
        ({}, True, {}),
        ({"error": "a bug"}, False, {"error": "a bug"}),
        ({"misfit": "no column"}, True, {"code": halts.TABLE_MISFIT, "misfit": "no column"}),
        ({"lanes": HALTED}, True, {"halted": {str(lane): f"gap in {lane}" for lane in range(5)}}),
    ],
)
def test_a_restart_is_for_what_it_can_change(told: dict[str, Any], ok: bool, shown: dict[str, Any]) -> None:
    projector: Any = Told(**told)
    health = ProjectorService(projector).health()
    assert (health.ok, health.detail) == (ok, {"stocks": {"events": 7} | shown})


def test_it_says_which_server_it_waits_for() -> None:
    projector: Any = Told("kafka is unavailable")
    health = ProjectorService(projector).health()
    assert (health.ok, health.detail["waiting_for"]) == (False, "kafka is unavailable")


async def test_it_ends_when_it_is_stopped() -> None:
    projector: Any = Told()
    service = ProjectorService(projector)
    await service.start()
    running = asyncio.create_task(service.run())
    await service.stop()
    await asyncio.wait_for(running, HANGING_S)
