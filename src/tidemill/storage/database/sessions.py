"""Which sessions are reused: one at the wrong server, or in the wrong mode, is closed, and its siblings too.

An address may lead to another server while the sessions at the old one stay; a server may become
read-only; the driver may remember old forms of tables. Only a new session helps then, and what is true of one session
is true of all that are as old. The next attempt connects again.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import asyncpg

from tidemill.domain.errors import CommitUnknown, TableMisfit, Unavailable
from tidemill.storage.database.errors import DRIVER_ERRORS, OutOfDate, SessionDoubted, only_reads, translate

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

if TYPE_CHECKING:
    _Driver = asyncpg.Connection[asyncpg.Record]
else:
    _Driver = asyncpg.Connection  # generic for type checkers only

_TOLD_BY_THE_SERVER: Final = ("in_hot_standby", "default_transaction_read_only")
"""Settings that PostgreSQL 14 and later report by themselves, also when they change: no query is needed."""


@dataclass(slots=True)
class SessionUse:
    """When a session was opened and last came back to its pool, by a clock that never decreases."""

    opened_s: float = 0.0
    returned_s: float = 0.0


class Session(_Driver):
    """A session at any server."""

    proven = False
    """Whether a statement has succeeded on it."""

    def __init__(self, *driver: Any, **own: Any) -> None:
        """Create it as the driver does."""
        super().__init__(*driver, **own)
        self.shapes: dict[str, Any] = {}
        """The tables that its COPYs were prepared for: `storage.shapes`."""
        self.use = SessionUse()
        self.settled = ""
        """What was set for all statements of the session, by those who alone use its pool."""

    def prove(self) -> None:
        """Record that a statement has succeeded on it."""
        self.proven = True

    def demand_use(self) -> None:
        """Return if it is usable. Raises `Unavailable`."""


class WritingSession(Session):
    """A session that is usable only at a writable server: the data of another one may lag."""

    def demand_use(self) -> None:
        """Return if the server is writable, as far as it has reported. Raises `Unavailable`."""
        settings = self.get_settings()
        if any(getattr(settings, name, "off") == "on" for name in _TOLD_BY_THE_SERVER):
            raise only_reads()


def session_of(borrowed: Connection) -> Session:
    """Return the session behind a borrowed connection, which forgets it when the session ends."""
    proxy: Any = borrowed
    return cast("Session", proxy._con)  # noqa: SLF001  there is no public way


def lend_idle(pool: Pool) -> Awaitable[Connection] | None:
    """Return what lends a connection that is open and free now, None if one must be waited for or made.

    The driver makes a task and a timer for each acquire, which is for waiting; here nothing is waited for.
    """
    inside: Any = pool
    free = inside._queue  # noqa: SLF001  there is no public way
    if free is None or free.empty() or inside.is_closing():
        return None
    place = free.get_nowait()
    if not place.is_connected() or place._generation != inside._generation:  # noqa: SLF001  as above
        free.put_nowait(place)
        return None
    lending: Awaitable[Connection] = place.acquire()
    return lending


def give_back_quiet(borrowed: Connection) -> Awaitable[None] | None:
    """Return what gives a connection back on which nothing is left to do, None if something is.

    Only for pools that do not clean. The driver makes a task and a timer for each, so that what it waits for ends
    whoever is cancelled; here nothing is waited for.
    """
    inside: Any = borrowed
    session, place = inside._con, inside._holder  # noqa: SLF001  there is no public way
    if session is None or session.is_closed() or place._generation != place._pool._generation:  # noqa: SLF001  as above
        return None
    wire = session._protocol  # noqa: SLF001  as above
    if wire.is_in_transaction() or wire._is_cancelling() or wire.queries_count >= place._max_queries:  # noqa: SLF001  as above
        return None
    session._on_release()  # noqa: SLF001  as above
    returning: Awaitable[None] = place.release(None)
    return returning


async def consequence(borrowed: Connection, session: Session, error: Exception) -> Exception:
    """Close the borrowed session if `error` makes it doubtful; return the error to raise.

    The driver's information cannot be out of date in a session without a successful statement: that is a
    `TableMisfit`, and everything else is `error` itself.
    """
    meaning = translate(error) if isinstance(error, DRIVER_ERRORS) else error
    if not _casts_doubt(meaning):
        return error
    await _leave(borrowed)
    if isinstance(meaning, OutOfDate) and not session.proven:
        return TableMisfit(f"{meaning}, and a new session says the same")
    return error


def _casts_doubt(meaning: Exception) -> bool:
    if isinstance(meaning, Unavailable):
        return meaning.server == "database"
    return isinstance(meaning, SessionDoubted | CommitUnknown)


async def _leave(borrowed: Connection) -> None:
    """Have a session closed when it comes back, and all others of its pool that were made before it was doubted.

    An error in a session that is older than an earlier doubt does not concern newer sessions.
    """
    place: Any = borrowed
    place = place._holder  # noqa: SLF001  there is no public way to tell
    if place._generation == place._pool._generation:  # noqa: SLF001  as above
        await place._pool.expire_connections()  # noqa: SLF001  as above
