"""The keys of secrets, to be read, rotated and erased: `security.ports.SecretKeys`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tidemill.security.data_keys import SecretKeyRow
from tidemill.security.master_keys import MasterKey
from tidemill.security.ports import KeyCount, KeyPlace
from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.security.data_keys import STATEMENTS, hold_master

_BEFORE_ALL = KeyPlace("", "", 0)


class SecretKeyDatabase:
    """Reads and changes keys, each call on a connection that it borrows."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def masters(self) -> Mapping[str, bytes]:
        async with connection(self._pool) as borrowed:
            rows = await borrowed.fetch(STATEMENTS["masters"])
            return {row["name"]: row["check_value"] for row in rows}

    async def stored(self, collection: str, key: str) -> list[SecretKeyRow]:
        async with connection(self._pool) as borrowed:
            rows = await borrowed.fetch(STATEMENTS["stored_keys"], collection, key)
            return [SecretKeyRow(*row) for row in rows]

    async def counts(self) -> list[KeyCount]:
        async with connection(self._pool) as borrowed:
            return [KeyCount(*row) for row in await borrowed.fetch(STATEMENTS["count_keys"])]

    async def rewrap(
        self,
        master: MasterKey,
        after: KeyPlace | None,
        limit: int,
        rewrapped: Callable[[Sequence[SecretKeyRow]], Sequence[SecretKeyRow]],
    ) -> tuple[KeyPlace | None, int]:
        async with connection(self._pool) as borrowed, borrowed.transaction():
            await hold_master(borrowed, master)
            place = after or _BEFORE_ALL
            fetched = await borrowed.fetch(STATEMENTS["keys_of_others"], master.name, *place, limit)
            rows = [SecretKeyRow(*row) for row in fetched]
            changed = rewrapped(rows)
            if changed:
                columns = [list(column) for column in zip(*changed, strict=True)]
                await borrowed.execute(STATEMENTS["rewrap_keys"], *columns)
            return (KeyPlace(*rows[-1][:3]) if rows else None), len(changed)

    async def erase(self, collection: str, key: str) -> int:
        async with connection(self._pool) as borrowed:
            return len(await borrowed.fetch(STATEMENTS["erase_keys"], collection, key))

    async def give_up(self, master: str) -> int:
        async with connection(self._pool) as borrowed, borrowed.transaction():
            await borrowed.execute(STATEMENTS["lock_master"], master)
            erased = await borrowed.fetch(STATEMENTS["erase_keys_of_master"], master)
            await borrowed.execute(STATEMENTS["drop_master"], master)
            return len(erased)

    async def drop_unused_masters(self, keep: str) -> list[str]:
        async with connection(self._pool) as borrowed, borrowed.transaction():
            locked = await borrowed.fetch(STATEMENTS["lock_masters"], keep)
            names = [row["name"] for row in locked]
            dropped = await borrowed.fetch(STATEMENTS["drop_unused_masters"], names)
            return sorted(row["name"] for row in dropped)
