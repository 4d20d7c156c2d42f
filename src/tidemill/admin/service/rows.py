"""Rows of the database's catalogue, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple


class TablePlace(NamedTuple):
    """Schema and name of a table or view, not quoted."""

    schema: str
    name: str

    def __str__(self) -> str:
        """Return `schema.table`."""
        return f"{self.schema}.{self.name}"


class ColumnFacts(NamedTuple):
    """A column: its type in the server's words, and its default as SQL, None if it has none."""

    type: str
    default: str | None


class ConstraintFacts(NamedTuple):
    """A constraint: its definition as SQL, and all columns that it names."""

    definition: str
    columns: Sequence[str]


class IndexFacts(NamedTuple):
    """An index. `plain`: all that it is made of are columns, and it holds every row."""

    name: str
    columns: Sequence[str]
    unique: bool
    plain: bool


class HypertableFacts(NamedTuple):
    """A hypertable's first dimension, and its chunks."""

    time_column: str
    chunk_interval: str
    compression_enabled: bool
    chunks: int
    last_chunk_created: datetime | None


class ChunkRow(NamedTuple):
    """A chunk: its span of time, and its bytes with indexes and out-of-line values."""

    chunk_name: str
    range_start: datetime
    range_end: datetime
    compressed: bool
    size_bytes: int


class AggregateFacts(NamedTuple):
    """A continuous aggregate over the table."""

    view_name: str
    materialized: bool
    refresh_policy: Mapping[str, Any] | None


class TableFacts(NamedTuple):
    """All that the catalogue says of a table. `first_applied`: branch -> when its first revision was applied."""

    database: str
    columns: Mapping[str, ColumnFacts]
    constraints: Sequence[ConstraintFacts]
    indexes: Sequence[IndexFacts]
    hypertable: HypertableFacts | None
    chunks: Sequence[ChunkRow]
    aggregates: Sequence[AggregateFacts]
    first_applied: Mapping[str, datetime]


class TableSize(NamedTuple):
    """The size of a table. `rows`: by the statistics, None if it was never analysed, and of a view."""

    rows: int | None
    bytes: int
    chunks: int


class ServerFacts(NamedTuple):
    """What the database says of itself. `timescaledb`: its version, None without it. `active`: running statements."""

    database: str
    timescaledb: str | None
    active: int
