"""The connections of one class of work: a size with an overflow, replaced by age, asked before use after a rest.

A request waits for a connection as long as its class allows; then it is refused with a code that its sender may act
on, whereas a database that does not answer is `Unavailable`, as everywhere.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import ceil
from typing import Final, Literal
from urllib.parse import urlsplit

import asyncpg

from tidemill.admin.service.models import ConnectionPoolStatus, DatabaseConnection
from tidemill.admin.service.pool_config import PoolConfig
from tidemill.domain.errors import RequestRefused, Unavailable
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.clock import Clock, SystemClock
from tidemill.storage.database.errors import DRIVER_ERRORS
from tidemill.storage.database.pool import (
    Connection,
    Cutoff,
    Pool,
    PoolLimits,
    Timeouts,
    close_pool,
    create_pool,
)
from tidemill.storage.database.sessions import (
    Session,
    SessionUse,
    give_back_quiet,
    lend_idle,
    session_of,
)

_CLOSE_S: Final = 1.0
_PING: Final = "select 1"
_PING_S: Final = 1.0
_CLEAN_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolServer:
    """Where pools connect: as `create_pool` takes it. `label`: the first words of their application names."""

    url: str
    label: str = "tidemill http"
    timeouts: Timeouts | None = None
    tls: ssl.SSLContext | Literal[False] | None = None
    cutoff: Cutoff | None = None
    writes: bool = True

    def application_name(self, work: str) -> str:
        """Return the name of the sessions of a class of work, as `pg_stat_activity` has it."""
        return f"{self.label} {work}"

    @property
    def shown_url(self) -> str:
        """Return the URL without its password and its parameters."""
        url = urlsplit(self.url)
        user, at, servers = url.netloc.rpartition("@")
        return f"{url.scheme}://{user.partition(':')[0]}{at}{servers}{url.path}"


class WorkPool:
    """A pool for one class of work; for `pool.connection`, like a pool. `open` before the first use."""

    def __init__(self, server: PoolServer, config: PoolConfig, *, clock: Clock | None = None) -> None:
        """Connect nothing."""
        self.config = config
        self._server = server
        self._clock = clock or SystemClock()
        self._pool: Pool | None = None
        self._created = 0
        self._invalid = 0
        self._lent = 0
        self._waiting = 0

    async def open(self) -> None:
        """Open the first connections. Raises what `create_pool` raises."""
        config, server = self.config, self._server
        limits = PoolLimits(
            config.size + config.overflow, config.min_size, opened=self._count_opened, cleans=config.cleans
        )
        self._pool = await create_pool(
            server.url,
            application_name=server.application_name(config.name),
            size=limits,
            timeouts=server.timeouts,
            tls=server.tls,
            cutoff=server.cutoff,
            writes=server.writes,
        )

    async def close(self, timeout_s: float = 5.0) -> None:
        """Close all connections; those that do not end in time are cut."""
        if self._pool is not None:
            await close_pool(self._pool, timeout_s=timeout_s)

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[Connection]:
        """Lend a connection for a block.

        Raises:
            RequestRefused: `OVERLOADED`: all were lent for as long as `timeout` or the class allows.
            TimeoutError: the server let none be made in that time.
        """
        borrowed = await self._lend(min(timeout, self.config.acquire_s))
        use = session_of(borrowed).use
        self._lent += 1
        try:
            yield borrowed
        finally:
            self._lent -= 1
            await self._take_back(borrowed, use)

    def status(self) -> ConnectionPoolStatus:
        """Return the state of its connections."""
        open_now = 0 if self._pool is None else self._pool.get_size()
        return ConnectionPoolStatus(
            name=self.config.name,
            size=self.config.size,
            checked_in=max(0, open_now - self._lent),
            checked_out=self._lent,
            overflow=max(0, open_now - self.config.size),
            invalid=self._invalid,
            total_created=self._created,
        )

    def configuration(self) -> DatabaseConnection:
        """Return how it connects, without any secret."""
        config = self.config
        return DatabaseConnection(
            service_name=self._server.application_name(config.name),
            database_url=self._server.shown_url,
            pool_size=config.size,
            max_overflow=config.overflow,
            pool_timeout=ceil(config.acquire_s),
            pool_recycle=ceil(config.recycle_s),
            pool_min_size=config.min_size,
            pool_pre_ping=ceil(config.ping_after_s),
        )

    def _count_opened(self, session: Session) -> None:
        self._created += 1
        now = self._clock.monotonic_s()
        session.use.opened_s = session.use.returned_s = now

    async def _lend(self, timeout_s: float) -> Connection:
        """Return a connection that may be used; one that is too old or does not answer is replaced meanwhile."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            borrowed = await self._next(deadline_s - loop.time())
            try:
                is_usable = await self._is_usable(borrowed)
            except BaseException:
                _cut(borrowed)
                raise
            if is_usable:
                return borrowed

    async def _next(self, left_s: float) -> Connection:
        pool = self._opened()
        try:
            if self._waiting == 0 and (lending := lend_idle(pool)) is not None:
                return await lending
            self._waiting += 1  # who comes later must not take what these wait for
            try:
                return await pool.acquire(timeout=max(left_s, 0.001))
            finally:
                self._waiting -= 1
        except TimeoutError:
            if self._lent < pool.get_max_size():
                raise  # not all are lent: the server lets none be made
            raise self._overloaded() from None

    async def _is_usable(self, borrowed: Connection) -> bool:
        use, now = session_of(borrowed).use, self._clock.monotonic_s()
        if now - use.opened_s >= self.config.recycle_s:
            await _end(borrowed)
            return False
        if now - use.returned_s < self.config.ping_after_s:
            return True
        try:
            await borrowed.execute(_PING, timeout=_PING_S)
        except DRIVER_ERRORS:
            self._invalid += 1
            _cut(borrowed)
            return False
        return True

    async def _take_back(self, borrowed: Connection, use: SessionUse) -> None:
        pool, now = self._opened(), self._clock.monotonic_s()
        if _was_lost(borrowed):
            self._invalid += 1
        elif self._is_beyond_its_size(pool) or now - use.opened_s >= self.config.recycle_s:
            await _end(borrowed)
        use.returned_s = now
        if not self.config.cleans and (returning := give_back_quiet(borrowed)) is not None:
            await returning
            return
        try:
            # not asyncpg's default, which is what was left of the time to get it
            await pool.release(borrowed, timeout=_CLEAN_S)
        except DRIVER_ERRORS:
            self._invalid += 1  # it could not be cleaned, and was cut; the work on it has its result

    def _is_beyond_its_size(self, pool: Pool) -> bool:
        # to count takes as long as to lend
        return self.config.overflow > 0 and pool.get_size() > self.config.size

    def _opened(self) -> Pool:
        if self._pool is None:
            raise Unavailable("database", f"the pool {self.config.name} is not open")
        return self._pool

    def _overloaded(self) -> RequestRefused:
        config = self.config
        return RequestRefused(
            RequestCode.OVERLOADED,
            f"all {config.size + config.overflow} database connections for this kind of request ({config.name}) were "
            f"in use for {config.acquire_s:g} s",
            retry_after_s=1.0,
        )


def _was_lost(borrowed: Connection) -> bool:
    try:
        return borrowed.is_closed()
    except asyncpg.InterfaceError:  # it has left the pool already
        return True


def _cut(borrowed: Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # it may have left the pool already
        borrowed.terminate()


async def _end(borrowed: Connection) -> None:
    """Close a connection; its place in the pool is free at once."""
    with suppress(*DRIVER_ERRORS):
        await borrowed.close(timeout=_CLOSE_S)


class WorkPools:
    """The pools of a process by class of work; `admin.service.ports.PoolReader`."""

    def __init__(self, pools: Mapping[str, WorkPool]) -> None:
        """They are opened by `open`."""
        self._pools = pools

    def __getitem__(self, work: str) -> WorkPool:
        """Return the pool of a class of work."""
        return self._pools[work]

    async def open(self) -> None:
        """Open all; if one cannot be, the others are closed again. Raises what `create_pool` raises."""
        try:
            for pool in self._pools.values():
                await pool.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all at once, within a deadline."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def statuses(self) -> list[ConnectionPoolStatus]:
        return [pool.status() for pool in self._pools.values()]

    def configurations(self) -> list[DatabaseConnection]:
        return [pool.configuration() for pool in self._pools.values()]
