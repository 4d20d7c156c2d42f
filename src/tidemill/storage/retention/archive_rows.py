"""A slice as a row of the registry, and back."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
from pydantic import TypeAdapter

from tidemill.domain.archive.slices import ArchiveState, LakeColumn, Measured, SliceId, Source
from tidemill.retention.slices import CopyLocation, Slice, Verification

_COLUMNS: Final = TypeAdapter(tuple[LakeColumn, ...])
_COPY: Final = TypeAdapter(CopyLocation)
_VERIFICATION: Final = TypeAdapter(Verification)


def row_of(archive_slice: Slice) -> tuple[Any, ...]:
    """Return a slice in the order of the statements' parameters."""
    sealed = archive_slice.sealed or (None, None, None, None)
    return (
        archive_slice.id.table,
        archive_slice.id.start,
        archive_slice.id.end,
        archive_slice.id.generation,
        archive_slice.state,
        archive_slice.is_closed,
        archive_slice.since,
        archive_slice.source,
        archive_slice.chunk,
        archive_slice.size_bytes,
        _COLUMNS.dump_json(archive_slice.columns).decode(),
        archive_slice.seal,
        archive_slice.sealed_at,
        *sealed,
        archive_slice.event_id,
        archive_slice.attempt,
        archive_slice.deadline,
        list(archive_slice.superseded),
        _COPY.dump_json(archive_slice.copy).decode() if archive_slice.copy else None,
        _VERIFICATION.dump_json(archive_slice.verified).decode() if archive_slice.verified else None,
        archive_slice.held_from,
        archive_slice.restore_until,
        archive_slice.reason,
        archive_slice.compressed,
        list(archive_slice.left_at),
    )


def slice_of(row: asyncpg.Record) -> Slice:
    """Return the slice of a row of the registry."""
    measured = Measured(row["row_count"], row["digest"], row["min_time"], row["max_time"])
    return Slice(
        id=SliceId(row["table_name"], row["range_start"], row["range_end"], row["generation"]),
        state=ArchiveState(row["state"]),
        since=row["since"],
        source=Source(row["source"]),
        chunk=row["chunk"],
        size_bytes=row["size_bytes"],
        compressed=row["compressed"],
        columns=_COLUMNS.validate_json(row["columns"]),
        seal=row["seal"],
        sealed_at=row["sealed_at"],
        sealed=measured if row["digest"] is not None else None,
        event_id=row["event_id"],
        attempt=row["attempt"],
        deadline=row["deadline"],
        copy=_COPY.validate_json(row["copy"]) if row["copy"] else None,
        verified=_VERIFICATION.validate_json(row["verified"]) if row["verified"] else None,
        held_from=ArchiveState(row["held_from"]) if row["held_from"] else None,
        restore_until=row["restore_until"],
        reason=row["reason"],
        superseded=tuple(row["superseded"]),
        left_at=tuple(row["left_at"]),
    )
