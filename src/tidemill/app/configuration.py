"""The settings of this call: what the environment says; for development, the servers that `tidemill dev up` started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidemill.settings import Settings, load


def configuration(env_file: Path | None = None) -> Settings:
    """Return the settings. Where neither database nor Kafka is given, a development stack that runs is used.

    Raises:
        UsageError: a setting is wrong; one line for each.
    """
    settings = load(env_file)
    if settings.database.url is not None or settings.kafka.bootstrap is not None:
        return settings
    return load(env_file, **_development_servers())


def _development_servers() -> dict[str, Any]:
    """Return the addresses of this checkout's own stack, nothing if it does not run."""
    from tidemill import devstack  # noqa: PLC0415  only who gave no servers pays for it

    try:
        found = devstack.status()
    except devstack.DevstackError:
        return {}
    if found.stack is None or not found.is_up:
        return {}
    return {
        "database": {"url": found.stack.database_url},
        "kafka": {"bootstrap": found.stack.kafka_bootstrap},
        "registry": {"url": found.stack.registry_url} if found.stack.registry_url else {},
    }
