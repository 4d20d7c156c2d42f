"""The other side of an archiver on real parts: chunks measured as retention does, requests announced, answers read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.support.archive.archival import MESSAGES, STREAM
from tests.support.engine.kafka import KafkaWorld
from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.archive.messages import (
    ArchivalChunk,
    ArchivalColumn,
    ArchivalConfirmation,
    ArchivalEvent,
    ArchivalStatus,
    archival_topics,
)
from tidemill.domain.archive.slices import LakeColumn
from tidemill.domain.errors import Unreadable
from tidemill.runtime.clock import SystemClock
from tidemill.storage.database.pool import Connection
from tidemill.storage.retention import digest_sql, measurement
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.kafka import KafkaConnection
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord

_CHUNKS = """
select chunk_schema, chunk_name, range_start, range_end from timescaledb_information.chunks
where format('%s.%s', hypertable_schema, hypertable_name) = $1 order by range_start
"""


@dataclass
class RetentionSide:
    """Announces requests and reads what is answered."""

    world: KafkaWorld
    codec: StreamCodec

    async def announce(self, *events: ArchivalEvent | bytes) -> None:
        values = [event if isinstance(event, bytes) else self.codec.encode_event(event) for event in events]
        records = [OutboundRecord(b"archival", value, ()) for value in values]
        await self.world.write(self.world.topics.events, 0, *records)

    async def answers(self, *statuses: ArchivalStatus) -> list[ArchivalConfirmation]:
        """Return the confirmations there are now, those of a status if one is given."""
        values = [record.value for record in await self.world.visible(self.world.topics.commands, 0)]
        await self.codec.prepare(values)
        decoded = self.codec.decode(values)
        assert not [each for each in decoded if isinstance(each, Unreadable)]
        every = [
            ArchivalConfirmation.model_validate(each.fields)
            for each in decoded
            if not isinstance(each, Unreadable)
        ]
        return [each for each in every if not statuses or each.status in statuses]

    async def settled(self, count: int, timeout_s: float = HANGING_S) -> list[ArchivalConfirmation]:
        """Return the final answers, when there are that many."""

        async def enough() -> list[ArchivalConfirmation]:
            final = await self.answers(ArchivalStatus.COMPLETED, ArchivalStatus.FAILED)
            return final if len(final) >= count else []

        return await eventually(enough, timeout_s, f"{count} answers")


@asynccontextmanager
async def retention_side_at(
    bootstrap: str, prefix: str, registry: Any = None
) -> AsyncIterator[RetentionSide]:
    """Make the archive's topics, and delete them at the end."""
    world = KafkaWorld(KafkaConnection(bootstrap=bootstrap), "archival", 1)
    world.topics = archival_topics(prefix=prefix)
    await world.open()
    stream = replace(STREAM, topics=world.topics)
    codec = await StreamCodec.open(stream, MESSAGES, clock=SystemClock(), registry=registry)
    yield RetentionSide(world, codec)
    await world.close()


async def request_for(
    session: Connection,
    table: str,
    time_column: str,
    event_id: str,
    *,
    chunks: slice = slice(None),
    **fields: Any,
) -> ArchivalEvent:
    """Return a request for the chunks of a hypertable, each measured now."""
    async with session.transaction():
        shape = await measurement.columns_of(session, table)
        assert not shape.refused
        found = (await session.fetch(_CHUNKS, table))[chunks]
        asked = [await _chunk(session, row, table, time_column, shape.columns) for row in found]
    return ArchivalEvent(
        event_id=event_id,
        table_name=table,
        chunks=tuple(asked),
        status=ArchivalStatus.PENDING,
        created_at=SystemClock().now(),
        time_column=time_column,
        columns=tuple(columns_told(shape.columns)),
        digest_version="v1",
        **fields,
    )


def columns_told(columns: Sequence[LakeColumn]) -> list[ArchivalColumn]:
    return [
        ArchivalColumn(
            name=column.name,
            pg_type=column.pg_type,
            lake_type=column.type.value,
            nullable=column.nullable,
            by_text=column.by_text,
            precision=column.precision,
            scale=column.scale,
        )
        for column in columns
    ]


async def _chunk(
    session: Connection, row: Any, table: str, time_column: str, columns: Sequence[LakeColumn]
) -> ArchivalChunk:
    source = f'"{row["chunk_schema"]}"."{row["chunk_name"]}"'
    measured = await measurement.measure(session, columns, time_column, source)
    return ArchivalChunk(
        chunk_name=f"{row['chunk_schema']}.{row['chunk_name']}",
        table_name=table,
        range_start=row["range_start"],
        range_end=row["range_end"],
        compressed=False,
        size_bytes=0,
        read_sql=digest_sql.read_sql(columns, source),
        **measured._asdict(),
    )
