"""What a process tells about itself: every metric and every log event, in one list each, and how logs are written.

Metrics are Prometheus's: base units, few labels, never an id, key, lane or offset as a label (but that of a schema that
lanes wait for: each goes with its wait, and there are no more of them than lanes). A log event's name is a
constant of `Log`; what varies is in its fields. Logs go to standard error, secrets are cut out of them.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection, Mapping, MutableMapping
from enum import StrEnum
from typing import Any, Final, Literal, TextIO

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# A second line for each counter, of which Prometheus makes nothing.
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


# --- in --------------------------------------------------------------------------------------------------------------
RECORDS = _counter("records_total", "records by what became of them", "aggregate", "outcome")
BATCH_SECONDS = _histogram("batch_seconds", "one batch, with what was tried again", "aggregate")
BATCH_RECORDS = _histogram("batch_records", "records of one batch transaction", "aggregate", buckets=_SIZES)
BATCH_RETRIES = _counter(
    "batch_retries_total", "batches tried again, by the error's class", "aggregate", "error"
)
CLAIMS = _counter("claims_total", "lanes claimed", "aggregate")
TIMES_AHEAD = _counter(
    "times_ahead_total", "lanes whose last batch was minutes ahead of the database's clock", "aggregate"
)
LANES_OWNED = _gauge("lanes_owned", "lanes that this process works", "aggregate")
LANES_HALTED = _gauge("lanes_halted", "lanes of this process that wait for an operator", "aggregate")
TABLE_MISFITS = _gauge(
    "table_misfits",
    "what of a stream's tables is not as declared; its lanes stay unclaimed meanwhile",
    "aggregate",
)
COMMAND_LAG = _gauge(
    "command_lag_records",
    "records in the topic that are not consumed, the same in each process: max by (aggregate), not sum",
    "aggregate",
)
LANES_WAITING = _gauge(
    "lanes_waiting",
    "lanes of this process that wait for a version that knows a schema, by its id and its sender",
    "aggregate",
    "schema",
    "service",
)
REPLIES = _counter("replies_total", "answers to those who asked: sent, refused, dropped or failed", "result")

# --- out -------------------------------------------------------------------------------------------------------------
PUBLISHED = _counter(
    "published_records_total", "records acknowledged, by role of the topic", "aggregate", "role"
)
PUBLISH_SECONDS = _histogram("publish_seconds", "one publication, from send to acknowledgement", "aggregate")
PUBLISHERS_STARTED = _counter(
    "publishers_started_total", "publishers made, after a claim or a fault", "aggregate"
)
UNPUBLISHED = _gauge("unpublished_positions", "committed and not yet acknowledged, of our lanes", "aggregate")

# --- remember --------------------------------------------------------------------------------------------------------
PROJECTED = _counter("projected_events_total", "events folded into a read model", "projection")
REPEATED = _counter(
    "repeated_events_total", "events dropped because their sequence was folded before", "projection"
)
FOREIGN_RECORDS = _counter(
    "foreign_records_total", "records in an event topic that are no events, left out", "aggregate"
)
PROJECTION_SECONDS = _histogram("projection_seconds", "one transaction of a projector", "projection")
PROJECTION_LAG = _gauge(
    "projection_lag_events",
    "published and not yet folded, the same in each process: max by (projection), not sum",
    "projection",
)
PROJECTION_HALTED = _gauge("projection_halted_lanes", "lanes whose events have a gap", "projection")
PROJECTION_MISFIT = _gauge(
    "projection_misfit", "1 while a read model stands, its table not as declared", "projection"
)

# --- let go ----------------------------------------------------------------------------------------------------------
ARCHIVE_SLICES = _gauge("archive_slices", "slices of a table, by state", "table", "state")
ARCHIVE_SEAL_AGE = _gauge(
    "archive_seal_age_seconds", "since when a range is closed whose rows have not left, 0 if none is", "table"
)
ARCHIVE_OVERDUE = _gauge(
    "archive_oldest_undropped_seconds", "since when the oldest chunk that is there might have left", "table"
)
ARCHIVE_BYTES = _gauge("archive_bytes", "bytes of a table by tier: hot, late or lake", "table", "tier")
ARCHIVE_DIVERTED = _gauge("archive_diverted_rows", "rows that came too late and wait to be archived", "table")
ARCHIVE_MISMATCHES = _gauge(
    "archive_mismatches", "how often a slice was set aside, as its copy was not what was asked for", "table"
)
ARCHIVE_ROUNDS = _counter("archive_rounds_total", "rounds of the keeper: moved, idle or troubled", "result")
ARCHIVE_TROUBLES = _gauge(
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

# --- the process -----------------------------------------------------------------------------------------------------
GENERATIONS = _counter("generations_opened_total", "rolls of the log to a new generation")
DEPENDENCY_UP = _gauge("dependency_up", "1 if the last probe of a server answered in time", "dependency")
SERVICE_RESTARTS = _counter("service_restarts_total", "restarts of a service that failed", "service")
LOOP_LAG_SECONDS = _histogram("loop_lag_seconds", "how late the event loop runs what is due")
BUILD = _gauge("build_info", "always 1; the version is the label", "version", "process")


class Log(StrEnum):
    """Names of log events."""

    PROCESS_STARTED = "process_started"
    PROCESS_STOPPED = "process_stopped"
    STOP_REQUESTED = "stop_requested"
    DRAIN_CUT_OFF = "drain_cut_off"
    DATABASE_CUT_OFF = "database_cut_off"
    FILES_SHORT = "files_short"
    SERVICE_STARTED = "service_started"
    SERVICE_FAILED = "service_failed"
    SERVICE_RECOVERED = "service_recovered"
    SERVICE_GAVE_UP = "service_gave_up"
    SERVICE_STOPPED = "service_stopped"
    LOOP_LATE = "loop_late"
    DEPENDENCY_LOST = "dependency_lost"
    DEPENDENCY_BACK = "dependency_back"
    HEALTH_SERVED = "health_served"
    LANES_CLAIMED = "lanes_claimed"
    LANES_LOST = "lanes_lost"
    LANE_HALTED = "lane_halted"
    LANE_RESUMED = "lane_resumed"
    TABLE_MISFIT = "table_misfit"
    TABLE_FITS = "table_fits"
    LANE_WAITS = "lane_waits"
    LANE_GOES_ON = "lane_goes_on"
    BATCH_RETRIED = "batch_retried"
    BATCH_RECOVERED = "batch_recovered"
    BATCH_LEFT = "batch_left"
    RECORD_PARKED = "record_parked"
    TIME_WAS_AHEAD = "time_was_ahead"
    RELAY_RESTARTED = "relay_restarted"
    RELAY_WAITS = "relay_waits"
    RELAY_FAILED = "relay_failed"
    RELAY_RECOVERED = "relay_recovered"
    ARCHIVE_OFF = "archive_off"
    ARCHIVE_SEALS = "archive_seals"
    ARCHIVE_MOVED = "archive_moved"
    ARCHIVE_REFUSED = "archive_refused"
    ARCHIVE_FAILED = "archive_failed"
    ARCHIVE_WAITS = "archive_waits"
    FOREIGN_RECORDS = "foreign_records"
    PROJECTION_HALTED = "projection_halted"
    PROJECTION_RESUMED = "projection_resumed"
    PROJECTION_STOPPED = "projection_stopped"
    PROJECTION_READS_AGAIN = "projection_reads_again"
    PROJECTOR_WAITS = "projector_waits"
    PROJECTOR_RECOVERED = "projector_recovered"
    GENERATION_OPENED = "generation_opened"
    GENERATION_DROPPED = "generation_dropped"
    OUTBOX_KEPT = "outbox_kept"
    LINES_HELD_BACK = "lines_held_back"
    CLIENT_CUT_OFF = "client_cut_off"
    REBALANCE_CALLBACK_FAILED = "rebalance_callback_failed"
    OFFSETS_NOT_NOTED = "offsets_not_noted"
    REPLY_FAILED = "reply_failed"
    HANGING_TRANSACTION_ENDED = "hanging_transaction_ended"
    ARCHIVAL_REQUEST_SKIPPED = "archival_request_skipped"
    ARCHIVAL_ANSWERED = "archival_answered"
    ARCHIVAL_CHUNK_FAILED = "archival_chunk_failed"
    ARCHIVAL_INTERRUPTED = "archival_interrupted"
    ARCHIVAL_HEARTBEAT_LOST = "archival_heartbeat_lost"


Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LogFormat = Literal["auto", "json", "console"]

_TALKATIVE: Final = (
    "aiokafka",  # its DEBUG prints keys, values and whole requests
    "alembic",
    "asyncio",
    "confluent_kafka",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "sqlalchemy",
    "uvicorn",
)
"""Libraries that are heard one level less than we are, and never at DEBUG."""

_CREDENTIALS = re.compile(r"://[^/@\s:]*:[^/\s]*@")
_SECRET_NAMES = re.compile(r"password|passwd|secret|token|authorization|dsn", re.IGNORECASE)
_SHORTEST_SECRET = 4
REDACTED: Final = "***"


class Redactor:
    """Cuts secrets out of what is about to be written: known values, credentials in URLs, fields named like secrets."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        """`secrets` are values; very short ones are ignored, as they would blot out ordinary words."""
        self._secrets = sorted(
            {value for value in secrets if len(value) >= _SHORTEST_SECRET}, key=len, reverse=True
        )

    def text(self, value: str) -> str:
        """Return `value` without secrets."""
        for secret in self._secrets:
            value = value.replace(secret, REDACTED)
        return _CREDENTIALS.sub(f"://{REDACTED}@", value)

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Work as a structlog processor."""
        del logger, method
        return {
            name: REDACTED if _SECRET_NAMES.search(name) else self._clean(value)
            for name, value in event.items()
        }

    def _clean(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return self(None, "", {str(name): item for name, item in value.items()})
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(item) for item in value]
        return self.text(value if isinstance(value, str) else repr(value))


def configure_logging(
    level: Level = "INFO",
    style: LogFormat = "auto",
    *,
    secrets: Collection[str] = (),
    stream: TextIO | None = None,
    libraries: bool = True,
) -> None:
    """Route structlog and the standard library's loggers to one place: `stream`, else standard error.

    `secrets` are cut out of every line, tracebacks included. Talkative libraries have a floor of their own;
    `libraries=False` silences them, for a verb that says itself what went wrong.
    """
    out = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a test, or a verb after another, may configure anew
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                Redactor(secrets),
                _renderer(style, out),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(_floor(level) if libraries else logging.CRITICAL)


def _floor(level: Level) -> int:
    return logging.INFO if level == "DEBUG" else max(logging.WARNING, logging.getLevelNamesMapping()[level])


def _renderer(style: LogFormat, out: TextIO) -> structlog.typing.Processor:
    if style == "json" or (style == "auto" and not out.isatty()):
        return structlog.processors.JSONRenderer(sort_keys=True)
    return structlog.dev.ConsoleRenderer(
        colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return bound
