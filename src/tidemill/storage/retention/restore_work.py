"""The transaction that restores a range: `admin.archive.ports.RestoreStore` and `RestoreWork`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

from tidemill.domain.archive.slices import CopyPart, LakeColumn
from tidemill.domain.lane import Claim
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.unit_of_work import BatchTransaction
from tidemill.storage.database.pool import Connection, Pool, connection
from tidemill.storage.retention import measurement
from tidemill.storage.retention.archive import SliceRows
from tidemill.storage.retention.restore import restore_batches


class RestoreTransaction(SliceRows):
    """The registry and the rows, with a table that takes restored rows."""

    def __init__(self, borrowed: Connection, *, work: BatchTransaction) -> None:
        """`work`: what batches write in, on `borrowed`, so that the lane can be held as they hold it."""
        super().__init__(borrowed)
        self._work = work

    async def copy_in(
        self, table: str, columns: Sequence[LakeColumn], parts: Iterator[CopyPart], *, read_timeout_s: float
    ) -> None:
        await restore_batches(self._borrowed, table, columns, parts, read_timeout_s=read_timeout_s)

    async def lock(self, claim: Claim) -> datetime:
        return (await self._work.lock([claim])).now


class RestoreDatabase:
    """The database for a restore."""

    def __init__(self, pool: Pool) -> None:
        """`pool`: of a login that may write to the table and to the registry."""
        self._pool = pool

    async def column_types(self, table: str) -> Mapping[str, str]:
        async with connection(self._pool) as borrowed, borrowed.transaction():
            return await measurement.column_types(borrowed, table)

    @asynccontextmanager
    async def work(self) -> AsyncIterator[RestoreTransaction]:
        async with CommandDatabase(self._pool).unit_of_work() as work:
            yield work.join(partial(RestoreTransaction, work=work))
