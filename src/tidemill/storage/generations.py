"""Generations of the log: which are closed, their filters, when to roll.

The id of a command is unique within its generation; closed generations never change, so a filter in memory answers for
nearly all new ids that they are new. A generation whose filter is not built yet is asked by its index: slower, exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from tidemill.storage.filters import IdFilter, hashes, pack
from tidemill.storage.pool import Connection, Pool, connection
from tidemill.storage.statements import load_statements

_SQL = load_statements("commands")


class ClosedGenerations:
    """What one process knows of the closed generations; refreshed when the open one changes."""

    def __init__(self) -> None:
        self._open: int | None = None
        self._filters: dict[int, IdFilter | None] = {}

    async def refresh(self, borrowed: Connection, open_gen: int) -> None:
        """Learn of generations that were closed or filtered since; cheap when nothing changed."""
        if open_gen == self._open and None not in self._filters.values():
            return
        have = [gen for gen, held in self._filters.items() if held is not None]
        rows = await borrowed.fetch(_SQL["generations"], have)
        closed = [row for row in rows if row["closed"]]
        self._filters = {
            row["gen"]: IdFilter.from_bytes(row["filter"]) if row["filter"] else self._filters.get(row["gen"])
            for row in closed
        }
        self._open = open_gen

    def candidates(self, ids: Sequence[str]) -> Mapping[int, Sequence[str]]:
        """Return generation -> those of `ids` that may be in it."""
        if not ids or not self._filters:
            return {}
        hashed = hashes(pack(ids))
        found: dict[int, Sequence[str]] = {}
        for gen, known in self._filters.items():
            if known is None:
                found[gen] = ids
            else:
                found[gen] = [ids[index] for index in known.maybe(hashed).nonzero()[0].tolist()]
        return found


class GenerationStore:
    """Rolls the log, builds filters, drops what is older than the horizon. Fits `commands.ports.Generations`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def roll_if_due(self, *, max_age: timedelta, max_ids: int) -> int | None:
        """Open the next generation if the open one is old or full; return its number if it did."""
        async with connection(self._pool) as borrowed:
            row = await borrowed.fetchrow(_SQL["open_generation_age"])
            assert row is not None, "migrations open the first generation"
            if row["ids"] == 0 or (row["age"] < max_age and row["ids"] < max_ids):
                return None
            following: int = row["gen"] + 1
            await borrowed.execute(_SQL["prepare_generation"], following)
            await borrowed.execute(_SQL["roll_generation"], row["gen"], following)
            await borrowed.execute(_SQL["prepare_generation"], following + 1)
            return following

    async def build_filters(self) -> list[int]:
        """Build and keep the filter of every closed generation that has none; return their numbers."""
        async with connection(self._pool) as borrowed:
            gens = [row["gen"] for row in await borrowed.fetch(_SQL["generations_without_filter"])]
            for gen in gens:
                await self._build(borrowed, gen)
            return gens

    async def _build(self, borrowed: Connection, gen: int) -> None:
        ids = await borrowed.fetchval(_SQL["count_ids"], gen)
        packed = await borrowed.fetch(_SQL["packed_ids"], gen, timeout=300)
        built = IdFilter.build(ids, (row["packed"] for row in packed))
        await borrowed.execute(_SQL["keep_filter"], gen, built.to_bytes(), ids)

    async def drop_expired(self, horizon: timedelta) -> list[int]:
        """Drop log and ledger of generations that closed before the horizon; the outbox has a keeper of its own."""
        async with connection(self._pool) as borrowed:
            gens = [row["gen"] for row in await borrowed.fetch(_SQL["expired_generations"], horizon)]
            for gen in gens:
                for part in ("log", "batch"):
                    await borrowed.execute(_SQL["drop_generation"], gen, part)
            return gens
