"""Whether a database has the revisions that this version needs: asked at every start, so without Alembic."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError
from tidemill.storage.migrations.connection import Driver, MigrationLimits, Tls, connected
from tidemill.storage.migrations.folders import Contexts, needed_revisions

_HAS_HISTORY = "select to_regclass('public.tidemill_migration') is not null"
_HISTORY = "select revision, applied_at from public.tidemill_migration"
_TIMESCALEDB = "select extversion from pg_extension where extname = 'timescaledb'"

OLDEST_TIMESCALEDB: Final = (2, 19)
BROKEN_TIMESCALEDB: Final = (
    "2.30.0"  # prepared statements, as all of asyncpg's are, give wrong results at the sixth call
)


Server = Callable[[], tuple[str, Tls]]
"""Returns a URL and how to encrypt. May raise `UsageError`: they are asked for only when the server is."""


class NotMigrated(UsageError):
    """The database lacks revisions that this version needs. `missing` names them."""

    kind = ErrorCode.NOT_MIGRATED

    def __init__(self, missing: Sequence[str]) -> None:
        """Services report this at start, and end."""
        super().__init__(f"the database lacks the migrations {', '.join(missing)}", missing=tuple(missing))
        self.missing = tuple(missing)


class AppliedMigrationDatabase:
    """What the database has of what a deployment needs: `catalog.ports.PendingMigrations`."""

    def __init__(self, server: Server, contexts: Mapping[str, Path | None]) -> None:
        """`server`: of a login that may read the history. `contexts`: as `MigrationDatabase` takes them."""
        self._server = server
        self._contexts = contexts

    async def check(self, *, writes: bool = True) -> None:
        url, tls = self._server()
        await check(url, contexts=self._contexts, tls=tls, writes=writes)

    async def missing(self) -> Sequence[str]:
        try:
            await self.check()
        except NotMigrated as pending:
            return pending.missing
        return ()


async def check(
    url: str,
    *,
    contexts: Contexts = None,
    tls: Tls = None,
    limits: MigrationLimits | None = None,
    writes: bool = True,
) -> None:
    """Return if the database has every revision that `contexts` need; it may have newer ones, and others.

    `writes`: a read-only server is refused, since a standby may lag.

    Raises:
        NotMigrated: it lacks some.
        UsageError: its encoding or TimescaleDB is not supported; or a wrong address or login.
        Unavailable: no server.
    """
    needed = needed_revisions(contexts)
    async with connected(url, tls, limits or MigrationLimits(), writes=writes) as connection:
        check_encoding(connection.get_settings().server_encoding)
        applied = await applied_revisions(connection)
        timescaledb = await connection.fetchval(_TIMESCALEDB)
    missing = [revision for revision in needed if revision not in applied]
    if missing:
        raise NotMigrated(missing)
    check_timescaledb(timescaledb)


def check_encoding(encoding: str) -> None:
    """Return if texts of any client can be stored. Raises `UsageError`."""
    if encoding != "UTF8":
        raise UsageError(
            f"the database is encoded in {encoding}, and must be in UTF8, so that every text can be stored: create "
            "another with `create database NAME encoding 'UTF8' template template0`"
        )


def check_timescaledb(version: str | None) -> None:
    """Return if this version of the extension may be used.

    Raises:
        UsageError: it is absent, too old, or 2.30.0, which gives wrong answers.
    """
    if version is None:
        raise UsageError(
            "the database has no extension timescaledb, which its migrations have added: it was dropped, with every "
            "hypertable; restore the database from a backup"
        )
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_TIMESCALEDB:
        raise UsageError(f"TimescaleDB {version} is too old: update the extension to 2.19 or later")
    if version == BROKEN_TIMESCALEDB:
        raise UsageError(
            f"TimescaleDB {version} repeats rows under a LIMIT parameter: update the extension to 2.31 or later"
        )


async def applied_revisions(connection: Driver) -> Mapping[str, datetime]:
    """Return when each revision that the database has was applied."""
    if not await connection.fetchval(_HAS_HISTORY):
        return {}
    return {row["revision"]: row["applied_at"] for row in await connection.fetch(_HISTORY)}
