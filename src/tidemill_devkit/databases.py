"""Databases of a server: make one, drop it, list some. For demonstrations: a deployment has its database already."""

from __future__ import annotations

from typing import NamedTuple

import asyncpg

from tidemill.storage.database.pool import Pool, connection


async def create_database(pool: Pool, name: str) -> bool:
    """Make an empty database; return False if there is one of that name.

    Raises:
        UsageError: the login may not make databases.
    """
    async with connection(pool) as borrowed:
        try:
            await borrowed.execute(f"create database {_quoted(name)} template template0")
        except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
            return False  # it exists already, or was created by another process at this moment
        return True


class DatabaseNote(NamedTuple):
    """Facts of a database, without connecting to it. `used`: a session of a given name is connected to it."""

    comment: str | None
    used: bool


async def note_of_database(pool: Pool, name: str, application_name: str) -> DatabaseNote | None:
    """Return the facts of a database, None if it does not exist."""
    async with connection(pool) as borrowed:
        row = await borrowed.fetchrow(
            "select shobj_description(oid, 'pg_database'), exists (select from pg_stat_activity a "
            "where a.datid = d.oid and a.application_name = $2) from pg_database d where datname = $1",
            name,
            application_name,
        )
    return None if row is None else DatabaseNote(row[0], row[1])


async def comment_on_database(pool: Pool, name: str, comment: str) -> None:
    """Set the comment of a database."""
    async with connection(pool) as borrowed:
        quoted = comment.replace("'", "''")
        await borrowed.execute(f"comment on database {_quoted(name)} is '{quoted}'")


async def drop_database(pool: Pool, name: str) -> None:
    """Drop a database with all that it holds; its sessions are ended."""
    async with connection(pool) as borrowed:
        await borrowed.execute(f"drop database if exists {_quoted(name)} with (force)")


async def databases_beginning(pool: Pool, prefix: str) -> list[str]:
    """Return the names of the server's databases that begin with `prefix`."""
    async with connection(pool) as borrowed:
        rows = await borrowed.fetch(
            "select datname from pg_database where starts_with(datname, $1) order by datname", prefix
        )
    return [row["datname"] for row in rows]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
