"""Topics as an installation's settings have them."""

from __future__ import annotations

from datetime import timedelta

from tidemill.catalog.topics import TopicOptions
from tidemill.settings import TopicSettings


def topic_settings(chosen: TopicSettings) -> TopicOptions:
    """Return an installation's settings of its topics. Raises `UsageError`."""
    return TopicOptions(
        replication=chosen.replication,
        command_retention=timedelta(days=chosen.command_days),
        outcome_retention=timedelta(days=chosen.outcome_days),
        dead_letter_retention=timedelta(days=chosen.dead_letter_days),
        max_command_bytes=chosen.max_command_bytes,
        max_event_bytes=chosen.max_event_bytes,
    )
