"""Lanes for an operator: their owners, their progress, and what can be done with a halted one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.admin.lanes.states import find_lane
from tidemill.admin.ports import LaneReader
from tidemill.admin.rows import LaneState, LedgerEntry
from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.rejections import CHOICES, HALTED


@dataclass(frozen=True)
class LaneShown:
    """A lane with the newest entries of its ledger; if it is halted, what that means and what can be done."""

    state: LaneState
    ledger: Sequence[LedgerEntry]
    advice: str | None
    choices: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class LaneOverview:
    """Shows lanes."""

    catalog: StreamCatalog
    lanes: LaneReader

    async def every(self, aggregate: str | None) -> list[LaneState]:
        """Return lanes by aggregate and partition. Raises `UsageError` if there is no such aggregate."""
        return await self.lanes.lanes(self.catalog.aggregate(aggregate))

    async def show(self, name: str, entries: int) -> LaneShown:
        """Return a lane, named by its id or as `AGGREGATE/PARTITION`. Raises `UsageError` if there is none."""
        state = await find_lane(self.lanes, name)
        ledger = await self.lanes.ledger(state.lane, entries)
        advice = HALTED.get(state.halt_code, "") if state.halt_code else None
        choices = [each.replace("LANE", state.name) for each in CHOICES.get(state.halt_code or "", ())]
        return LaneShown(state, ledger, advice, choices)
