"""Streams and schemas of the built-in contexts, for tests of codecs."""

from __future__ import annotations

from tidemill.catalog.schemas import MessageSchema, load_messages
from tidemill.contexts import connector_profiles, market_data, system_logs, telemetry_events
from tidemill.domain.context import Context
from tidemill.domain.stream import Stream
from tidemill.runtime.resources import schemas_dir

CONTEXTS: tuple[Context, ...] = (
    market_data.context,
    connector_profiles.context,
    system_logs.context,
    telemetry_events.context,
)

MARKET_DATA = Stream.of(market_data.context)
CONNECTOR_PROFILES = Stream.of(connector_profiles.context)


def messages_of(context: str) -> dict[str, MessageSchema]:
    """The schemas of a built-in context, or of `outcome`."""
    return load_messages(schemas_dir(), context)
