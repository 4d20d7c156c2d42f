"""The plan of a request, in the terms of the lake; or why it cannot be executed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tidemill.domain.archive.messages import MAX_CHUNKS, ArchivalChunk, ArchivalColumn, ArchivalEvent
from tidemill.domain.archive.slices import LakeColumn, LakeType, Measured, SliceId

DIGEST_VERSION: Final = "v1"

_NAME = r"[^/\\\x00-\x1f\x7f.]+"
_TABLE = re.compile(rf"{_NAME}\.{_NAME}")
_EVENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class CopyRefused(Exception):
    """A request, or one of its chunks, that no attempt can copy. `code` is for programs."""

    def __init__(self, code: str, reason: str) -> None:
        """`reason` is for people."""
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk to copy."""

    chunk: ArchivalChunk
    slice: SliceId
    read_sql: str


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """A request to execute. `refused`: chunks that cannot be copied, each with its reason."""

    event: ArchivalEvent
    columns: tuple[LakeColumn, ...]
    time_column: str
    tasks: tuple[Task, ...]
    refused: tuple[tuple[ArchivalChunk, CopyRefused], ...]


def plan(event: ArchivalEvent) -> CopyPlan:
    """Return the plan of a request. Raises `CopyRefused` if nothing of it can be."""
    _demand_names(event)
    if len(event.chunks) > MAX_CHUNKS:
        raise CopyRefused("TOO_MANY_CHUNKS", f"{len(event.chunks)} chunks, at most {MAX_CHUNKS} are taken")
    if event.digest_version not in (None, DIGEST_VERSION):
        raise CopyRefused(
            "UNKNOWN_DIGEST", f"digests of {event.digest_version}; this archiver knows {DIGEST_VERSION}"
        )
    columns = tuple(_column(column) for column in event.columns)
    if event.time_column is None or event.time_column not in {column.name for column in columns}:
        raise CopyRefused("NO_COLUMNS", "the request does not name its columns, and its time column")
    tasks: dict[SliceId, Task] = {}
    refused: list[tuple[ArchivalChunk, CopyRefused]] = []
    for chunk in event.chunks:
        wanted = SliceId(event.table_name, chunk.range_start, chunk.range_end, chunk.generation)
        if chunk.read_sql is None:
            refused.append((chunk, CopyRefused("NO_READ_SQL", "the request has no query for the chunk")))
        elif wanted in tasks:
            refused.append(
                (chunk, CopyRefused("REPEATED_SLICE", f"another chunk of the request is {wanted} too"))
            )
        else:
            tasks[wanted] = Task(chunk, wanted, chunk.read_sql)
    return CopyPlan(event, columns, event.time_column, tuple(tasks.values()), tuple(refused))


def difference(chunk: ArchivalChunk, measured: Measured) -> str | None:
    """Return how a copy differs from its request, None if it does not."""
    if chunk.row_count is not None and chunk.row_count != measured.row_count:
        return f"{measured.row_count} rows, {chunk.row_count} were to be copied"
    if chunk.digest is not None and chunk.digest != measured.digest:
        return f"the digest is {measured.digest}, that of the request {chunk.digest}"
    return None


def _demand_names(event: ArchivalEvent) -> None:
    """Names become file names: they must not lead elsewhere."""
    if not _TABLE.fullmatch(event.table_name):
        raise CopyRefused("UNKNOWN_TABLE", f"table_name {event.table_name!r} is not schema.table")
    for event_id in (event.event_id, *event.supersedes):
        if not _EVENT_ID.fullmatch(event_id):
            raise CopyRefused("BAD_EVENT_ID", f"{event_id!r}: letters, digits, dots and hyphens, at most 100")


def _column(column: ArchivalColumn) -> LakeColumn:
    try:
        kind = LakeType(column.lake_type)
    except ValueError:
        raise CopyRefused(
            "UNKNOWN_TYPE", f"column {column.name}: this archiver does not know {column.lake_type!r}"
        ) from None
    return LakeColumn(
        column.name, column.pg_type, kind, column.nullable, column.by_text, column.precision, column.scale
    )
