"""Facts of revisions that can never be current again are removed by the service's own commands, under the lane's claim.

Of a hypertable it is one chunk at a time, and none in a range that the archive has closed: what was sealed leaves
with its slice.
No reader is shown such a fact, so nobody notices when a look comes; a reader in the middle of a statement keeps what
its snapshot shows. What a look lists is decided anew under the lock of its lane, under which revisions change. A
removal takes a row of the log with the number of rows that left, in the transaction that removes them: the audit goes
on to balance. It has no event, since the row of the owner does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidemill.commands.expiry import FlowingLanes
from tidemill.commands.internal_commands import (
    InternalCommand,
    InternalCommandNumbering,
    InternalCommandWriter,
)
from tidemill.commands.ports import CommandStore
from tidemill.commands.superseded_ports import SupersededFacts
from tidemill.domain.errors import Fenced, LaneHalted, NotCompared
from tidemill.domain.lane import Claim
from tidemill.domain.stream import Stream
from tidemill.domain.uuid7 import new_uuid7
from tidemill.runtime.periodic import Periodic
from tidemill.runtime.telemetry.metrics import ROWS_SUPERSEDED

SERVICE: Final = "tidemill.superseded"
"""The service that these commands name."""

PAGE_OWNERS: Final = 1_000
"""How many owners are looked at in one statement."""

MAX_ROWS: Final = 10_000
"""How many facts leave in one transaction: its lane takes no commands meanwhile."""


class SupersededSweeper(Periodic):
    """Removes the facts of superseded and abandoned revisions, of a stream's own lanes."""

    def __init__(
        self,
        stream: Stream,
        *,
        store: CommandStore,
        writer: InternalCommandWriter,
        lanes: FlowingLanes,
        every_s: float,
    ) -> None:
        """Nothing happens before `run`."""
        super().__init__(every_s=every_s)
        self._stream = stream
        self._store = store
        self._writer = writer
        self._lanes = lanes
        self._states = {state.name: state for state in stream.states}

    async def look(self) -> None:
        """Remove what is superseded. Raises `TransientError`; what was committed before stays so."""
        for name, facts in self._stream.removals.items():
            for part in await self._store.removable_parts(facts.table):
                await self._sweep(name, SupersededFacts(facts, self._states[facts.of], part))

    async def _sweep(self, name: str, facts: SupersededFacts) -> None:
        after = ""
        while page := await self._store.owners_of_superseded(facts, after, PAGE_OWNERS):
            after = page[-1].key
            due = [key for key, has_superseded in page if has_superseded]
            for claim, keys in self._lanes.owning(due, self._stream.partitions):
                await self._remove_all(claim, name, facts, keys)

    async def _remove_all(self, claim: Claim, name: str, facts: SupersededFacts, keys: Sequence[str]) -> None:
        """Remove what these owners of a lane have, in transactions between which the lane takes its commands."""
        removed = MAX_ROWS
        while removed == MAX_ROWS:
            try:
                async with self._writer.transaction(claim) as numbering:
                    removed = await self._remove(numbering, name, facts, keys)
            except (Fenced, LaneHalted, NotCompared):  # its next owner removes them, or this one later
                return
            if removed:
                ROWS_SUPERSEDED.labels(self._stream.aggregate).inc(removed)
                self._lanes.wake([claim.lane.id])

    async def _remove(
        self,
        numbering: InternalCommandNumbering,
        name: str,
        facts: SupersededFacts,
        keys: Sequence[str],
    ) -> int:
        removed = await numbering.work.remove_superseded(facts, keys, MAX_ROWS)
        numbering.orders += [
            InternalCommand(name, str(new_uuid7(numbering.at)), SERVICE, key.encode(), (), rows)
            for key, rows in removed.items()
        ]
        return sum(removed.values())
