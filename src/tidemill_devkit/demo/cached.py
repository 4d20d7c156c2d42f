"""The plan's part about a cache entry: a value that is kept for a day, and one whose time was over before it came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from tidemill.contexts.cache_entries import cache_entries
from tidemill.domain.messages import CommandBase
from tidemill_devkit.demo.records import Planned, applied, rejected

CACHE_ENTRIES: Final = "cache-entries"
SERVICE: Final = "workbench"
ENTRY: Final = "rate-of-exchange"
VALUE: Final = {"from": "EUR", "to": "USD", "rate": 1.25}

_KEPT: Final = timedelta(days=1)


def cache_records(now: datetime) -> list[Planned]:
    """Return the records about the entry, in order. `now`: the timestamp of the commands."""
    return list(_story(now))


def _story(now: datetime) -> Iterator[Planned]:
    own = cache_entries.messages
    yield applied(CACHE_ENTRIES, _command(own.create, "cache-1", now, now + _KEPT))
    yield rejected(CACHE_ENTRIES, _command(own.update, "cache-2", now, now - _KEPT), "EXPIRED")


def _command(model: type[CommandBase], command_id: str, now: datetime, until: datetime) -> CommandBase:
    base = {"command_id": command_id, "service_name": SERVICE, "timestamp": now}
    fields = {"cache_entry_id": ENTRY, "value": json.dumps(VALUE), "expires_at": until}
    return model.model_validate(base | fields)
