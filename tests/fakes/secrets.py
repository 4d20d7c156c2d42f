"""The keys of secrets in memory: obey the same conformance suite as the real ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.fakes.commands import MemoryCommandStore, MemoryWork, Tables
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import MasterKeyMissing, TransientError
from tidemill.security.data_keys import SecretKeyRow
from tidemill.security.master_keys import MasterKey
from tidemill.security.ports import KeyCount, KeyPlace


def _keys(tables: Tables) -> dict[KeyPlace, SecretKeyRow]:
    return tables.joined.setdefault("secret_key", {})


def _masters(tables: Tables) -> dict[str, bytes]:
    return tables.joined.setdefault("secret_master", {})


def _hold(tables: Tables, master: MasterKey) -> None:
    registered = _masters(tables).setdefault(master.name, master.check_value())
    if not master.fits(registered):
        raise MasterKeyMissing(
            f"master key {master.name} is another key than the one that had this name before",
            code=ErrorCode.SECRET_KEY_WRONG,
            masters=(master.name,),
        )


def _erased(rows: Mapping[KeyPlace, SecretKeyRow], tables: Tables) -> int:
    _keys(tables).update({place: row._replace(wrapped=None) for place, row in rows.items()})
    return len(rows)


class MemoryDataKeys:
    """A `DataKeyStore` on the copy that a transaction works on."""

    def __init__(self, work: MemoryWork) -> None:
        self._tables = work.tables

    async def load(self, collection: str, keys: Sequence[str]) -> list[SecretKeyRow]:
        rows = [row for row in _keys(self._tables).values() if row.collection == collection]
        return sorted((row for row in rows if row.key in keys), key=lambda row: row[:3])

    async def add(self, master: MasterKey, rows: Sequence[SecretKeyRow]) -> None:
        _hold(self._tables, master)
        for row in rows:
            if KeyPlace(*row[:3]) in _keys(self._tables):
                raise TransientError("another batch made the key")
            _keys(self._tables)[KeyPlace(*row[:3])] = row


class MemorySecretKeys:
    """`SecretKeys` on what the transactions of a store have committed."""

    def __init__(self, store: MemoryCommandStore) -> None:
        self._store = store

    @property
    def _tables(self) -> Tables:
        return self._store.tables

    async def masters(self) -> Mapping[str, bytes]:
        return dict(_masters(self._tables))

    async def stored(self, collection: str, key: str) -> list[SecretKeyRow]:
        rows = [row for row in _keys(self._tables).values() if row[:2] == (collection, key)]
        return sorted(rows, key=lambda row: row.generation)

    async def counts(self) -> list[KeyCount]:
        rows = _keys(self._tables).values()
        held = Counter((row.collection, row.master) for row in rows if row.wrapped is not None)
        erased = Counter((row.collection, row.master) for row in rows if row.wrapped is None)
        return [KeyCount(*pair, held[pair], erased[pair]) for pair in sorted({*held, *erased})]

    async def rewrap(
        self,
        master: MasterKey,
        after: KeyPlace | None,
        limit: int,
        rewrapped: Callable[[Sequence[SecretKeyRow]], Sequence[SecretKeyRow]],
    ) -> tuple[KeyPlace | None, int]:
        _hold(self._tables, master)
        rows = [
            row
            for place, row in sorted(_keys(self._tables).items())
            if (after is None or place > after) and row.master != master.name and row.wrapped is not None
        ][:limit]
        changed = rewrapped(rows)
        _keys(self._tables).update({KeyPlace(*row[:3]): row for row in changed})
        return (KeyPlace(*rows[-1][:3]) if rows else None), len(changed)

    async def erase(self, collection: str, key: str) -> int:
        return _erased(self._chosen(lambda row: row[:2] == (collection, key)), self._tables)

    async def give_up(self, master: str) -> int:
        erased = _erased(self._chosen(lambda row: row.master == master), self._tables)
        _masters(self._tables).pop(master, None)
        return erased

    async def drop_unused_masters(self, keep: str) -> list[str]:
        used = {row.master for row in self._chosen(lambda row: True).values()} | {keep}
        unused = sorted(_masters(self._tables).keys() - used)
        for name in unused:
            del _masters(self._tables)[name]
        return unused

    def _chosen(self, suits: Callable[[Any], bool]) -> dict[KeyPlace, SecretKeyRow]:
        rows = _keys(self._tables).items()
        return {place: row for place, row in rows if row.wrapped is not None and suits(row)}
