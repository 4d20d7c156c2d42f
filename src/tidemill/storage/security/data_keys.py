"""The data keys inside a batch's transaction: `security.ports.DataKeyStore`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import MasterKeyMissing, TransientError
from tidemill.security.data_keys import SecretKeyRow
from tidemill.security.master_keys import MasterKey
from tidemill.storage.database.pool import Connection
from tidemill.storage.database.statements import load_statements

STATEMENTS: Final = load_statements(Path(__file__).with_name("secrets.sql"))


class DataKeyTransaction:
    """The data keys, on the connection of a batch."""

    def __init__(self, borrowed: Connection) -> None:
        self._borrowed = borrowed

    async def load(self, collection: str, keys: Sequence[str]) -> list[SecretKeyRow]:
        rows = await self._borrowed.fetch(STATEMENTS["load_keys"], collection, keys)
        return [SecretKeyRow(*row) for row in rows]

    async def add(self, master: MasterKey, rows: Sequence[SecretKeyRow]) -> None:
        await hold_master(self._borrowed, master)
        try:
            await self._borrowed.copy_records_to_table(
                "secret_key", records=rows, columns=SecretKeyRow._fields, schema_name="tm"
            )
        except asyncpg.UniqueViolationError as taken:
            raise TransientError(f"another batch made {taken.detail or 'a key of the same row'}") from taken


async def hold_master(borrowed: Connection, master: MasterKey) -> None:
    """Register a master key unless it is, and keep its name until the transaction ends.

    Raises:
        MasterKeyMissing: another key was registered under this name.
    """
    check_value = await borrowed.fetchval(STATEMENTS["hold_master"], master.name)
    if check_value is None:
        await borrowed.execute(STATEMENTS["register_master"], master.name, master.check_value())
        check_value = await borrowed.fetchval(STATEMENTS["hold_master"], master.name)
    if check_value is None:
        raise TransientError(f"master key {master.name} was removed at this moment")
    if not master.fits(check_value):
        raise MasterKeyMissing(
            f"master key {master.name} is another key than the one that had this name before",
            code=ErrorCode.SECRET_KEY_WRONG,
            masters=(master.name,),
        )
