"""Holding a batch in the middle of its transaction, so that a failure meets it at a moment that is certain."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from tests.support.servers.databases import TIMEOUT_S, execute, fetch
from tests.support.waiting import eventually_blocking

_LOCK = 4711

_TRIGGER = f"""
create or replace function public.hold() returns trigger language plpgsql as
$$ begin perform pg_advisory_xact_lock_shared({_LOCK}); return null; end $$;
create or replace trigger hold before insert on {{table}} for each statement execute function public.hold();
"""

_WAITING = f"""
select distinct pid, application_name, query from pg_stat_activity join pg_locks using (pid)
where datname = current_database() and locktype = 'advisory' and objid = {_LOCK} and not granted
"""


OUTBOX = ("tm.pack", "tm.outbox")
"""What a batch sends goes into one of them, or both: few records of a lane stay rows."""


class HeldCopies:
    """Every COPY into the outbox waits, from now on until `release`: a trigger asks for a lock that we have."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop: asyncio.AbstractEventLoop | None = asyncio.new_event_loop()
        self._holder = self._loop.run_until_complete(_with_lock(url))
        execute(url, *(_TRIGGER.format(table=table) for table in OUTBOX))

    def waiting(self) -> list[Any]:
        """Return `pid`, `application_name` and `query` of the backends that wait."""
        return fetch(self._url, _WAITING)

    def caught(self) -> Any:
        """Wait until a backend is held, and return it."""
        return eventually_blocking(self.waiting, what="a batch that is held")[0]

    def release(self) -> None:
        """Let everybody go on, now and later."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.run_until_complete(self._holder.close(timeout=TIMEOUT_S))
            loop.close()


async def _with_lock(url: str) -> Any:
    connection = await asyncpg.connect(url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
    await connection.execute(f"select pg_advisory_lock({_LOCK})")
    return connection
