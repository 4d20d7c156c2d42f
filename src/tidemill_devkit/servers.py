"""The servers that `tidemill dev up` started, if no others are given."""

from __future__ import annotations

from typing import Any

from tidemill_devkit import stack


def development_servers() -> dict[str, Any]:
    """Return its addresses, by group and name of the setting; nothing if this checkout's stack does not run."""
    try:
        found = stack.status()
    except stack.DevstackError:
        return {}
    if found.stack is None or not found.is_up:
        return {}
    return {
        "database": {"url": found.stack.database_url},
        "kafka": {"bootstrap": found.stack.kafka_bootstrap},
        "registry": {"url": found.stack.registry_url} if found.stack.registry_url else {},
    }
