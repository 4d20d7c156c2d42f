"""What is answered about the service itself: the specification's names and fields, and optional ones of ours.

They are pydantic's, so that each describes itself in OpenAPI. `http/models.py` has those of requests and of the rest.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_AT = "2026-12-01T09:30:00Z"


class AnswerModel(BaseModel):
    """The base of what is answered: immutable; its fields come from attributes of the same names, too."""

    model_config = ConfigDict(frozen=True, from_attributes=True, extra="forbid")


def _with_example(**example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class ConnectionPoolStatus(AnswerModel):
    """The connections of one class of work in one process, at this moment."""

    model_config = _with_example(
        size=8, checked_in=7, checked_out=1, overflow=0, invalid=0, total_created=8, name="read"
    )

    size: int = Field(description="Connections that are kept open at most.")
    checked_in: int = Field(description="Open connections that wait to be lent.")
    checked_out: int = Field(description="Connections that are lent.")
    overflow: int = Field(description="Open connections beyond `size`; each is closed when it comes back.")
    invalid: int = Field(description="Connections that were found broken and replaced, since the start.")
    total_created: int = Field(description="Connections that were opened since the start.")
    name: str | None = Field(None, description="The class of work.")


class DatabaseConnection(AnswerModel):
    """How one class of work connects. The URL has no password."""

    model_config = _with_example(
        service_name="tidemill http read",
        database_url="postgresql://tidemill_http@db:5432/tidemill",
        pool_size=8,
        max_overflow=0,
        pool_timeout=1,
        pool_recycle=1800,
        pool_min_size=1,
        pool_pre_ping=30,
    )

    service_name: str = Field(description="The name of its sessions in `pg_stat_activity`.")
    database_url: str = Field(description="Scheme, user, servers and database: never a password.")
    pool_size: int = Field(description="Connections that are kept open at most.")
    max_overflow: int = Field(description="How many more may be open for as long as they are lent.")
    pool_timeout: int = Field(description="Seconds that a request waits for a free connection, rounded up.")
    pool_recycle: int = Field(description="Seconds after which a connection is replaced by a new one.")
    pool_min_size: int | None = Field(None, description="Connections that are opened at the start.")
    pool_pre_ping: int | None = Field(
        None, description="Seconds without use after which a connection is asked before it is lent."
    )


class HealthResponse(AnswerModel):
    """Whether requests can be answered: `healthy`, `degraded` (some of them cannot) or `unhealthy`."""

    model_config = _with_example(
        status="healthy",
        database_connected=True,
        timescaledb_available=True,
        connection_pool_status={"read": {"size": 8, "checked_in": 8, "checked_out": 0}},
        active_connections=3,
        timestamp=_AT,
        problems=[],
    )

    status: Literal["healthy", "degraded", "unhealthy"] = Field(description="The whole in one word.")
    database_connected: bool = Field(description="Whether the database answered in time.")
    timescaledb_available: bool = Field(description="Whether it has the extension TimescaleDB.")
    connection_pool_status: dict[str, Any] = Field(description="ConnectionPoolStatus by class of work.")
    active_connections: int = Field(
        description="Sessions of this database that run a statement, as far as the login may see; 0: unknown."
    )
    timestamp: datetime = Field(description="When it was found out: at most a second ago.")
    problems: list[str] = Field(default=[], description="What keeps it from being healthy; never a secret.")


class HypertableInfo(AnswerModel):
    """A hypertable: a table that is divided into chunks by time."""

    model_config = _with_example(
        table_name="public.market_data",
        time_column="time",
        chunk_interval="7 days",
        compression_enabled=False,
        retention_period="730 days",
        created_at=_AT,
        last_chunk_created=_AT,
        chunks=3,
    )

    table_name: str = Field(description="`schema.table`.")
    time_column: str = Field(description="The column by which it is divided.")
    chunk_interval: str = Field(description="The span of a new chunk.")
    compression_enabled: bool = Field(description="Whether chunks may be compressed; Community edition only.")
    retention_period: str | None = Field(
        None, description="After how long rows leave for the lake, if they do."
    )
    created_at: datetime = Field(
        description="When the first migration of its context was applied: TimescaleDB records no time of its own."
    )
    last_chunk_created: datetime | None = Field(None, description="When its newest chunk was made.")
    chunks: int | None = Field(
        None, description="How many chunks it has now; those in the lake are not counted."
    )


class ChunkInfo(AnswerModel):
    """A chunk of a hypertable."""

    model_config = _with_example(
        chunk_name="_timescaledb_internal._hyper_1_1_chunk",
        table_name="public.market_data",
        range_start="2026-11-26T00:00:00Z",
        range_end="2026-12-03T00:00:00Z",
        compressed=False,
        size_bytes=16384,
    )

    chunk_name: str = Field(description="`schema.table` of the chunk.")
    table_name: str = Field(description="`schema.table` of its hypertable.")
    range_start: datetime = Field(description="Its rows are not before.")
    range_end: datetime = Field(description="Its rows are before.")
    compressed: bool = Field(description="Whether its rows are compressed.")
    size_bytes: int = Field(description="With indexes and out-of-line values.")


class ContinuousAggregateInfo(AnswerModel):
    """A continuous aggregate over a collection's table; only the Community edition of TimescaleDB has them."""

    model_config = _with_example(
        view_name="public.hourly_volume",
        source_table="public.market_data",
        refresh_policy={"schedule_interval": "1:00:00"},
        materialized=True,
        created_at=_AT,
    )

    view_name: str = Field(description="`schema.view`.")
    source_table: str = Field(description="`schema.table` of the rows that it sums up.")
    refresh_policy: dict[str, Any] | None = Field(
        None, description="Schedule and offsets, if it has a policy."
    )
    materialized: bool = Field(description="Whether it answers from stored rows alone.")
    created_at: datetime = Field(
        description="When the first migration of its context was applied: TimescaleDB records no time of its own."
    )


