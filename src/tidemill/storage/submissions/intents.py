"""Commands that were journalled and may not be consumed yet: `submissions.ports.IntentReader`."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("submissions.sql"))


class IntentDatabase:
    """Reads the intents of commands."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def is_intended(self, identity: str, principal: str | None) -> bool:
        async with connection(self._pool) as borrowed:
            return bool(await borrowed.fetchval(_SQL["intended"], UUID(identity), principal))
