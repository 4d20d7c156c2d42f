"""How logs are written: one stream to standard error, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog

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
"""Libraries that log one level less than Tidemill, and never at DEBUG."""

_CREDENTIALS = re.compile(r"://[^/@\s:]*:[^/\s]*@")
_SECRET_NAMES = re.compile(r"password|passwd|secret|token|authorization|dsn", re.IGNORECASE)
_SHORTEST_SECRET = 4
REDACTED: Final = "***"


class Redactor:
    """Removes secrets from log lines: known values, credentials in URLs, fields named like secrets."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        """`secrets` are values; very short ones are ignored, since they would match ordinary words."""
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

    `secrets` are removed from every line, tracebacks included. Verbose libraries have a minimum level of their own;
    `libraries=False` silences them, for a verb that reports errors itself.
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
        cache_logger_on_first_use=False,  # a test, or a verb after another, may configure it again
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
