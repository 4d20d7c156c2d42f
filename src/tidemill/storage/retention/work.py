"""Retention's transactions under the archive's lane: `retention.ports.ArchiveStore`, as a client of the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final

from tidemill.commands.decide_fold import EncodedEvent
from tidemill.commands.internal_commands import (
    InternalCommand,
    InternalCommandNumbering,
    InternalCommandWriter,
)
from tidemill.domain.archive.messages import ArchivalEvent
from tidemill.domain.lane import Claim
from tidemill.retention import requests
from tidemill.retention.stream import EVENT
from tidemill.storage.database.pool import Connection, Pool
from tidemill.storage.retention.archive import ArchiveDatabase, SliceRows

_SERVICE: Final = "tidemill.retention"

Encode = Callable[[ArchivalEvent], bytes]
"""Returns the framed value of an event."""


class ArchiveTransaction(SliceRows):
    """`retention.ports.ArchiveWork`: the registry and the rows, and events that go with the commit."""

    def __init__(
        self,
        borrowed: Connection,
        *,
        numbering: InternalCommandNumbering,
        encode: Encode | None,
        database: str,
    ) -> None:
        """`numbering`: of the transaction on `borrowed`, which holds the lane. `database`: what events call it."""
        super().__init__(borrowed)
        self._numbering = numbering
        self._encode = encode
        self._database = database

    @property
    def at(self) -> datetime:
        """Return the server's time."""
        return self._numbering.at

    def announce(self, event: ArchivalEvent) -> None:
        """Publish an event if and only if the transaction commits."""
        assert self._encode is not None, f"this transaction announces nothing: {event!r}"
        told = event.model_copy(update={"database": self._database})
        self._numbering.orders.append(
            InternalCommand(
                name=EVENT,
                command_id=requests.order_id(event),
                service=_SERVICE,
                key=event.table_name.encode(),
                events=[EncodedEvent(EVENT, self._encode(told))],
            )
        )


class RetentionDatabase(ArchiveDatabase):
    """`retention.ports.ArchiveStore`: transactions under the lane, and questions beside it."""

    def __init__(
        self,
        pool: Pool,
        writer: InternalCommandWriter,
        encode: Encode | None,
        committed: Callable[[Claim], None] = lambda _: None,
    ) -> None:
        """`encode`: None where nothing is announced. `committed`: told after each transaction that announced."""
        super().__init__(pool)
        self._writer = writer
        self._encode = encode
        self._committed = committed

    @asynccontextmanager
    async def transaction(self, claim: Claim) -> AsyncIterator[ArchiveTransaction]:
        """Open a transaction under the archive's lane. Raises `Fenced`."""
        database = await self.database_name()
        async with self._writer.transaction(claim) as numbering:
            yield numbering.work.join(
                partial(ArchiveTransaction, numbering=numbering, encode=self._encode, database=database)
            )
        if numbering.orders:
            self._committed(claim)
