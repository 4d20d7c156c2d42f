"""Databases of a server: make one, drop it, list some. For demonstrations: a deployment has its database already."""

from __future__ import annotations

import asyncpg

from tidemill.storage.pool import Pool, connection


async def create_database(pool: Pool, name: str) -> bool:
    """Make an empty database; return False if there is one of that name.

    Raises:
        UsageError: the login may not make databases.
    """
    async with connection(pool) as borrowed:
        try:
            await borrowed.execute(f"create database {_quoted(name)} template template0")
        except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
            return False  # there already, or made by somebody else at this very moment
        return True


async def drop_database(pool: Pool, name: str) -> None:
    """Drop a database with all that it holds; whoever is connected to it is cut off."""
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
