"""How far lanes and read models are: `queries.ports.LaneProgressReader`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import asyncpg

from tidemill.queries.ports import ProgressKey
from tidemill.queries.seen import HistoryFork, SeenProgress, SeenToken, parse_members
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("seen.sql"))

_Fork = tuple[int, int, int]
"""Its timeline, forked_at, continued_at."""

_LaneFork = tuple[str, int, _Fork]
"""Aggregate, partition, fork."""


class SeenDatabase:
    """Asks ledgers and checkpoints."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool
        self._ends: dict[_LaneFork, int | None] = {}

    async def progress(self, keys: Collection[ProgressKey]) -> Mapping[ProgressKey, SeenProgress]:
        asked = sorted(keys)
        columns = [[key[at] for key in asked] for at in range(3)]
        async with connection(self._pool) as borrowed:
            rows = await borrowed.fetch(_SQL["lane_progress"], *columns)
            await self._learn_ends(borrowed, rows)
        return {ProgressKey(*tuple(row)[:3]): self._progress(row) for row in rows}

    async def seen(self, aggregate: str, projection: str | None) -> SeenToken:
        name = "lanes_seen" if projection is None else "checkpoints_seen"
        async with connection(self._pool) as borrowed:
            text: str = await borrowed.fetchval(_SQL[name], projection or aggregate)
        return parse_members(text)

    async def _learn_ends(self, borrowed: Connection, rows: Iterable[asyncpg.Record]) -> None:
        """Ask once how lanes ended at forks that withdrew nothing: it never changes."""
        forks = {
            (row["aggregate"], row["partition"], fork)
            for row in rows
            for fork in _forks(row)
            if fork[1] == fork[2]
        }
        unknown = sorted(forks - self._ends.keys())
        if not unknown:
            return
        asked = [[place[at] for place in unknown] for at in range(2)]
        rows_of_forks = await borrowed.fetch(_SQL["ends_of_forks"], *asked, [fork[0] for *_, fork in unknown])
        ends = {tuple(row)[:3]: row["sequence"] for row in rows_of_forks}
        self._ends |= {place: ends.get((*place[:2], place[2][0])) for place in unknown}

    def _progress(self, row: asyncpg.Record) -> SeenProgress:
        place = (row["aggregate"], row["partition"])
        return SeenProgress(
            sequence=row["sequence"],
            timeline=row["timeline"],
            compared=row["compared"],
            halted=row["halted"],
            folded=row["folded"],
            forks=tuple(HistoryFork(*fork, self._ends.get((*place, fork))) for fork in _forks(row)),
        )


def _forks(row: asyncpg.Record) -> list[_Fork]:
    """Return the forks of a lane, in order."""
    return [(timeline, forked, continued) for timeline, forked, continued in json.loads(row["forks"] or "[]")]
