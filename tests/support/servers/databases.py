"""A fresh database for every test: a clone of a template that is prepared once.

TimescaleDB's scheduler looks at every database that takes connections, and PostgreSQL clones only
what nobody looks at. Hence the template takes none once it is ready; that it takes none is also the
mark that it is complete.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

from tests.support.waiting import HANGING_S
from tidemill_devkit.stack.cache import cache_folder, locked

T = TypeVar("T")
TIMEOUT_S = HANGING_S
PING_S = 2.0
MAX_IDLE = 2
"""Of a test: its database, and the server's."""


class Sessions:
    """Connections that are kept for the next query: a test may look fifty times a second, and each costs a process.

    They live in a loop of their own, so whoever asks may be within one or not, in any thread.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: dict[str, asyncpg.Connection[Any]] = {}
        self._starting = threading.Lock()

    def run(self, url: str, work: Callable[[asyncpg.Connection[Any]], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` makes of a connection that nobody else uses meanwhile."""
        with self._starting:
            loop = self._loop or self._started()
        return asyncio.run_coroutine_threadsafe(self._work(url, work), loop).result()

    def _started(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="sessions", daemon=True).start()
        atexit.register(lambda: asyncio.run_coroutine_threadsafe(self._leave(0), loop).result(10))
        return loop

    async def _work(self, url: str, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        connection = await self._connection(url)
        try:
            found = await work(connection)
        except BaseException:
            connection.terminate()
            raise
        self._idle.setdefault(url, connection)
        if self._idle[url] is not connection:
            await connection.close()
        await self._leave(MAX_IDLE)
        return found

    async def _connection(self, url: str) -> asyncpg.Connection[Any]:
        """Take one that is kept, if it still answers: its server may have been killed, its database dropped."""
        kept = self._idle.pop(url, None)
        if kept is not None:
            try:
                await kept.execute("select 1", timeout=PING_S)
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                kept.terminate()
            else:
                return kept
        return await asyncpg.connect(url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)

    async def _leave(self, most: int) -> None:
        """Close all that are idle but the last ones."""
        while len(self._idle) > most:
            oldest = self._idle.pop(next(iter(self._idle)))
            oldest.terminate()


SESSIONS = Sessions()
"""Those of this process."""


def run_apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread of its own, whatever loop the caller is in."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def fetch(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of one query, by a connection that may have served others before."""
    return SESSIONS.run(url, lambda connection: connection.fetch(query, *arguments))


def execute(url: str, *statements: str) -> None:
    """Run statements one after the other, each in a transaction of its own."""

    async def work() -> None:
        connection = await asyncpg.connect(url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    run_apart(work)


def database_of(server_url: str, name: str) -> str:
    """The URL of the database `name` on the same server."""
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


def drop_databases(server_url: str, prefix: str) -> None:
    """Drop every database whose name begins with `prefix` (on a server that outlives the run)."""
    rows = fetch(server_url, "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", prefix)
    for row in rows:
        drop(server_url, row["datname"])


def drop(server_url: str, name: str) -> None:
    statement = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
    SESSIONS.run(server_url, lambda connection: connection.execute(statement))


def retire(server_url: str, name: str) -> None:
    """Let nobody into a database any more, and end who is in it."""

    async def work(connection: asyncpg.Connection[Any]) -> None:
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name
        )

    SESSIONS.run(server_url, work)


_FOR_MANY = (
    "ALTER SYSTEM SET autovacuum_naptime = '1d'",  # in this time each database is vacuumed once, whoever uses it
    "ALTER SYSTEM SET wal_init_zero = off",  # clones are much of what is written, and it would be written twice
    "SELECT pg_reload_conf()",
)


@dataclass
class Databases:
    """Fresh databases on one server, all clones of what `prepare(url)` made of an empty one.

    `prefix` is common to all workers of a run, `worker` tells them apart. `keep`: databases that are
    done with stay until the server ends, which has to be ours alone. Each is 500 files, and ext4 looks at every file
    that was deleted in the last minutes before it makes a new one: with drops between them, clones take six times the
    CPU time.
    """

    server_url: str
    prefix: str
    worker: str
    prepare: Callable[[str], None]
    keep: bool = False
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _is_ready: bool = False

    @property
    def template(self) -> str:
        return f"{self.prefix}template"

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of a database of one's own, which nobody can connect to afterwards."""
        self._ensure_template()
        with self._made(f'TEMPLATE "{self.template}"') as url:
            yield url

    @contextmanager
    def empty(self, how: str = "") -> Iterator[str]:
        """The URL of such a database in which nothing has happened yet; `how`: what `create database` is told."""
        with self._made(how) as url:
            yield url

    @contextmanager
    def _made(self, how: str) -> Iterator[str]:
        name = f"{self.prefix}{self.worker}_{next(self._numbers)}"
        SESSIONS.run(
            self.server_url, lambda connection: connection.execute(f'CREATE DATABASE "{name}" {how}')
        )
        try:
            yield database_of(self.server_url, name)
        finally:
            (retire if self.keep else drop)(self.server_url, name)

    def _ensure_template(self) -> None:
        if self._is_ready:
            return
        with locked(f"template-{urlsplit(self.server_url).port}-{self.prefix}", cache=cache_folder()):
            query = "SELECT datallowconn FROM pg_database WHERE datname = $1"
            found = fetch(self.server_url, query, self.template)
            if not found or found[0]["datallowconn"]:
                self._make_template()
        self._is_ready = True

    def _make_template(self) -> None:
        drop(self.server_url, self.template)
        execute(self.server_url, f'CREATE DATABASE "{self.template}"')
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self.prepare, database_of(self.server_url, self.template)).result()
        execute(
            self.server_url,
            f'ALTER DATABASE "{self.template}" ALLOW_CONNECTIONS false',
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self.template}'",
        )
        if self.keep:
            execute(self.server_url, *_FOR_MANY)
