"""The archive's messages and its stream, for tests of codecs, topics and archivers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.engine.streams import messages_of
from tidemill.domain.archive.messages import (
    ArchivalChunk,
    ArchivalColumn,
    ArchivalConfirmation,
    ArchivalEvent,
    ArchivalFile,
    ArchivalResult,
    ArchivalStatus,
    archival_topics,
)
from tidemill.domain.context import CommandSpec
from tidemill.domain.stream import Stream
from tidemill.transport.avro.archival import CONFIRMATION, EVENT

TOPICS = archival_topics()
MESSAGES = messages_of("archival")
STREAM = Stream(
    aggregate="archival",
    partitions=1,
    topics=TOPICS,
    commands={CONFIRMATION: CommandSpec(ArchivalConfirmation)},
    events={EVENT: ArchivalEvent},
    key=lambda confirmation: confirmation.event_id,
    keyed=False,
)

TABLE = "public.readings"
START = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def chunk(number: int = 1, **fields: Any) -> ArchivalChunk:
    """The chunk of day number `number`."""
    start = START + (number - 1) * DAY
    plain: dict[str, Any] = {
        "chunk_name": f"_timescaledb_internal._hyper_1_{number}_chunk",
        "table_name": TABLE,
        "range_start": start,
        "range_end": start + DAY,
        "compressed": False,
        "size_bytes": 8192,
        "row_count": 2,
        "digest": f"v1:{number:016x}:{number:016x}",
        "min_time": start,
        "max_time": start + timedelta(hours=1),
        "read_sql": f"select {number}",
    }
    return ArchivalChunk(**plain | fields)


def request(*chunks: ArchivalChunk, **fields: Any) -> ArchivalEvent:
    """A request for some chunks, by default one."""
    plain: dict[str, Any] = {
        "event_id": "0190a8f0-0000-7000-8000-000000000001",
        "table_name": TABLE,
        "chunks": chunks or (chunk(),),
        "status": ArchivalStatus.PENDING,
        "created_at": START + 30 * DAY,
        "time_column": "time",
        "columns": (
            ArchivalColumn(name="time", pg_type="timestamptz", lake_type="instant", nullable=False),
            ArchivalColumn(
                name="price",
                pg_type="numeric(18,4)",
                lake_type="decimal",
                nullable=True,
                precision=18,
                scale=4,
            ),
        ),
        "digest_version": "v1",
    }
    return ArchivalEvent(**plain | fields)


def confirmation(**fields: Any) -> ArchivalConfirmation:
    """A confirmation with all fields, of the first request's first chunk."""
    first = chunk()
    plain: dict[str, Any] = {
        "event_id": request().event_id,
        "status": ArchivalStatus.COMPLETED,
        "completed_at": START + 30 * DAY,
        "lakehouse_path": "file:///lake",
        "chunks": (
            ArchivalResult(
                chunk_name=first.chunk_name,
                status=ArchivalStatus.COMPLETED,
                row_count=2,
                digest=first.digest,
                min_time=first.min_time,
                max_time=first.max_time,
                files=(ArchivalFile(path="a.parquet", size_bytes=1, row_count=2, sha256="00" * 32),),
            ),
        ),
        "archiver_id": "archiver-1",
        "attempt": 1,
        "replayed": False,
        "lake_format": "parquet",
    }
    return ArchivalConfirmation(**plain | fields)
