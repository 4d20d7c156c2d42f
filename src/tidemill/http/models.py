"""The specification's models of requests and responses, with descriptions and examples for OpenAPI.

Fields are only added, as optional ones. The models about the service itself are those of `admin/service/models.py`;
commands, read models and the archive's messages are where they are used, and a test finds all of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tidemill.admin.service.models import (
    AnswerModel,
    ChunkInfo,
    ConnectionPoolStatus,
    ConnectionReport,
    ContinuousAggregateInfo,
    DatabaseConnection,
    HealthResponse,
    HypertableInfo,
    OperationSums,
    PerformanceStats,
)

__all__ = [
    "AnswerModel",
    "ChunkInfo",
    "CommandRequest",
    "CommandResponse",
    "ConnectionPoolStatus",
    "ConnectionReport",
    "ContinuousAggregateInfo",
    "DatabaseConnection",
    "HealthResponse",
    "HypertableInfo",
    "HypertableRequest",
    "HypertableResponse",
    "MigrationRequest",
    "MigrationResponse",
    "ModelDiscoveryResponse",
    "ModelInfo",
    "ModelRegistrationRequest",
    "OperationSums",
    "PerformanceStats",
    "QueryRequest",
    "QueryResponse",
    "RequestBody",
    "SchemaValidationResult",
    "TransactionContext",
    "ValidationIssue",
]

_AT = "2026-12-01T09:30:00Z"
_SERVICE = "The principal's name; it may be left out, and another name is refused."


class RequestBody(BaseModel):
    """The base of what is sent: an unknown field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _with_example(**example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


# --- requests --------------------------------------------------------------------------------------------------------


class QueryRequest(RequestBody):
    """A declared query, by name."""

    model_config = _with_example(query="analyses-by-status", parameters={"status": "completed"}, timeout=5)

    query: str = Field(description="The name of a declared query; SQL is not taken.")
    parameters: dict[str, Any] | None = Field(
        None, description="Its parameters by name, each of its own type."
    )
    service_name: str = Field("", description=_SERVICE)
    timeout: int | None = Field(None, ge=1, le=30, description="Seconds that it may take.")
    use_cache: bool = Field(default=True, description="`false`: an answer that was kept is not taken.")


class CommandRequest(RequestBody):
    """A command, by name."""

    model_config = _with_example(
        command="RecordMarketData", parameters={"symbol": "AAPL", "price": "189.30", "volume": 100}, timeout=5
    )

    command: str = Field(description="The name of a command of a context.")
    parameters: dict[str, Any] | None = Field(None, description="Its fields by name.")
    service_name: str = Field("", description=_SERVICE)
    transaction_id: str | None = Field(None, description="The transaction that it is kept for.")
    timeout: int | None = Field(None, ge=1, le=30, description="Seconds to wait for its outcome.")
    command_id: str | None = Field(
        None, description="Its identity; the same as the Idempotency-Key, if both are sent."
    )
    correlation_id: str | None = Field(None, description="What it belongs to, in the words of its sender.")


class MigrationRequest(RequestBody):
    """Revisions to apply, of one branch."""

    model_config = _with_example(service_name="quotes", target_revision="quotes_0002")

    service_name: str = Field(description="The branch: `core`, or a context.")
    target_revision: str | None = Field(None, description="Up to this one; the newest by default.")
    auto_rollback: bool = Field(default=True, description="Undo what was applied if a later step fails.")
    validation_level: str = Field(
        "strict", description="How thoroughly the result is compared with what is declared."
    )
    run_in_background: bool = Field(default=True, description="`false`: the answer waits for the end.")


class HypertableRequest(RequestBody):
    """A table that is to become a hypertable."""

    model_config = _with_example(
        table_name="public.measurements", time_column="time", chunk_interval="7 days"
    )

    table_name: str = Field(description="`schema.table`.")
    time_column: str = Field("time", description="The column to divide it by.")
    chunk_interval: str | None = Field(None, description="The span of a chunk.")
    compression_enabled: bool = Field(default=False, description="Community edition only.")
    retention_period: str | None = Field(None, description="After how long rows leave for the lake.")


class ModelRegistrationRequest(RequestBody):
    """Models that are registered at run time."""

    model_config = _with_example(
        service_name="billing", models=[{"name": "Invoice", "fields": {"number": "str"}}]
    )

    service_name: str = Field(description=_SERVICE)
    models: list[dict[str, Any]] = Field(description="The declarations.")
    auto_create_tables: bool = Field(default=False, description="Create their tables, too.")


# --- responses -------------------------------------------------------------------------------------------------------


class QueryResponse(AnswerModel):
    """The rows of a query. `data` has `rows`, `next` (null: there are no more) and `count`, if it was asked for."""

    model_config = _with_example(
        success=True,
        data={"rows": [{"symbol": "AAPL", "price": "189.30"}], "next": None},
        execution_time=0.0021,
        row_count=1,
        cache_hit=False,
        error_message=None,
    )

    success: bool = Field(description="Always true: a failure is a problem with a status of its own.")
    data: dict[str, Any] | None = Field(
        None, description="`rows`, `next`, and `count` or `incomplete` if they apply."
    )
    execution_time: float = Field(description="Seconds.")
    row_count: int = Field(description="How many rows are in `data`.")
    cache_hit: bool = Field(description="Whether a cache had the answer.")
    error_message: str | None = Field(None, description="Always null here.")


class CommandResponse(AnswerModel):
    """The outcome of a command."""

    model_config = _with_example(
        success=True,
        transaction_id=None,
        affected_rows=1,
        execution_time=0.0123,
        error_message=None,
        command_id="01938f7e-5c2a-7b3e-9f10-2d4c6e8a0b1c",
        outcome="applied",
        seen="market-data.17=4711",
    )

    success: bool = Field(description="Whether the command was applied, now or before.")
    transaction_id: str | None = Field(None, description="The transaction that it was part of.")
    affected_rows: int = Field(description="Rows that it appended or changed.")
    execution_time: float = Field(description="Seconds until the outcome was known.")
    error_message: str | None = Field(None, description="Why it was refused.")
    command_id: str | None = Field(None, description="Its identity.")
    outcome: str | None = Field(
        None, description="applied, rejected, duplicate or parked; null: not known yet."
    )
    code: str | None = Field(None, description="Why it was refused, as a code.")
    seen: str | None = Field(None, description="Its token, as in the header Tidemill-Seen.")
    document: dict[str, Any] | None = Field(None, description="The document, if it was asked for.")


class ValidationIssue(AnswerModel):
    """Something that differs from what is declared."""

    model_config = _with_example(
        severity="error",
        category="missing",
        description="column `source` is missing",
        location="public.market_data",
        suggestion="alter table public.market_data add source text",
        timestamp=_AT,
    )

    severity: str = Field(description="error or warning.")
    category: str = Field(description="missing, differs or extra.")
    description: str = Field(description="What differs.")
    location: str = Field(description="The table or view.")
    suggestion: str | None = Field(None, description="What would correct it.")
    timestamp: datetime = Field(description="When it was found.")


class SchemaValidationResult(AnswerModel):
    """A comparison of the database with what contexts declare."""

    model_config = _with_example(is_valid=True, issues=[], validated_at=_AT, validation_level="strict")

    is_valid: bool = Field(description="Whether nothing breaks a promise.")
    issues: list[ValidationIssue] = Field(description="All that differs.")
    validated_at: datetime = Field(description="When it was compared.")
    validation_level: str = Field(description="How thoroughly.")


class MigrationResponse(AnswerModel):
    """How far a migration has come."""

    model_config = _with_example(
        success=True, service_name="quotes", phases_completed=["checked", "applied"], hypertables_created=[],
        validation_issues=[], rollback_performed=False, execution_time=1.5,
    )  # fmt: skip

    success: bool = Field(description="Whether it has come to its end.")
    service_name: str = Field(description="The branch.")
    phases_completed: list[str] = Field(default=[], description="What is done, in order.")
    hypertables_created: list[str] = Field(default=[], description="As `schema.table`.")
    validation_issues: list[dict[str, Any]] = Field(default=[], description="As `ValidationIssue`.")
    error_message: str | None = Field(None, description="Why it failed.")
    rollback_performed: bool = Field(default=False, description="Whether what was applied was undone.")
    execution_time: float | None = Field(None, description="Seconds.")
    message: str | None = Field(None, description="What happens next.")


class HypertableResponse(AnswerModel):
    """What was done about a hypertable."""

    model_config = _with_example(success=True, table_name="public.measurements", hypertable_created=True)

    success: bool = Field(description="Whether it is as it was asked for.")
    table_name: str = Field(description="`schema.table`.")
    hypertable_created: bool = Field(description="Whether it was made now.")
    chunk_interval: str | None = Field(None, description="The span of a chunk.")
    compression_policy: dict[str, Any] | None = Field(None, description="The policy, if there is one.")
    retention_policy: dict[str, Any] | None = Field(None, description="The policy, if there is one.")
    error_message: str | None = Field(None, description="Why it failed.")


class ModelInfo(AnswerModel):
    """A model that a service has registered."""

    model_config = _with_example(
        name="Invoice", table_name="public.invoices", fields={"number": "str"}, relationships=[],
        is_hypertable=False, time_column=None, source_file="billing/models.py",
    )  # fmt: skip

    name: str = Field(description="Its name.")
    table_name: str = Field(description="`schema.table`.")
    fields: dict[str, str] = Field(description="Field -> type.")
    relationships: list[str] = Field(default=[], description="What it refers to.")
    is_hypertable: bool = Field(default=False, description="Whether its table is divided by time.")
    time_column: str | None = Field(None, description="The column by which it is divided.")
    source_file: str = Field(description="Where it was declared.")


class ModelDiscoveryResponse(AnswerModel):
    """The models of a service."""

    model_config = _with_example(service_name="billing", models=[], discovery_time=_AT)

    service_name: str = Field(description="Whose they are.")
    models: list[ModelInfo] = Field(description="All of them.")
    discovery_time: datetime = Field(description="When they were looked for.")


class TransactionContext(AnswerModel):
    """A transaction whose commands are kept until it is committed."""

    model_config = _with_example(
        transaction_id="01938f7e-5c2a-7b3e-9f10-2d4c6e8a0b1c", service_name="billing", started_at=_AT,
        commands_executed=2, is_active=True, state="open",
    )  # fmt: skip

    transaction_id: str = Field(description="Its identity: the `command_id` of its record.")
    service_name: str = Field(description="Who began it.")
    started_at: datetime = Field(description="When it was begun.")
    commands_executed: int = Field(description="How many commands are kept for it.")
    is_active: bool = Field(description="Whether it may still be committed.")
    state: Literal["open", "committed", "rolled-back", "expired"] | None = Field(
        None, description="In one word."
    )
