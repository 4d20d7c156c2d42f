"""Connections to TimescaleDB: one pool per purpose, the same settings for every session, a deadline for every wait.

jsonb columns are JSON text both ways, in parameters, results and COPY: that is asyncpg's default, so no codec is set.

Nothing of a session may outlive its transaction: SET LOCAL, transaction-level advisory locks, ON COMMIT DROP. So a
connection that comes back is rolled back if need be, and spared asyncpg's reset, which costs as much as a statement.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from tidemill.domain.errors import UsageError
from tidemill.storage.database.connect import connect
from tidemill.storage.database.errors import DRIVER_ERRORS, translate, translated
from tidemill.storage.database.session_settings import SPELLING
from tidemill.storage.database.sessions import (
    Connection,
    Pool,
    Session,
    WritingSession,
    consequence,
    session_of,
)

__all__ = [
    "READ_COMMITTED",
    "Connection",
    "Cutoff",
    "Lender",
    "Pool",
    "PoolLimits",
    "Timeouts",
    "TlsMode",
    "close_pool",
    "connection",
    "create_pool",
    "quiet_driver",
    "tls_context",
]


class Lender(Protocol):
    """What lends connections: a pool, or a part of one."""

    def acquire(self, *, timeout: float) -> AbstractAsyncContextManager[Connection]:
        """Lend one for a block. Raises `TimeoutError` if none was free within `timeout` seconds."""
        ...


TlsMode = Literal["disable", "require", "verify-ca", "verify-full"]

ACQUIRE_TIMEOUT_S: Final = 10.0

READ_COMMITTED: Final = "read committed"
"""Independent of the default of database and login: after waiting for a lock, later commits must be visible."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of a session. The server's come first; `command_s` is the client's, for a silent server."""

    connect_s: float = 10.0
    statement_ms: int = 30_000
    lock_ms: int = 5_000
    idle_in_transaction_ms: int = 10_000
    command_s: float = 35.0

    def settings(self) -> dict[str, str]:
        """Return the server's part as session settings."""
        return {
            "statement_timeout": str(self.statement_ms),
            "lock_timeout": str(self.lock_ms),
            "idle_in_transaction_session_timeout": str(self.idle_in_transaction_ms),
        }


