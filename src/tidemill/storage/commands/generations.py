"""Generations of the log: which are closed, their filters, when to roll.

The id of a command is unique within its generation; closed generations never change, so a filter in memory shows for
nearly all new ids that they are new. A generation whose filter is not built yet is asked by its index: slower, exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg

from tidemill.domain.errors import TransientError
from tidemill.storage.commands.id_filter import IdFilter, hashes, pack
from tidemill.storage.database.pool import Connection, Pool, connection
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("commands.sql"))

_AGREED: Final = timedelta(hours=6)
"""How long the log must have been written to after the horizon of a generation before that is dropped."""

_READ_IDS_S: Final = 300
"""How long reading all ids of a generation may take, instead of the session's time for a statement."""


class _Closed:
    """One closed generation: its number, when it was closed, and its filter once that was loaded."""

    __slots__ = ("closed_at", "filter", "gen")

    def __init__(self, gen: int, closed_at: datetime) -> None:
        self.gen = gen
        self.closed_at = closed_at
        self.filter: IdFilter | None = None


class ClosedSet:
    """The generations that were closed when a certain one was open: never changes, except that filters arrive."""

    def __init__(self, closed: Sequence[_Closed]) -> None:
        """Use `ClosedGenerations.beside`."""
        self._closed = closed

    def candidates(self, ids: Sequence[str]) -> Mapping[int, Sequence[str]]:
        """Return generation -> those of `ids` that may be in it."""
        if not ids or not self._closed:
            return {}
        hashed = hashes(pack(ids))
        found: dict[int, Sequence[str]] = {}
        for one in self._closed:
            if one.filter is None:
                found[one.gen] = ids
            else:
                found[one.gen] = [ids[index] for index in one.filter.maybe(hashed).nonzero()[0].tolist()]
        return found


class ClosedGenerations:
    """A process's cache of the closed generations; one for all of its streams, since filters are large.

    A batch learns within its transaction *which* generations are closed: it must not miss one. Their filters come
    later and outside of it, by `load`. An open generation identifies its set by number and creation time: a restored
    database may open the same number again, beside others.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, datetime], _Closed] = {}
        self._beside: tuple[int, datetime] | None = None
        self._set = ClosedSet([])

    async def beside(self, borrowed: Connection, gen: int, opened_at: datetime) -> ClosedSet:
        """Return the generations closed while `gen` is open, as the caller's transaction has read it."""
        if self._beside == (gen, opened_at):
            return self._set
        rows = await borrowed.fetch(_SQL["closed_generations"])
        made = ClosedSet(self._learn(rows))
        self._beside, self._set = (gen, opened_at), made
        return made  # not the cached one: a batch of an earlier generation may have read meanwhile

    async def load(self, borrowed: Connection) -> None:
        """Fetch the filters that are built and not cached yet, one by one."""
        rows = await borrowed.fetch(_SQL["closed_generations"])
        for row, one in zip(rows, self._learn(rows), strict=True):
            if row["filtered"] and one.filter is None:
                stored = await borrowed.fetchval(_SQL["filter"], one.gen, one.closed_at)
                if stored is not None:  # else it was dropped meanwhile
                    one.filter = await asyncio.to_thread(IdFilter.from_bytes, stored)

    def _learn(self, rows: Sequence[asyncpg.Record]) -> list[_Closed]:
        """Return the generations in `rows`, each as its cached object; forget those that were dropped.

        Only what is older than all of `rows`: they may have been read before the newest one was closed.
        """
        found = [(row["gen"], row["closed_at"]) for row in rows]
        oldest = min((gen for gen, _ in found), default=0)
        kept = {key: one for key, one in self._known.items() if key[0] >= oldest}
        self._known = {key: _Closed(*key) for key in found} | kept
        return [self._known[key] for key in found]


class GenerationStore:
    """Rolls the log, builds filters, drops what is older than the horizon. Fits `commands.generations.Generations`."""

    def __init__(self, pool: Pool, closed: ClosedGenerations | None = None) -> None:
        """`closed`: the cache that `load_filters` fills, for the batches of this process."""
        self._pool = pool
        self._closed = closed or ClosedGenerations()

    async def roll_if_due(self, *, max_age: timedelta, max_ids: int) -> int | None:
        async with connection(self._pool) as borrowed:
            row = await borrowed.fetchrow(_SQL["open_generation_age"])
            assert row is not None, "migrations open the first generation"
            # one that was opened in the future, by a wrong clock, would else stay open until then
            if row["records"] == 0 or (abs(row["age"]) < max_age and row["ids"] < max_ids):
                return None
            following: int = row["gen"] + 1
            await borrowed.execute(_SQL["prepare_generation"], following)
            await borrowed.execute(_SQL["roll_generation"], row["gen"], following)
            await borrowed.execute(_SQL["prepare_generation"], following + 1)
            return following

    async def build_filters(self) -> list[int]:
        async with connection(self._pool) as borrowed:
            gens = [row["gen"] for row in await borrowed.fetch(_SQL["generations_without_filter"])]
        failures: list[TransientError] = []
        for gen in gens:
            try:
                async with connection(self._pool) as borrowed:
                    await self._build(borrowed, gen)
            except TransientError as failure:
                failures.append(failure)
        if failures:
            raise failures[0]
        return gens

    async def _build(self, borrowed: Connection, gen: int) -> None:
        ids, packed = await _ids_of(borrowed, gen)
        built = await asyncio.to_thread(_filter_bytes, ids, packed)
        await borrowed.execute(_SQL["keep_filter"], gen, built, ids)

    async def load_filters(self) -> None:
        async with connection(self._pool) as borrowed:
            await self._closed.load(borrowed)

    async def drop_expired(self, horizon: timedelta) -> list[int]:
        async with connection(self._pool) as borrowed:
            agreed = min(_AGREED, horizon / 4)
            rows = await borrowed.fetch(_SQL["expired_generations"], horizon, agreed)
            gens = [row["gen"] for row in rows]
            for gen in gens:
                for part in ("log", "batch"):
                    await borrowed.execute(_SQL["drop_generation"], gen, part)
            return gens


async def _ids_of(borrowed: Connection, gen: int) -> tuple[int, list[bytes]]:
    """Return how many ids a generation has, and these, packed. From a cold disk that takes longer than a batch may."""
    async with borrowed.transaction():
        await borrowed.execute(_SQL["allow_time"], str(_READ_IDS_S * 1000))
        ids = await borrowed.fetchval(_SQL["count_ids"], gen, timeout=_READ_IDS_S)
        packed = await borrowed.fetch(_SQL["packed_ids"], gen, timeout=_READ_IDS_S)
    return ids, [row["packed"] for row in packed]


def _filter_bytes(ids: int, packed: Sequence[bytes]) -> bytes:
    """Return the filter of a generation as it is stored. Takes seconds for millions of ids: not for the event loop."""
    return IdFilter.build(ids, packed).to_bytes()
