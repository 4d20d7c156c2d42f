"""The session in which migrations run: its limits, its turn, and an observer that finds the holders of locks.

One migration runs at a time: an advisory lock on a separate connection (the transactions of the revisions come and
go) decides the turn. While a revision runs, that connection watches the sessions that block it, for the error message.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NoReturn

from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import TidemillError, TransientError, Unavailable, UsageError
from tidemill.runtime.pauses import every
from tidemill.storage.database.errors import DRIVER_ERRORS, NotAsExpected, translate
from tidemill.storage.migrations.connection import Driver, MigrationLimits, Tls, connect, connected

Work = Callable[[Connection], None]

_TURN: Final = 7018643070
_POLL_S: Final = 0.2
_LOCK_NOT_AVAILABLE: Final = "55P03"
_DEADLOCK: Final = "40P01"

_IN_PROCESS = threading.Lock()  # Alembic has its connection in a global of its module

_SESSION = """
select format('pid %s (%s, user %s, %s for %s s): %s', pid, coalesce(nullif(application_name, ''), 'unnamed'), usename,
              state, extract(epoch from clock_timestamp() - xact_start)::int, left(query, 120)) as holder
from pg_stat_activity
"""
_BLOCKERS = _SESSION + "where pid = any(pg_blocking_pids($1))"
_WHOSE_TURN = (
    _SESSION
    + """
where pid in (select pid from pg_locks where locktype = 'advisory' and granted and objsubid = 1
              and database = (select oid from pg_database where datname = current_database())
              and (classid::bigint << 32) + objid::bigint = $1)
"""
)


class MigrationBlocked(TransientError):
    """A migration did not get a lock. `holders` describes the sessions that held it."""

    kind = ErrorCode.MIGRATION_BLOCKED

    def __init__(self, what: str, wait_s: float, holders: Sequence[str]) -> None:
        """`what` completes "waited 4 s for ..."."""
        seen = "; ".join(holders) or "an unknown session"
        super().__init__(f"waited {wait_s:g} s for {what}, held by {seen}", holders=tuple(holders))
        self.holders = tuple(holders)


class MigrationDeadlocked(MigrationBlocked):
    """A migration and a session waited for each other; the server undid the revision, which can be tried again."""


class MigrationFailed(TidemillError):
    """The database refused a revision, which was undone; those before it stay."""

    kind = ErrorCode.MIGRATION_FAILED


@asynccontextmanager
async def our_turn(url: str, tls: Tls, limits: MigrationLimits) -> AsyncIterator[Driver]:
    """Wait until no other migration runs on this database, and lend the connection whose end ends the turn.

    Raises:
        MigrationBlocked: the other one did not end within `limits.turn_s`.
    """
    async with connected(url, tls, limits) as guard:

        async def asked() -> bool:
            return bool(await guard.fetchval("select pg_try_advisory_lock($1)", _TURN))

        async def free() -> bool:
            return _IN_PROCESS.acquire(blocking=False)

        if not await _within(limits.turn_s, free):
            raise MigrationBlocked("its turn", limits.turn_s, ["another migration in this process"])
        try:
            if not await _within(limits.turn_s, asked):
                holders = [row["holder"] for row in await guard.fetch(_WHOSE_TURN, _TURN)]
                raise MigrationBlocked("its turn", limits.turn_s, holders)
            yield guard
        finally:
            _IN_PROCESS.release()


async def _within(limit_s: float, granted: Callable[[], Awaitable[bool]]) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while True:
                if await granted():
                    return True
                await asyncio.sleep(_POLL_S)
    return False


async def run_migrations(url: str, tls: Tls, limits: MigrationLimits, guard: Driver, work: Work) -> None:
    """Run `work` on a connection for Alembic, observed from `guard`.

    Raises:
        MigrationBlocked, MigrationFailed: a lock was not available; the database refused a revision.
        MigrationDeadlocked: as `MigrationBlocked`; nothing speaks against another attempt.
        Unavailable, UsageError: the server became unavailable; the login lacks rights, or a revision is unknown.
    """
    session = await connect(url, tls, limits)
    seen: list[str] = []
    watch = asyncio.create_task(_watch(guard, session.get_server_pid(), seen))
    try:
        await _run(session, work)
    except (DBAPIError, CommandError, *DRIVER_ERRORS) as error:
        _raise_meaning(error, limits, seen)
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        with suppress(*DRIVER_ERRORS):
            await session.close(timeout=limits.connect_s)


async def _run(session: Driver, work: Work) -> None:
    async def lend() -> Driver:
        return session

    engine = create_async_engine("postgresql+asyncpg://", async_creator=lend, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(work)


async def _watch(guard: Driver, pid: int, seen: list[str]) -> None:
    """Store in `seen` the sessions that blocked `pid` most recently: after the wait they cannot be found any more."""

    async def look() -> None:
        holders = [row["holder"] for row in await guard.fetch(_BLOCKERS, pid)]
        if holders:
            seen[:] = holders

    await look()
    await every(_POLL_S, look)


def _raise_meaning(error: BaseException, limits: MigrationLimits, seen: Sequence[str]) -> NoReturn:
    if isinstance(error, CommandError):
        raise UsageError(
            f"{error}. If the database holds revisions of a context that is not installed here, install it, or "
            "choose it in TIDEMILL_CONTEXTS; if they are newer than this version, migrate with the newer one."
        ) from error
    cause: Any = error.driver_exception if isinstance(error, DBAPIError) else error
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate == _LOCK_NOT_AVAILABLE:
        raise MigrationBlocked(f"a lock, in revision {_revision(error)}", limits.lock_s, seen) from error
    if sqlstate == _DEADLOCK:
        lock = f"a lock, in revision {_revision(error)}, of a session that waited for the migration"
        raise MigrationDeadlocked(lock, limits.lock_s, seen) from error
    meaning = translate(cause)
    if isinstance(meaning, (Unavailable, UsageError)):
        raise meaning from error
    what = meaning.what if isinstance(meaning, NotAsExpected) else meaning
    raise MigrationFailed(f"revision {_revision(error)} was refused and undone: {what}") from error


def _revision(error: BaseException) -> str:
    """Name the revision in whose file the error was raised."""
    for frame, _line in traceback.walk_tb(error.__traceback__):
        if "down_revision" in frame.f_globals:
            return str(frame.f_globals["revision"])
    return "unknown"
