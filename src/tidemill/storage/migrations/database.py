"""The migrations of a deployment's database: `catalog.ports.PendingMigrations`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tidemill.storage.migrations import migrate
from tidemill.storage.migrations.migrate import NotMigrated
from tidemill.storage.migrations.session import Tls

Server = Callable[[], tuple[str, Tls]]
"""Returns a URL and how to encrypt. May raise `UsageError`: they are asked for only when the server is."""


class MigrationDatabase:
    """What is applied to a database, and what is not."""

    def __init__(self, service: Server, locations: Sequence[Path]) -> None:
        """`service`: of a login that may read the history. `locations`: the folders of plug-ins."""
        self._service = service
        self._locations = locations

    async def check(self, *, writes: bool = True) -> None:
        """Return if the database has what this version needs. Raises as `migrate.check`."""
        url, tls = self._service()
        await migrate.check(url, locations=self._locations, tls=tls, writes=writes)

    async def missing(self) -> Sequence[str]:
        try:
            await self.check()
        except NotMigrated as pending:
            return pending.missing
        return ()
