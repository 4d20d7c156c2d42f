"""The demo's archive: old chunks leave, a lie is detected, a range is restored, and another program reads the lake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final, TypeVar

from tidemill.app.admin import Admin
from tidemill.app.connections import open_pool
from tidemill.app.deployment import Deployment
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState
from tidemill.domain.errors import TidemillError
from tidemill.retention.planner import Facts
from tidemill.retention.slices import Slice
from tidemill.storage.database.pool import Pool
from tidemill.storage.retention.archive import ArchiveDatabase
from tidemill_devkit.demo.forgery import send_forgery
from tidemill_devkit.demo.lake import LakeLine, read_lake
from tidemill_devkit.demo.place import AS_OF, DemoSite
from tidemill_devkit.demo.plan import MARKET_DATA
from tidemill_devkit.demo.processes import Serving
from tidemill_devkit.demo.watch import MAX_STALL_S, Hop, StandsStill

T = TypeVar("T")

RESTORED_DAY: Final = datetime(2005, 6, 15, tzinfo=UTC)
"""The range that comes back is the one with this day in it: Apple had just split its shares."""

_KEEP: Final = timedelta(days=1)
_POLL_S: Final = 0.2
_S: Final = ArchiveState
_GONE: Final = frozenset({_S.DROPPED, _S.RESTORED})
_VERIFIED: Final = _GONE | {_S.VERIFIED}
_COPIED: Final = _VERIFIED | {_S.CONFIRMED}


@dataclass(frozen=True)
class RangeLine:
    """A range that left: its rows, what they took in the database, and their files in the lake."""

    start: datetime
    end: datetime
    rows: int
    hot_bytes: int
    lake_bytes: int
    files: Sequence[str]
    state: str


@dataclass(frozen=True)
class Forgery:
    """A forged confirmation, and what the service found. `kept`: the rows still exist."""

    start: datetime
    rows: int
    state: str
    reason: str
    kept: bool


@dataclass(frozen=True)
class Back:
    """The restored range, and until when."""

    start: datetime
    end: datetime
    rows: int
    until: datetime | None


@dataclass(frozen=True)
class Archived:
    """The results for the old chunks. `due`: how many had to leave; `lake`: what another program finds."""

    due: int
    before: datetime
    ranges: Sequence[RangeLine]
    forged: Forgery
    back: Back
    lake: Sequence[LakeLine]

    @property
    def rows(self) -> int:
        """Return how many rows left, restored ones included."""
        return sum(each.rows for each in self.ranges)


async def archive(
    place: DemoSite,
    processes: Serving,
    on_hops: Callable[[Sequence[Hop]], None],
    on_step: Callable[[str, str], None],
) -> Archived:
    """Archive what was due on 2012-01-01, as `serve retention` and `serve archiver` do it.

    Raises:
        ProcessEnded: a process ended. StandsStill: no progress. TidemillError: something was refused.
    """
    async with AsyncExitStack() as shared:
        pool = await open_pool(shared, place.settings, name="tidemill demo", size=2)
        return await _Archive(place, processes, pool, on_hops, on_step).run()


class _Archive:
    def __init__(
        self,
        place: DemoSite,
        processes: Serving,
        pool: Pool,
        on_hops: Callable[[Sequence[Hop]], None],
        on_step: Callable[[str, str], None],
    ) -> None:
        self._place = place
        self._deployment = place.deployment
        self._processes = processes
        self._database = ArchiveDatabase(pool)
        self._on_hops = on_hops
        self._on_step = on_step
        self._policy = policy_of(self._deployment)
        self._due: frozenset[datetime] = frozenset()

    async def run(self) -> Archived:
        last_end = AS_OF - self._policy.after
        chunks = {each.start: each for each in (await self._facts()).chunks if each.end <= last_end}
        self._due = frozenset(chunks)
        await self._processes.start("retention")
        asked = await self._until(_first_request, "a request for copies")
        rows = await send_forgery(
            self._place, asked, self._policy.time_column, self._database.read_sql(asked)
        )
        await self._processes.start("archiver")  # whose answer comes after the forged one, however fast it is
        forged = await self._judged(asked, rows)
        await self._until(self._all_gone, "every range to be copied, verified and dropped")
        self._on_step("forged", f"set aside: {forged.reason}; no row was dropped for it")
        back = await self._restore()
        facts = await self._facts()
        sizes = {start: chunk.size_bytes for start, chunk in chunks.items()}
        return Archived(
            due=len(chunks),
            before=max((chunk.end for chunk in chunks.values()), default=last_end),
            ranges=[_line(each, sizes.get(each.id.start, 0)) for each in facts.slices if each.stage in _GONE],
            forged=forged,
            back=back,
            lake=await read_lake(self._place, self._policy.table_name),
        )

    async def _judged(self, asked: Slice, rows: int) -> Forgery:
        """Wait until the forged copy was read back; then request a true one, as an operator would."""

        def set_aside(facts: Facts) -> tuple[Slice, bool] | None:
            (found,) = (each for each in facts.slices if each.id == asked.id)
            there = asked.chunk in {chunk.chunk for chunk in facts.chunks}
            return (found, there) if found.state is _S.QUARANTINED or not there else None

        found, there = await self._until(set_aside, "the forged confirmation to be judged")
        why = "the confirmation was forged: copy it again"
        async with Admin(self._deployment) as admin:
            await admin.archive_actions.retry(asked.id.table, asked.id.start, None, why)
        return Forgery(asked.id.start, rows, found.state.value, found.reason or "", kept=there)

    async def _restore(self) -> Back:
        table, first = self._policy.table_name, RESTORED_DAY
        async with Admin(self._deployment) as admin:
            ranges = await admin.restore.restorable(table, first, first + timedelta(days=1))
            (restored,) = await admin.restore.restore(ranges, _KEEP, lambda _: None)
        if restored.trouble is not None:
            raise TidemillError(f"the range did not come back: {restored.trouble}")
        self._on_step(
            "restored", f"{restored.row_count:,} rows of {restored.start:%Y-%m-%d} .. {restored.end:%Y-%m-%d}"
        )
        return Back(restored.start, restored.end, restored.row_count, restored.until)

    def _all_gone(self, facts: Facts) -> bool:
        return self._due <= {each.id.start for each in facts.slices if each.stage in _GONE}

    async def _facts(self) -> Facts:
        return await self._database.facts(self._policy.table_name)

    async def _until(self, found: Callable[[Facts], T | None], what: str) -> T:
        """Poll, and report the progress of all ranges."""
        seen: Sequence[Hop] = []
        moved_s = monotonic()
        while True:
            facts = await self._facts()
            hops = self._hops(facts.slices)
            self._on_hops(hops)
            if result := found(facts):
                return result
            self._processes.demand_alive()
            if hops != seen:
                seen, moved_s = hops, monotonic()
            elif monotonic() - moved_s > MAX_STALL_S:
                raise StandsStill(f"no step for {MAX_STALL_S:.0f} s, while waiting for {what}")
            await asyncio.sleep(_POLL_S)

    def _hops(self, slices: Sequence[Slice]) -> list[Hop]:
        stages = [each.stage for each in slices]
        total = len(self._due)
        return [
            Hop("sealed", sum(each.is_closed for each in slices), total, "ranges: nothing is added any more"),
            Hop("copied", sum(stage in _COPIED for stage in stages), total, "to the lake, by the archiver"),
            Hop("verified", sum(stage in _VERIFIED for stage in stages), total, "read back and compared"),
            Hop("dropped", sum(stage in _GONE for stage in stages), total, "from the database"),
        ]


def policy_of(deployment: Deployment) -> Retention:
    """Return the policy of the quotes."""
    policy = deployment.catalog.contexts[MARKET_DATA].context.retention
    assert policy is not None, "market data leaves for the archive"
    return policy


def _first_request(facts: Facts) -> Slice | None:
    return next((each for each in facts.slices if each.state is _S.REQUESTED), None)


def _line(archive_slice: Slice, hot_bytes: int) -> RangeLine:
    files = archive_slice.verified.copy.files if archive_slice.verified else ()
    return RangeLine(
        start=archive_slice.id.start,
        end=archive_slice.id.end,
        rows=archive_slice.sealed.row_count if archive_slice.sealed else 0,
        hot_bytes=hot_bytes,
        lake_bytes=sum(file.size_bytes for file in files),
        files=[file.path for file in files],
        state=archive_slice.state.value,
    )
