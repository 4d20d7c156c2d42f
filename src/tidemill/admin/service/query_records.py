"""What is known of queries after they ran: the newest records, and sums of the last minute. Of values, nothing.

A record costs constant time and memory. Its pattern is the shape of the query, with parameters in place of values, and
its error is a code: so records and logs of slow queries hold nothing that was asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Final
from uuid import UUID

from tidemill.admin.service.models import OperationSums
from tidemill.admin.service.plan_samples import PlanSamples
from tidemill.admin.service.window_sums import WindowSums
from tidemill.domain.messages import QueryBase
from tidemill.domain.uuid7 import new_uuid7
from tidemill.runtime.clock import Clock
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import SLOW_QUERIES

RECORDS: Final = 10_000
SLOW_MS: Final = 500.0

_log = logger(__name__)


class QueryOperation(StrEnum):
    """What was done, in the specification's words. `FIND` is every read that is not an aggregate."""

    FIND = "find"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    AGGREGATE = "aggregate"


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """What is kept of one query: the specification's eleven fields.

    `index_used`: by the plan of a query of this shape; None if no plan of it was looked at. `error_message`: a code.
    """

    query_id: str
    timestamp: datetime
    service_name: str
    collection: str
    operation_type: QueryOperation
    execution_time_ms: float
    documents_processed: int
    index_used: bool | None
    query_pattern: str
    success: bool
    error_message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRun:
    """How a query ran. `pattern`: its shape without values. `sql`: its text with parameters, if it was asked in SQL.

    `cache_hit`: a cache had the answer. `code`: why it failed, None if it did not.
    """

    collection: str
    operation: QueryOperation
    pattern: str
    seconds: float
    rows: int = 0
    cache_hit: bool = False
    code: str | None = None
    sql: str | None = None


class QueryRecorder:
    """Records the queries of a process, and sums up its commands beside them."""

    def __init__(
        self,
        clock: Clock,
        *,
        plans: PlanSamples | None = None,
        slow_ms: float = SLOW_MS,
        records: int = RECORDS,
        new_id: Callable[[datetime], UUID] = new_uuid7,
    ) -> None:
        """`plans`: which patterns use an index. `slow_ms`: a query that takes longer is logged."""
        self._clock = clock
        self._plans = plans or PlanSamples()
        self._slow_ms = slow_ms
        self._new_id = new_id
        self._records: deque[tuple[QueryBase, QueryRun]] = deque(maxlen=records)
        self._queries = WindowSums(clock)
        self._commands = WindowSums(clock)

    def query(self, service_name: str, correlation_id: str | None = None) -> QueryBase:
        """Return the identity of a query that a principal asks now."""
        now = self._clock.now()
        return QueryBase.model_construct(
            query_id=str(self._new_id(now)),
            service_name=service_name,
            timestamp=now,
            correlation_id=correlation_id,
        )

    def note(self, query: QueryBase, run: QueryRun) -> None:
        """Record how a query ran."""
        self._records.append((query, run))
        key = (query.service_name, run.collection, run.operation.value)
        self._queries.add(
            key, run.seconds, rows=run.rows, failed=run.code is not None, cache_hit=run.cache_hit
        )
        if run.sql is not None:
            self._plans.see(run.pattern, run.sql)
        if run.seconds * 1_000 > self._slow_ms:
            self._tell_slow(query, run)

    def note_command(
        self,
        service_name: str,
        collection: str,
        operation: QueryOperation,
        seconds: float,
        *,
        rows: int,
        failed: bool,
    ) -> None:
        """Add a command, from its arrival until its outcome was known, to the sums."""
        self._commands.add((service_name, collection, operation.value), seconds, rows=rows, failed=failed)

    def recent(self, limit: int = 100) -> list[QueryRecord]:
        """Return the newest records, newest first."""
        return [self._record(query, run) for query, run in islice(reversed(self._records), limit)]

    @property
    def queries(self) -> WindowSums:
        """The sums of queries."""
        return self._queries

    @property
    def commands(self) -> WindowSums:
        """The sums of commands."""
        return self._commands

    def operations(self) -> list[OperationSums]:
        """Return the sums by service, collection and operation; the longest in total first."""
        sums = [*self._queries.by_key().items(), *self._commands.by_key().items()]
        rows = [
            OperationSums(
                service_name=service,
                collection=collection,
                operation=operation,
                count=one.count,
                failed=one.failed,
                rows=one.rows,
                execution_time=one.seconds,
                max_execution_time=one.max_seconds,
            )
            for (service, collection, operation), one in sums
        ]
        return sorted(rows, key=lambda row: -row.execution_time)

    def _record(self, query: QueryBase, run: QueryRun) -> QueryRecord:
        return QueryRecord(
            query_id=query.query_id,
            timestamp=query.timestamp,
            service_name=query.service_name,
            collection=run.collection,
            operation_type=run.operation,
            execution_time_ms=run.seconds * 1_000,
            documents_processed=run.rows,
            index_used=self._plans.index_used(run.pattern),
            query_pattern=run.pattern,
            success=run.code is None,
            error_message=run.code,
        )

    def _tell_slow(self, query: QueryBase, run: QueryRun) -> None:
        SLOW_QUERIES.labels(run.collection, run.operation.value).inc()
        _log.warning(
            Log.QUERY_SLOW,
            query_id=query.query_id,
            service=query.service_name,
            collection=run.collection,
            operation=run.operation.value,
            pattern=run.pattern,
            execution_time_ms=round(run.seconds * 1_000, 1),
            rows=run.rows,
            code=run.code,
        )
