"""Principals with their grants and tokens: `security.ports.PrincipalReader` and `PrincipalStore`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tidemill.security.principal_rows import (
    GrantRow,
    PrincipalChange,
    PrincipalRow,
    PrincipalState,
    TokenRow,
)
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements

STATEMENTS: Final = load_statements(Path(__file__).with_name("principals.sql"))


class PrincipalDatabase:
    """Reads principals, and changes them where the login may; each call on a connection that it borrows."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def changed_since(self, version: str | None) -> PrincipalState | None:
        async with connection(self._pool) as borrowed:
            if await borrowed.fetchval(STATEMENTS["principal_version"]) == version:
                return None
            # A grant that ended and a principal that came back in one change must be seen together.
            async with borrowed.transaction(isolation="repeatable_read", readonly=True):
                return await _state(borrowed)

    async def change(
        self, decided: Callable[[PrincipalState], Awaitable[PrincipalChange]]
    ) -> PrincipalChange:
        async with connection(self._pool) as borrowed, borrowed.transaction():
            await borrowed.execute(STATEMENTS["lock_principals"])
            change = await decided(await _state(borrowed))
            await _write(borrowed, change)
            return change


async def _state(borrowed: Connection) -> PrincipalState:
    return PrincipalState(
        version=await borrowed.fetchval(STATEMENTS["principal_version"]),
        principals=tuple(PrincipalRow(*row) for row in await borrowed.fetch(STATEMENTS["principals"])),
        grants=tuple(
            GrantRow(row["principal"], row["collection"], tuple(row["verbs"]), tuple(row["hidden"]))
            for row in await borrowed.fetch(STATEMENTS["principal_grants"])
        ),
        tokens=tuple(TokenRow(*row) for row in await borrowed.fetch(STATEMENTS["principal_tokens"])),
    )


async def _write(borrowed: Connection, change: PrincipalChange) -> None:
    await borrowed.executemany(STATEMENTS["put_principal"], change.principals)
    await borrowed.executemany(STATEMENTS["put_principal_grant"], change.grants)
    await borrowed.executemany(STATEMENTS["put_principal_token"], change.tokens)
    removed = [(row.principal, row.collection) for row in change.removed]
    await borrowed.executemany(STATEMENTS["remove_principal_grant"], removed)
