"""The events that retention announces: a request for copies, and its result. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid5

from tidemill.domain.archive.digest import DIGEST_VERSION
from tidemill.domain.archive.messages import ArchivalChunk, ArchivalColumn, ArchivalEvent, ArchivalStatus
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import LakeColumn, schema_fingerprint
from tidemill.retention.slices import Slice

_REQUESTS: Final = UUID("8d5f7f5e-6c39-5d2a-9d4b-0f4f0a3f6f52")
OWN_DIGITS: Final = 8
"""How many digits of a request's id identify the registry."""


def request_id(registry: str, slices: Sequence[Slice]) -> str:
    """Return the id of a registry's request for these slices under their present seals: the same ones give the same id.

    All requests of a registry have the same prefix, which names its copies; other registries have others.
    """
    named = json.dumps(
        [
            (each.id.table, _exact(each.id.start), _exact(each.id.end), each.id.generation, each.seal)
            for each in slices
        ]
    )
    own = uuid5(_REQUESTS, registry)
    return str(UUID(own.hex[:OWN_DIGITS] + uuid5(own, named).hex[OWN_DIGITS:]))


def _exact(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def _superseded(slices: Sequence[Slice], event_id: str) -> tuple[str, ...]:
    """Return the requests whose copies the new one replaces: those of this registry.

    A clone's slices have the requests of its original, whose only copies these may be.
    """
    own = event_id[:OWN_DIGITS]
    earlier = dict.fromkeys(event for each in slices for event in each.superseded)
    return tuple(event for event in earlier if event[:OWN_DIGITS] == own)


def order_id(event: ArchivalEvent) -> str:
    """Return the id under which an event is announced: each is announced once."""
    chunks = ",".join(f"{each.chunk_name}#{each.generation}" for each in event.chunks)
    return str(uuid5(_REQUESTS, f"{event.event_id}/{event.attempt}/{event.status}/{chunks}"))


def request(
    slices: Sequence[Slice], policy: Retention, at: datetime, read_sql: Callable[[Slice], str]
) -> ArchivalEvent:
    """Return the request for copies of slices that share one."""
    first = slices[0]
    return ArchivalEvent(
        event_id=first.event_id or "",
        table_name=first.id.table,
        chunks=tuple(_chunk(each, read_sql(each)) for each in slices),
        status=ArchivalStatus.PENDING,
        created_at=at,
        attempt=max(each.attempt for each in slices),
        time_column=policy.time_column,
        columns=tuple(_column(column) for column in first.columns),
        schema_fingerprint=schema_fingerprint(first.columns),
        digest_version=DIGEST_VERSION,
        required_verification="digest",
        supersedes=_superseded(slices, first.event_id or ""),
        max_bytes_per_second=policy.bytes_per_s,
        deadline_at=min((each.deadline for each in slices if each.deadline is not None), default=None),
    )


def settled(
    event_id: str, slices: Sequence[Slice], status: ArchivalStatus, at: datetime, why: str | None
) -> ArchivalEvent:
    """Return the event that all slices of a request were dropped (`completed`), or that it was given up (`failed`)."""
    return ArchivalEvent(
        event_id=event_id,
        table_name=slices[0].id.table,
        chunks=tuple(_chunk(each, None) for each in slices),
        status=status,
        created_at=at,
        error_message=why,
        attempt=max((each.attempt for each in slices if each.event_id == event_id), default=1),
    )


def _column(column: LakeColumn) -> ArchivalColumn:
    return ArchivalColumn(
        name=column.name,
        pg_type=column.pg_type,
        lake_type=column.type,
        nullable=column.nullable,
        by_text=column.by_text,
        precision=column.precision,
        scale=column.scale,
    )


def _chunk(archive_slice: Slice, read_sql: str | None) -> ArchivalChunk:
    sealed = archive_slice.sealed
    return ArchivalChunk(
        chunk_name=archive_slice.chunk,
        table_name=archive_slice.id.table,
        range_start=archive_slice.id.start,
        range_end=archive_slice.id.end,
        compressed=archive_slice.compressed,
        size_bytes=archive_slice.size_bytes,
        generation=archive_slice.id.generation,
        row_count=sealed.row_count if sealed else None,
        digest=sealed.digest if sealed else None,
        min_time=sealed.min_time if sealed else None,
        max_time=sealed.max_time if sealed else None,
        read_sql=read_sql,
        sealed_at=archive_slice.sealed_at,
    )
