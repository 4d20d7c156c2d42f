"""Suppresses floods of similar log lines: without a broker the client alone writes about thirty a second."""

from __future__ import annotations

import logging
from typing import Final

import aiokafka.admin  # noqa: F401  its loggers must exist before they are limited

from tidemill.runtime.telemetry.log_events import Log
from tidemill.transport.kafka.client import close

_CLIENT: Final = "aiokafka"
_FIRST: Final = 3
_EVERY_S: Final = 60.0
_MAX_KINDS: Final = 1_000

_HARMLESS: Final = frozenset(
    {
        "Group Coordinator Request failed: %s",
        "Error sending %s to node %s [%s] -- marking coordinator dead",
    }
)
"""Errors of the client that it meets at every fresh broker, or after a member was killed, and tries again by itself."""

_Kind = tuple[str, int, str]


class Limiter(logging.Filter):
    """Lets the `first` lines of a kind through in every `every_s` seconds; the next one says how many it held back.

    A kind is a logger, a level and a message before its arguments are filled in; of Tidemill's own lines, the event. It
    remembers at most `max_kinds`: some messages are not templates, and contain a new address or error each time.
    """

    def __init__(
        self, *, first: int = _FIRST, every_s: float = _EVERY_S, max_kinds: int = _MAX_KINDS
    ) -> None:
        super().__init__()
        self._first = first
        self._every_s = every_s
        self._max_kinds = max_kinds
        self._seen: dict[_Kind, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str) and record.msg in _HARMLESS:
            record.levelno, record.levelname = logging.INFO, "INFO"
        kind = (record.name, record.levelno, _message(record))
        since, count = self._seen.pop(kind, (record.created, 0))
        if record.created - since >= self._every_s:
            since, held, count = record.created, max(0, count - self._first), 0
            if held:
                _add(record, held)
        elif len(self._seen) >= self._max_kinds:
            del self._seen[next(iter(self._seen))]
        self._seen[kind] = (since, count + 1)
        return count < self._first


def _message(record: logging.LogRecord) -> str:
    told = record.msg
    return str(
        told.get("event") if isinstance(told, dict) else told
    )  # a dict: structlog's, with a time in it


def _add(record: logging.LogRecord, held: int) -> None:
    if isinstance(record.msg, dict):
        record.msg = {**record.msg, str(Log.LINES_HELD_BACK): held}
    else:
        record.msg = f"{record.msg} ({Log.LINES_HELD_BACK}: {held})"


def limit_client_logs(limiter: Limiter | None = None) -> Limiter:
    """Add a limiter to every logger of the client, and to Tidemill's logger of clients that were cut off.

    A logger's filter does not see its children's records.
    """
    chosen = limiter or Limiter()
    for name in [
        _CLIENT,
        *(name for name in logging.root.manager.loggerDict if name.startswith(f"{_CLIENT}.")),
        close.__name__,
    ]:
        log = logging.getLogger(name)
        for earlier in [one for one in log.filters if isinstance(one, Limiter)]:
            log.removeFilter(earlier)
        log.addFilter(chosen)
    return chosen