def tls_context(
    mode: TlsMode, *, ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext | Literal[False]:
    """Return what `create_pool(tls=...)` takes; False means plain text, which is for loopback only.

    `ca_file`: the signer of the server's certificate, the system's if None. `cert_file`, `key_file`: the client's.

    Raises:
        UsageError: a file cannot be read or is not a certificate.
    """
    if mode == "disable":
        return False
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if cert_file is not None:
            # a function, so that a key with a password never makes OpenSSL ask at the terminal
            context.load_cert_chain(cert_file, key_file, lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"the database's TLS files cannot be used: {error}; see TIDEMILL_DATABASE_SSLMODE and .._CA_FILE"
        ) from error
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context


class Cutoff:
    """Ends every wait for the database at once, for a process that must end although no answer comes.

    Cancelling tasks is not enough: the driver would ask the server to cancel the statement, then to roll back.
    """

    def __init__(self) -> None:
        """It cuts nothing before a pool is created with it."""
        self._pools: list[Pool] = []
        self._connecting: set[asyncio.Timeout] = set()
        self.done = False

    def add(self, pool: Pool) -> None:
        """Add a pool to it."""
        self._pools.append(pool)

    def cut(self) -> None:
        """Drop all connections. Present and later calls raise `Unavailable`."""
        self.done = True
        for pool in self._pools:
            pool.terminate()
        for connecting in self._connecting:
            connecting.reschedule(asyncio.get_running_loop().time())

    async def connect(self, *where: Any, **how: Any) -> asyncpg.Connection[asyncpg.Record]:
        """Make a connection, unless it was cut."""
        now = asyncio.get_running_loop().time()
        async with asyncio.timeout_at(now if self.done else None) as connecting:
            self._connecting.add(connecting)
            try:
                made = await connect(*where, **how)
            finally:
                self._connecting.discard(connecting)
        return made


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many connections a pool may open, and what is done at both ends of their use.

    `opened`: hears of each new connection. `cleans`: what a session was left with (settings, a role, locks, listeners,
    temporary tables) is removed when it comes back, by one statement; otherwise nothing of a session may outlive its
    transaction.
    """

    max_size: int
    min_size: int = 1
    opened: Callable[[Session], None] | None = None
    cleans: bool = False


async def create_pool(
    url: str,
    *,
    application_name: str,
    size: int | PoolLimits,
    timeouts: Timeouts | None = None,
    tls: ssl.SSLContext | Literal[False] | None = None,
    cutoff: Cutoff | None = None,
    writes: bool = True,
) -> Pool:
    """Open a pool of at most `size` connections and check that those it begins with work.

    `application_name` shows up in `pg_stat_activity`: a claim ends a blocking backend by it. `tls`: None leaves it to
    `sslmode` in `url`. `cutoff`: may cut the pool off. `writes`: a read-only server is refused; of
    several hosts in `url`, a writable one is chosen.

    Raises:
        Unavailable: the server does not answer, or is read-only.
        UsageError: the address, login or database is wrong.
    """
    limits, cutoff = timeouts or Timeouts(), cutoff or Cutoff()
    sizes = PoolLimits(size) if isinstance(size, int) else size
    with translated():
        pool = await asyncpg.create_pool(
            url,
            connect=_connecting(cutoff, sizes),
            min_size=sizes.min_size,
            max_size=sizes.max_size,
            timeout=limits.connect_s,
            command_timeout=limits.command_s,
            server_settings=_session(application_name) | limits.settings(),
            reset=_clean if sizes.cleans else _nothing_to_reset,
            ssl=tls,
            connection_class=WritingSession if writes else Session,
            target_session_attrs=SessionAttribute.read_write if writes else None,
        )
    cutoff.add(pool)
    return pool


def _session(application_name: str) -> dict[str, str]:
    return {
        "application_name": application_name,
        "search_path": "public",  # Tidemill's own tables are always written tm.*; unqualified names belong to contexts
        "TimeZone": "UTC",
        "default_transaction_isolation": READ_COMMITTED,
        "jit": "off",  # JIT compilation takes longer than these short statements
        **SPELLING,
    }


def _connecting(cutoff: Cutoff, sizes: PoolLimits) -> Any:
    async def connect_and_tell(*where: Any, **how: Any) -> asyncpg.Connection[asyncpg.Record]:
        session = await cutoff.connect(*where, **how)
        if sizes.opened is not None:
            sizes.opened(cast("Session", session))
        return session

    return connect_and_tell


_CLEAN: Final = (
    "set session authorization default; reset all; close all; unlisten *; "
    "select pg_advisory_unlock_all(); discard temp; discard sequences"
)
"""DISCARD ALL without `deallocate all`, which would take the driver's prepared statements away under it."""


async def _clean(returned: asyncpg.Connection[asyncpg.Record]) -> None:
    """Leave nothing of what a session was used for; the pool has rolled back an open transaction before."""
    await returned.execute(_CLEAN)
    cast("Session", returned).settled = ""


async def _nothing_to_reset(returned: asyncpg.Connection[asyncpg.Record]) -> None:
    """Do without asyncpg's reset query; the pool has rolled back an open transaction before it calls this."""


@asynccontextmanager
async def connection(pool: Lender, *, timeout_s: float = ACQUIRE_TIMEOUT_S) -> AsyncIterator[Connection]:
    """Borrow a connection; a driver's exception inside the block becomes one of the domain's.

    Raises:
        Unavailable: no connection was free or could be made within `timeout_s`; or it became read-only.
    """
    try:
        async with pool.acquire(timeout=timeout_s) as borrowed:
            session = session_of(borrowed)
            try:
                session.demand_use()
                yield borrowed
            except Exception as error:
                raised = await consequence(borrowed, session, error)
                if raised is error:
                    raise
                raise raised from error
            session.prove()
    except DRIVER_ERRORS as error:
        raise translate(error) from error


async def close_pool(pool: Pool, *, timeout_s: float = 5.0) -> None:
    """Close a pool within a deadline; connections that do not end by then are cut."""
    try:
        async with asyncio.timeout(timeout_s):
            await pool.close()
    except TimeoutError:
        pool.terminate()


def quiet_driver() -> None:
    """Stop the driver from logging, with a traceback each time, that it cannot connect in the background.

    Failed calls are logged elsewhere, and the database's probe reports outages.
    """
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
