"""A database that is set back to an earlier time, as from a backup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.support.servers.databases import database_of, drop, execute


class Backup:
    """A copy of the database at `url`, taken while nobody works in it."""

    def __init__(self, url: str) -> None:
        self._server = database_of(url, "postgres")
        self._name = urlsplit(url).path.strip("/")
        self.name = f"{self._name}_backup"
        _copy(self._server, self._name, self.name)

    def restore(self) -> None:
        """Put the copy in the database's place; whatever was written since is gone."""
        drop(self._server, self._name)
        _copy(self._server, self.name, self._name)

    def drop(self) -> None:
        """Remove the copy."""
        drop(self._server, self.name)


@contextmanager
def backup(url: str) -> Iterator[Backup]:
    """A copy of the database at `url`, as it is when the block begins."""
    made = Backup(url)
    try:
        yield made
    finally:
        made.drop()


def _copy(server: str, origin: str, name: str) -> None:
    """TimescaleDB's scheduler looks at every database that takes connections; one that is looked at is not copied."""
    execute(
        server,
        f'ALTER DATABASE "{origin}" ALLOW_CONNECTIONS false',
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{origin}'",
        f'CREATE DATABASE "{name}" TEMPLATE "{origin}"',
        f'ALTER DATABASE "{origin}" ALLOW_CONNECTIONS true',
        f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true',
    )
