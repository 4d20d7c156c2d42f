"""A connection of the login that migrates, or of one that asks what was applied."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

import asyncpg

from tidemill.storage.database import connect as driver
from tidemill.storage.database.errors import DRIVER_ERRORS, translated
from tidemill.storage.database.pool import READ_COMMITTED
from tidemill.storage.database.session_settings import SPELLING

Driver: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Tls: TypeAlias = ssl.SSLContext | Literal[False] | None


@dataclass(frozen=True, slots=True)
class MigrationLimits:
    """How long a migration waits, in seconds: to connect, for its turn, for a lock, and for one statement.

    `search_path`: where the names in revisions are looked up.
    """

    connect_s: float = 10.0
    turn_s: float = 120.0
    lock_s: float = 4.0
    statement_s: float = 300.0
    search_path: str = "public"

    def settings(self) -> dict[str, str]:
        """Return the session's settings."""
        return {
            "application_name": "tidemill-migrate",
            "lock_timeout": f"{self.lock_s * 1000:.0f}",
            "statement_timeout": f"{self.statement_s * 1000:.0f}",
            "idle_in_transaction_session_timeout": "60000",  # a frozen migration must not keep its locks
            "search_path": self.search_path,
            "TimeZone": "UTC",
            "default_transaction_isolation": READ_COMMITTED,
            **SPELLING,
        }


async def connect(url: str, tls: Tls, limits: MigrationLimits, *, writes: bool = True) -> Driver:
    """Return a connection with the session's limits; `writes`: to a server that takes writes.

    Raises:
        Unavailable, UsageError: no such server; a wrong address or login.
    """
    with translated():
        return await driver.connect(
            url,
            ssl=tls,
            timeout=limits.connect_s,
            command_timeout=limits.statement_s + limits.connect_s,
            server_settings=limits.settings(),
            target_session_attrs="read-write" if writes else None,
        )


@asynccontextmanager
async def connected(
    url: str, tls: Tls, limits: MigrationLimits, *, writes: bool = True
) -> AsyncIterator[Driver]:
    """Lend a connection of its own; a driver's exception inside the block becomes one of the domain's."""
    connection = await connect(url, tls, limits, writes=writes)
    try:
        with translated():
            yield connection
    finally:
        with suppress(*DRIVER_ERRORS):  # a broken connection is closed already
            await connection.close(timeout=limits.connect_s)
