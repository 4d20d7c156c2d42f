"""Holds back the client's log flood: with the broker away it writes some thirty lines a second, all alike."""

from __future__ import annotations

import logging
from typing import Final

import aiokafka.admin  # noqa: F401  its loggers must exist before they are limited

from tidemill.telemetry import Log

_CLIENT: Final = "aiokafka"
_FIRST: Final = 3
_EVERY_S: Final = 60.0


class Limiter(logging.Filter):
    """Lets the `first` lines of a kind through in every `every_s` seconds; the next one says how many it held back.

    A kind is a logger, a level and a message before its arguments are filled in.
    """

    def __init__(self, *, first: int = _FIRST, every_s: float = _EVERY_S) -> None:
        super().__init__()
        self._first = first
        self._every_s = every_s
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, record.levelno, str(record.msg))
        since, count = self._seen.get(kind, (record.created, 0))
        if record.created - since >= self._every_s:
            since, held, count = record.created, max(0, count - self._first), 0
            if held:
                record.msg = f"{record.msg} ({Log.LINES_HELD_BACK}: {held})"
        self._seen[kind] = (since, count + 1)
        return count < self._first


def limit_client_logs(limiter: Limiter | None = None) -> Limiter:
    """Put a limiter on every logger of the client. A logger's filter does not see its children's records."""
    chosen = limiter or Limiter()
    for name in [
        _CLIENT,
        *(name for name in logging.root.manager.loggerDict if name.startswith(f"{_CLIENT}.")),
    ]:
        log = logging.getLogger(name)
        for earlier in [one for one in log.filters if isinstance(one, Limiter)]:
            log.removeFilter(earlier)
        log.addFilter(chosen)
    return chosen
