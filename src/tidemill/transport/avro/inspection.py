"""Events for people: `admin.ports.EventDecoder`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.streams import ContextStream
from tidemill.domain.errors import Unreadable
from tidemill.runtime.clock import Clock
from tidemill.transport.avro.codec import known_messages
from tidemill.transport.avro.known import KnownSchemas


class AvroEventDecoder:
    """Reads framed events of any stream."""

    def __init__(self, registry: Callable[[], SchemaRegistry | None], clock: Clock) -> None:
        """`registry`: is called when there is something to read."""
        self._registry = registry
        self._clock = clock

    async def fields(self, part: ContextStream, values: Sequence[bytes]) -> list[Mapping[str, Any] | None]:
        stream = part.stream
        known = known_messages(
            stream.topics.events, "event", stream.events, part.messages(), self._clock, self._registry()
        )
        await known.prepare(values)
        return [_fields(known, value) for value in values]


def _fields(known: KnownSchemas, value: bytes) -> Mapping[str, Any] | None:
    try:
        return known.decode(value)[1]
    except Unreadable:
        return None
