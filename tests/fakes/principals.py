"""Principals in memory: obey the same conformance suite as the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

from tidemill.domain.errors import Unavailable
from tidemill.security.principal_rows import PrincipalChange, PrincipalState


class MemoryPrincipals:
    """A `PrincipalReader` and `PrincipalStore`.

    `is_away`: every call fails. `is_silent`: none is answered. `asked`: how often it was read.
    """

    def __init__(self) -> None:
        self.is_away = False
        self.is_silent = False
        self.asked = 0
        self._versions = map(str, count(1))
        self._state = PrincipalState(next(self._versions))
        self._lock = asyncio.Lock()

    async def changed_since(self, version: str | None) -> PrincipalState | None:
        self.asked += 1
        await self._answer()
        return None if version == self._state.version else self._state

    async def change(
        self, decided: Callable[[PrincipalState], Awaitable[PrincipalChange]]
    ) -> PrincipalChange:
        await self._answer()
        async with self._lock:
            change = await decided(self._state)
            self._apply(change)
            return change

    async def _answer(self) -> None:
        if self.is_silent:
            await asyncio.Event().wait()
        if self.is_away:
            raise Unavailable("database", "switched off by the test")

    def _apply(self, change: PrincipalChange) -> None:
        state = self._state
        principals = {row.name: row for row in (*state.principals, *change.principals)}
        grants = {(row.principal, row.collection): row for row in (*state.grants, *change.grants)}
        for row in change.removed:
            del grants[row.principal, row.collection]
        tokens = {row.id: row for row in (*state.tokens, *change.tokens)}
        self._state = PrincipalState(
            next(self._versions),
            tuple(sorted(principals.values())),
            tuple(sorted(grants.values())),
            tuple(sorted(tokens.values())),
        )
