"""The settings of this call: from the environment or, for development, the servers that `tidemill dev up` started."""

from __future__ import annotations

from pathlib import Path

from tidemill.app import devkit
from tidemill.settings import Settings, load


def configuration(env_file: Path | None = None) -> Settings:
    """Return the settings. Where neither database nor Kafka is given, a running development stack is used.

    Raises:
        UsageError: a setting is wrong; one line for each.
    """
    settings = load(env_file)
    if settings.database.url is not None or settings.kafka.bootstrap is not None:
        return settings
    development_servers = devkit.part("development-servers")
    return load(env_file, **development_servers()) if development_servers else settings
