"""The archive's messages: requests to an archiver, and its answers. The wire form is `schemas/archival`.

The specified fields come first and keep their names; all others are optional, so that an archiver that knows only the
specification works.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID, uuid5

from pydantic import AfterValidator, StringConstraints

from tidemill.domain.lane import StreamTopics
from tidemill.domain.messages import Label, Message

MAX_CHUNKS: Final = 64
"""Most chunks of one event: with all fields that is about 33 KB."""

Text = Annotated[str, AfterValidator(lambda text: text.replace("\x00", "\ufffd"))]
"""Text from another program, for people, without NUL, which PostgreSQL refuses."""

Place = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A path or URL."""

_CONFIRMATIONS: Final = UUID("4f1f6a0e-0a3c-5b7e-9d55-6c1d3b8a7e21")


class ArchivalStatus(StrEnum):
    """The state of an archival. An event asks with `pending`, and ends with `completed` (dropped) or `failed`."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class ArchivalColumn(Message):
    """A column of the rows that `read_sql` gives. `lake_type`: see `domain.archive.LakeType`."""

    name: str
    pg_type: str
    lake_type: str
    nullable: bool
    by_text: bool = False
    precision: int = 0
    scale: int = 0


class ArchivalChunk(Message):
    """A slice to be copied; the first six fields are the specification's `ChunkInfo`."""

    chunk_name: str
    table_name: str
    range_start: datetime
    range_end: datetime
    compressed: bool
    size_bytes: int
    generation: int = 1
    row_count: int | None = None
    digest: str | None = None
    min_time: datetime | None = None
    max_time: datetime | None = None
    read_sql: str | None = None
    sealed_at: datetime | None = None


class ArchivalEvent(Message):
    """Chunks of one table (at most `MAX_CHUNKS`) that are sealed and wait to be copied, or their result.

    `event_id` stays the same when the same request is sent again (`attempt` grows). `supersedes`: earlier requests
    whose copies, if there are any, this one replaces. `required_verification`: what to return of each chunk.
    """

    event_id: str
    table_name: str
    chunks: tuple[ArchivalChunk, ...]
    status: ArchivalStatus
    created_at: datetime
    error_message: str | None = None
    attempt: int = 1
    database: str | None = None
    time_column: str | None = None
    columns: tuple[ArchivalColumn, ...] = ()
    schema_fingerprint: str | None = None
    digest_version: str | None = None
    required_verification: str | None = None
    supersedes: tuple[str, ...] = ()
    max_bytes_per_second: int | None = None
    deadline_at: datetime | None = None


class ArchivalFile(Message):
    """A file of a copy; `path` below the confirmation's `lakehouse_path`, or a whole URL."""

    path: Place
    size_bytes: int
    row_count: int
    sha256: Label


class ArchivalResult(Message):
    """The result of one chunk: some may be completed while others failed."""

    chunk_name: Label
    generation: int = 1
    status: ArchivalStatus
    row_count: int | None = None
    digest: Label | None = None
    min_time: datetime | None = None
    max_time: datetime | None = None
    files: tuple[ArchivalFile, ...] = ()
    error_code: Label | None = None
    error_message: Text | None = None


class ArchivalConfirmation(Message):
    """What an archiver says about an event. None of it is trusted: a copy counts when Tidemill has read it back.

    Without `chunks` the `lakehouse_path` holds all rows of the event. `lake_format`: `parquet` (default) or `iceberg`,
    then `snapshot_id` says which version of the table at `lakehouse_path`.
    """

    event_id: Label
    status: ArchivalStatus
    completed_at: datetime
    lakehouse_path: Place | None = None
    error_message: Text | None = None
    chunks: tuple[ArchivalResult, ...] = ()
    archiver_id: Label | None = None
    attempt: int | None = None
    replayed: bool | None = None
    retryable: bool | None = None
    error_code: Label | None = None
    lake_format: Label | None = None
    snapshot_id: int | None = None

    # The interface of every command; a confirmation is identified by its whole content.

    @property
    def command_id(self) -> str:
        """Return an id derived from the content: the same message again is a duplicate."""
        return str(uuid5(_CONFIRMATIONS, hashlib.sha256(self.model_dump_json().encode()).hexdigest()))

    @property
    def service_name(self) -> str:
        """Return the sender."""
        return self.archiver_id or "archiver"

    @property
    def correlation_id(self) -> str:
        """Return the event that it answers."""
        return self.event_id


def archival_topics(*, prefix: str = "tidemill", version: int = 1) -> StreamTopics:
    """Return the names of the archive's topics: confirmations are its commands, requests its events."""
    base = f"{prefix}.archival"
    confirmations = f"{base}.confirmations.v{version}"
    return StreamTopics(
        confirmations, f"{base}.events.v{version}", f"{base}.outcomes.v{version}", f"{confirmations}.dlq"
    )
