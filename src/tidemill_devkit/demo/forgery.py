"""The demo's lie: a confirmation with the right count and the right digest, of a copy that has other rows."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

from tidemill.app.connections import kafka_connection, libpq_url, open_registry
from tidemill.catalog.schemas import load_messages
from tidemill.domain.archive.messages import (
    ArchivalConfirmation,
    ArchivalFile,
    ArchivalResult,
    ArchivalStatus,
    archival_topics,
)
from tidemill.domain.archive.slices import LakeFile
from tidemill.retention.slices import Slice
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.resources import schemas_dir
from tidemill.transport.avro.archival import ArchivalCodec
from tidemill.transport.kafka.retention.archival import KafkaConfirmations
from tidemill_devkit.demo.place import DemoSite

FORGER: Final = "forger"


async def send_forgery(place: DemoSite, asked: Slice, time_column: str, read_sql: str) -> int:
    """Answer the request of one slice with a copy that has a row twice and lacks another; return how many rows it has.

    Raises `Unavailable`.
    """
    files = await asyncio.to_thread(_write_forgery, place, asked, time_column, read_sql)
    assert asked.event_id is not None
    assert asked.sealed is not None
    confirmation = ArchivalConfirmation(
        event_id=asked.event_id,
        status=ArchivalStatus.COMPLETED,
        completed_at=SystemClock().now(),
        lakehouse_path=_forged_root(place),
        archiver_id=FORGER,
        chunks=(
            ArchivalResult(
                chunk_name=asked.chunk,
                generation=asked.id.generation,
                status=ArchivalStatus.COMPLETED,
                row_count=asked.sealed.row_count,
                digest=asked.sealed.digest,
                min_time=asked.sealed.min_time,
                max_time=asked.sealed.max_time,
                files=tuple(ArchivalFile(**file._asdict()) for file in files),
            ),
        ),
    )
    await _send(place, confirmation)
    return sum(file.row_count for file in files)


def _write_forgery(place: DemoSite, asked: Slice, time_column: str, read_sql: str) -> tuple[LakeFile, ...]:
    from tidemill.lakehouse.parquet import LakeWriter  # noqa: PLC0415  pyarrow takes half a second
    from tidemill.storage.retention.chunk_reader import DatabaseChunks  # noqa: PLC0415  as above

    first, *others = DatabaseChunks(libpq_url(place.settings.database, "archiver")).read(read_sql)
    wrong: list[Any] = [first.slice(1), first.slice(1, 1), *others]
    writer = LakeWriter(_forged_root(place))
    return writer.write(asked.id, asked.event_id or "", asked.columns, time_column, wrong).files


def _forged_root(place: DemoSite) -> str:
    return str(place.lake / FORGER)


async def _send(place: DemoSite, confirmation: ArchivalConfirmation) -> None:
    settings, topics = place.settings, archival_topics(prefix=place.settings.topics.prefix)
    async with AsyncExitStack() as shared:
        codec = await ArchivalCodec.open(
            topics,
            load_messages(schemas_dir(), "archival"),
            clock=SystemClock(),
            registry=open_registry(shared, settings),
        )
        confirmations = KafkaConfirmations(
            kafka_connection(settings, "tidemill-demo"), codec, topic=topics.commands
        )
        shared.push_async_callback(confirmations.close)
        await confirmations.send(confirmation)
