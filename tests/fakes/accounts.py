"""The accounts of a collection in memory: obey the same conformance suite as the real ones."""

from __future__ import annotations

from tests.fakes.commands import MemoryCommandStore
from tidemill.api import Account
from tidemill.domain.folded_text import folded
from tidemill.domain.state import SignInColumns, State


class MemoryAccounts:
    """A `SignInRows` on the rows of a store. `asked`: the names that were looked up."""

    def __init__(self, store: MemoryCommandStore, state: State, columns: SignInColumns) -> None:
        self._store = store
        self._state = state
        self._columns = columns
        self.asked: list[str] = []

    async def account(self, name: str) -> Account | None:
        self._store.check()
        self.asked.append(name)
        rows = self._store.tables.states.get(self._state.name, {}).values()
        return next((self._account(row) for row in rows if self._has(row, folded(name))), None)

    def _has(self, row: object, name: str) -> bool:
        return self._state.in_force(row) and getattr(row, self._columns.folded_name) == name

    def _account(self, row: object) -> Account:
        active = self._columns.active
        return Account(
            key=getattr(row, self._state.key),
            password_hash=getattr(row, self._columns.password_hash),
            is_active=active is None or getattr(row, active),
        )