class OperationSums(AnswerModel):
    """What one service did with one collection in one way, within the window."""

    service_name: str = Field(description="The principal, or `(others)` for those beyond the bound.")
    collection: str = Field(description="The collection, `*` where none is named.")
    operation: str = Field(description="find, insert, update, delete or aggregate.")
    count: int = Field(description="How many there were.")
    failed: int = Field(description="How many of them failed.")
    rows: int = Field(description="Rows read or changed by them.")
    execution_time: float = Field(description="Seconds of all of them.")
    max_execution_time: float = Field(description="Seconds of the longest.")


class PerformanceStats(AnswerModel):
    """What this process did in the last 60 seconds. Times are seconds."""

    model_config = _with_example(
        total_queries=120,
        total_commands=14,
        avg_query_time=0.0021,
        avg_command_time=0.0123,
        cache_hit_rate=0.0,
        active_connections=1,
        total_connections=12,
        timestamp=_AT,
        window_seconds=60,
    )

    total_queries: int = Field(description="Queries in the window.")
    total_commands: int = Field(description="Commands in the window.")
    avg_query_time: float = Field(description="Seconds a query took on average, 0 if there was none.")
    avg_command_time: float = Field(description="Seconds a command took on average, 0 if there was none.")
    cache_hit_rate: float = Field(description="Share of the queries that a cache answered, 0 to 1.")
    active_connections: int = Field(description="Connections of this process that are lent.")
    total_connections: int = Field(description="Connections of this process that are open.")
    timestamp: datetime = Field(description="The end of the window.")
    window_seconds: int = Field(default=60, description="The length of the window.")
    operations: list[OperationSums] = Field(
        default=[], description="By service, collection and operation; the longest in total first."
    )


class ConnectionReport(AnswerModel):
    """The pools of this process: how each connects, and its state."""

    connections: list[DatabaseConnection]
    pools: list[ConnectionPoolStatus]
    timestamp: datetime
