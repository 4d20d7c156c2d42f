"""The processes that serve: their own reports, and their connections in the database.

`admin.ports.ProcessReader`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tidemill import __version__
from tidemill.admin.rows import ProcessState
from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("processes.sql"))


class ProcessDatabase:
    """The rows of processes. Every call may raise what `pool.connection` raises."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def note(
        self, process: str, names: Collection[str], open_files: int, file_limit: int | None
    ) -> None:
        """Report a process, which connects under `names`; rows that were not renewed for long are deleted."""
        async with connection(self._pool) as borrowed:
            await borrowed.execute(
                _SQL["note_process"], process, sorted(names), __version__, open_files, file_limit
            )

    async def forget(self, process: str) -> None:
        """Delete the row of a process that ends."""
        async with connection(self._pool) as borrowed:
            await borrowed.execute(_SQL["forget_process"], process)

    async def processes(self) -> list[ProcessState]:
        async with connection(self._pool) as borrowed:
            return [ProcessState._make(row) for row in await borrowed.fetch(_SQL["processes"])]
