"""The form of the outbox on TimescaleDB: `admin.generations.FormStore`."""

from __future__ import annotations

from pathlib import Path

from tidemill.admin.generations import OutboxForm
from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("operations.sql"))


class OutboxFormDatabase:
    """The row of the open generation."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def form(self) -> OutboxForm:
        async with connection(self._pool) as borrowed:
            (row,) = await borrowed.fetch(_SQL["outbox_form"])
        return OutboxForm._make(row)

    async def use(self, *, packs: bool) -> None:
        async with connection(self._pool) as borrowed:
            await borrowed.execute(_SQL["use_packs"], packs)
