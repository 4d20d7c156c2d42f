"""Every metric of a process, in one list.

They are Prometheus's: base units, few labels, never an id, key, lane or offset as a label (except that of a schema that
lanes wait for: each is removed with its wait, and there are no more of them than lanes).
"""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# A second line for each counter, which Prometheus does not use.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types

REGISTRY: Final = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0)
_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"tidemill_{name}", meaning, labels, registry=REGISTRY)


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(f"tidemill_{name}", meaning, labels, registry=REGISTRY)


def _histogram(name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
    return Histogram(f"tidemill_{name}", meaning, labels, registry=REGISTRY, buckets=buckets)


# --- commands --------------------------------------------------------------------------------------------------------
RECORDS = _counter("records_total", "records by outcome", "aggregate", "outcome")
BATCH_SECONDS = _histogram("batch_seconds", "one batch, with what was tried again", "aggregate")
BATCH_RECORDS = _histogram("batch_records", "records of one batch transaction", "aggregate", buckets=_SIZES)
BATCH_RETRIES = _counter(
    "batch_retries_total", "batches tried again, by the error's class", "aggregate", "error"
)
CLAIMS = _counter("claims_total", "lanes claimed", "aggregate")
TIMES_AHEAD = _counter(
    "times_ahead_total", "lanes whose last batch was minutes ahead of the database's clock", "aggregate"
)
LANES_OWNED = _gauge("lanes_owned", "lanes that this process owns", "aggregate")
LANES_HALTED = _gauge(
    "lanes_halted",
    "lanes of this process that wait for an operator; halted_lanes counts those of dead processes, too",
    "aggregate",
)
HALTED_LANES = _gauge(
    "halted_lanes",
    "lanes that are halted in the database, whichever process owns them, the same in each process: max, not sum",
    "aggregate",
    "code",
)
UNOWNED_LANES = _gauge(
    "unowned_lanes",
    "lanes that no connected process owns, the same in each process: max by (aggregate), not sum",
    "aggregate",
)
REJECTIONS = _counter("rejections_total", "commands that were rejected, by code", "aggregate", "code")
PARKED = _counter("parked_total", "records that were parked, by code", "aggregate", "code")
TABLE_MISFITS = _gauge(
    "table_misfits",
    "differences of a stream's tables from what is declared; its lanes stay unclaimed meanwhile",
    "aggregate",
)
SECRET_KEYS_MISSING = _gauge(
    "secret_keys_missing",
    "1 while this process lacks a master key that a stream's secrets need; its lanes stay unclaimed meanwhile",
    "aggregate",
)
COMMAND_LAG = _gauge(
    "command_lag_records",
    "records in the topic that are not consumed, those behind open transactions included; NaN while Kafka is "
    "unavailable; the same in each process: max by (aggregate), not sum",
    "aggregate",
)
HIDDEN_RECORDS = _gauge(
    "hidden_records",
    "records behind an open transaction, which nobody can consume yet; NaN while Kafka is unavailable; the same in "
    "each process: max by (aggregate), not sum",
    "aggregate",
)
LAG_SECONDS = _gauge(
    "lag_seconds",
    "age of the oldest record that a hop (intake, relay, projection) has not passed on, of its worst lane, 0 if there "
    "is none, NaN if it cannot be asked; the same in each process: max by (hop, name), not sum",
    "hop",
    "name",
)
LAG_ASKED = _gauge(
    "lag_asked_timestamp_seconds",
    "when the lag of a hop was last asked successfully, as Unix time",
    "hop",
    "name",
)
LANES_WAITING = _gauge(
    "lanes_waiting",
    "lanes of this process that wait for a version that knows a schema, by its id and its sender",
    "aggregate",
    "schema",
    "service",
)
ROWS_EXPIRED = _counter(
    "rows_expired_total",
    "rows that this process removed, or of which it ended something, because their time was over",
    "aggregate",
)
ROWS_SUPERSEDED = _counter(
    "rows_superseded_total",
    "rows removed by this process because their revision was superseded or abandoned",
    "aggregate",
)
REPLIES = _counter("replies_total", "replies: sent, refused, dropped or failed", "result")

# --- submissions ---------------------------------------------------------------------------------------------------
SUBMISSIONS = _counter(
    "submissions_total",
    "commands that came by HTTP, by what their senders got for them",
    "aggregate",
    "result",
)
SUBMISSION_SECONDS = _histogram(
    "submission_seconds", "a command that came by HTTP, from its encoding to its answer", "aggregate"
)
SUBMISSIONS_WAITING = _gauge("submissions_waiting", "commands that came by HTTP and wait for their outcomes")
SUBMISSION_OUTCOMES = _counter(
    "submission_outcomes_total", "outcomes of commands that came by HTTP: by reply, or by the log", "source"
)

# --- outbox ----------------------------------------------------------------------------------------------------------
PUBLISHED = _counter(
    "published_records_total", "records acknowledged, by role of the topic", "aggregate", "role"
)
PUBLISH_SECONDS = _histogram("publish_seconds", "one publication, from send to acknowledgement", "aggregate")
PUBLISHERS_STARTED = _counter(
    "publishers_started_total", "publishers made, after a claim or a fault", "aggregate"
)
UNPUBLISHED = _gauge(
    "unpublished_positions",
    "committed, not yet acknowledged, of this process's lanes, halted ones included",
    "aggregate",
)

# --- projections -----------------------------------------------------------------------------------------------------
PROJECTED = _counter("projected_events_total", "events folded into a read model", "projection")
FOLDED = _counter(
    "folded_events_total",
    "events folded into a read model, by how: by arrays (numpy), or one by one (python)",
    "projection",
    "by",
)
REPEATED = _counter(
    "repeated_events_total", "events dropped because their sequence was folded before", "projection"
)
FOREIGN_RECORDS = _counter(
    "foreign_records_total", "records in an event topic that are not events, left out", "aggregate"
)
PROJECTION_SECONDS = _histogram("projection_seconds", "one transaction of a projector", "projection")
PROJECTION_LAG = _gauge(
    "projection_lag_events",
    "published and not yet folded, the same in each process: max by (projection), not sum",
    "projection",
)
PROJECTION_HALTED = _gauge("projection_halted_lanes", "lanes whose events have a gap", "projection")
PROJECTION_MISFIT = _gauge(
    "projection_misfit", "1 while a read model is stopped because its table is not as declared", "projection"
)

# --- archive ---------------------------------------------------------------------------------------------------------
ARCHIVE_SLICES = _gauge("archive_slices", "slices of a table, by state", "table", "state")
ARCHIVE_SEAL_AGE = _gauge(
    "archive_seal_age_seconds", "since when a range is closed whose rows have not left, 0 if none is", "table"
)
ARCHIVE_OVERDUE = _gauge(
    "archive_oldest_undropped_seconds", "since when the oldest present chunk might have left", "table"
)
ARCHIVE_BYTES = _gauge("archive_bytes", "bytes of a table by tier: hot, late or lake", "table", "tier")
ARCHIVE_DIVERTED = _gauge("archive_diverted_rows", "late rows that wait to be archived", "table")
ARCHIVE_MISMATCHES = _gauge(
    "archive_mismatches",
    "how often a slice was quarantined because its copy differed from what was requested",
    "table",
)
ARCHIVE_ROUNDS = _counter("archive_rounds_total", "rounds of the worker: moved, idle or troubled", "result")
ARCHIVE_PROBLEMS = _gauge(
    "archive_troubles", "what could not be done in the last round, and will be tried again"
)
ARCHIVER_REQUESTS = _counter(
    "archiver_requests_total",
    "records of the archive's event topic: completed, partial, failed, ignored, unreadable or interrupted",
    "result",
)
ARCHIVER_CHUNKS = _counter(
    "archiver_chunks_total", "chunks: copied, found (copied before) or failed", "result"
)
ARCHIVER_ROWS = _counter("archiver_rows_total", "rows copied to the lake")
ARCHIVER_READ_BYTES = _counter("archiver_read_bytes_total", "bytes of rows read to be copied, as in memory")
ARCHIVER_SECONDS = _histogram(
    "archiver_request_seconds", "one request, from taking it to its answer", buckets=_LONG_SECONDS
)

# --- who asks ---------------------------------------------------------------------------------------------------------
UNAUTHENTICATED = _counter(
    "unauthenticated_total", "requests without valid credentials, by what was wrong with them", "reason"
)

# --- http ------------------------------------------------------------------------------------------------------------
# `route` is the template (`/api/db/{collection}/{id}`), never the path that was asked for; no label names who asks.
HTTP_REQUESTS = _counter(
    "http_requests_total", "requests by route, method and class of status", "route", "method", "status"
)
HTTP_SECONDS = _histogram(
    "http_request_seconds", "one request, from its head to the end of its answer", "route", "method"
)
HTTP_IN_FLIGHT = _gauge("http_requests_in_flight", "requests that are being answered", "route")
SLOW_QUERIES = _counter(
    "slow_queries_total",
    "queries that took longer than TIDEMILL_HTTP_SLOW_QUERY_MS",
    "collection",
    "operation",
)
POOL_CONNECTIONS = _gauge(
    "pool_connections", "database connections by class of work: idle, lent or overflow", "pool", "state"
)

# --- journal ---------------------------------------------------------------------------------------------------------
JOURNAL_ENTRIES = _counter(
    "journal_entries_total", "entries of the journal that are durable, by kind", "kind"
)
JOURNAL_SECONDS = _histogram(
    "journal_seconds", "storing entries that waited together, with what was tried again"
)
JOURNAL_COMMIT_ENTRIES = _histogram("journal_commit_entries", "entries stored together", buckets=_SIZES)
JOURNAL_LOST = _counter(
    "journal_lost_entries_total",
    "outcomes and refusals that could not wait any longer; the intent of a lost outcome stays open",
    "kind",
)

# --- the process -----------------------------------------------------------------------------------------------------
GENERATIONS = _counter("generations_opened_total", "rolls of the log to a new generation")
DEPENDENCY_UP = _gauge("dependency_up", "1 if the last probe of a server answered in time", "dependency")
SERVICE_RESTARTS = _counter("service_restarts_total", "restarts of a service that failed", "service")
LOOP_LAG_SECONDS = _histogram("loop_lag_seconds", "how late the event loop runs scheduled calls")
BUILD = _gauge("build_info", "always 1; the version is the label", "version", "process")
