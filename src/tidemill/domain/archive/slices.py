"""The archive's vocabulary: the slice of a hypertable that leaves, its state, and the proof of its copy. Pure.

A *range* is the time span of one chunk; its *generation* counts how often rows of that span were archived: the chunk
itself is 1, the late rows for it are 2, 3, ... A range and a generation together name one slice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class ArchiveState(StrEnum):
    """The state of a slice. The allowed transitions are one table: `retention.transitions`."""

    LIVE = "live"
    ELIGIBLE = "eligible"
    SEALED = "sealed"
    REQUESTED = "requested"
    COPYING = "copying"
    CONFIRMED = "confirmed"
    VERIFIED = "verified"
    DROPPED = "dropped"
    ABORTED = "aborted"
    QUARANTINED = "quarantined"
    HELD = "held"
    RESTORED = "restored"


class Source(StrEnum):
    """Where a slice's rows are while they are in the database."""

    CHUNK = "chunk"
    LATE = "late"


class SealMode(StrEnum):
    """What keeps external writers out of a sealed chunk until its last measurement, under a lock, before its drop."""

    FREEZE = "freeze"
    """TimescaleDB's Community edition refuses such rows."""

    LOCK = "lock"
    """Nothing does: that measurement finds such rows."""


@dataclass(frozen=True, slots=True, order=True)
class SliceId:
    """One slice: `table` is `schema.table`, the span is `start <= time < end`."""

    table: str
    start: datetime
    end: datetime
    generation: int = 1

    def __str__(self) -> str:
        """Return its text for people."""
        return f"{self.table} {_readable(self.start)} .. {_readable(self.end)} generation {self.generation}"


def _readable(instant: datetime) -> str:
    """Return an instant to the minute, or more exactly if it has seconds."""
    if instant.microsecond:
        return f"{instant:%Y-%m-%d %H:%M:%S.%f}"
    return f"{instant:%Y-%m-%d %H:%M:%S}" if instant.second else f"{instant:%Y-%m-%d %H:%M}"


class LakeType(StrEnum):
    """The types that a copy holds exactly; every other type is stored as its text, or refused."""

    BOOLEAN = "boolean"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    DECIMAL = "decimal"
    TEXT = "text"
    BYTES = "bytes"
    UUID = "uuid"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    INSTANT = "instant"


@dataclass(frozen=True, slots=True)
class LakeColumn:
    """One column of a copy, in the table's order.

    `pg_type`: as PostgreSQL writes it, modifier included (`numeric(18,4)`). `by_text`: the copy holds the value's text,
    which PostgreSQL reads back to the same value. `precision` and `scale` belong to `DECIMAL`.
    """

    name: str
    pg_type: str
    type: LakeType
    nullable: bool
    by_text: bool = False
    precision: int = 0
    scale: int = 0


def schema_fingerprint(columns: Sequence[LakeColumn]) -> str:
    """Return a short text that changes with any name, type, order or nullability of the columns."""
    said = json.dumps([asdict(column) for column in columns], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


class Measured(NamedTuple):
    """A measurement of a set of rows in any order: equal measurements prove a copy.

    `digest`: see `docs/archival.md`. The times are those of the table's time column, None if there is no row.
    """

    row_count: int
    digest: str
    min_time: datetime | None
    max_time: datetime | None


class LakeFile(NamedTuple):
    """One file of a copy. `sha256`: hexadecimal, of its bytes."""

    path: str
    size_bytes: int
    row_count: int
    sha256: str


class Refusal(NamedTuple):
    """A column that a copy cannot hold unchanged, because of its type or its values, and why."""

    column: str
    reason: str


class CopyPart(NamedTuple):
    """Some rows of a copy that are restored: `csv` is COPY's input with the copy's columns in order.

    `rows`: the few that CSV cannot carry (a NaN with a payload of its own), each a tuple in the same order: floats as
    floats, all else as text.
    """

    row_count: int
    csv: bytes
    rows: tuple[tuple[float | str | None, ...], ...] = ()


class LakePlace(NamedTuple):
    """Where a table's copies are: `format` is `parquet` or `iceberg`, `snapshot_id` a version of an Iceberg table."""

    path: str
    format: str
    snapshot_id: int | None = None
