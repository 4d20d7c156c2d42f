"""Values of Tidemill's topics, read for people, and commands written for them.

`admin.records.ports.RecordDecoders` and `CommandEncoders`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tidemill.admin.records.ports import RecordDecoder
from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.streams import ContextStream, outcome_messages
from tidemill.domain.lane import TopicRole
from tidemill.runtime.clock import Clock
from tidemill.transport.avro.codec import StreamCodec, known_messages
from tidemill.transport.avro.known import KnownSchemas
from tidemill.transport.avro.outcome import AvroOutcomeCodec


class AvroRecordDecoders:
    """Makes decoders."""

    def __init__(self, registry: Callable[[], SchemaRegistry | None], clock: Clock) -> None:
        """`registry`: is called when there is something to read."""
        self._registry = registry
        self._clock = clock

    async def decoder(self, part: ContextStream, role: TopicRole) -> RecordDecoder:
        stream, registry = part.stream, self._registry()
        if role is TopicRole.OUTCOMES:
            return _Outcomes(
                await AvroOutcomeCodec.open(
                    stream.topics, outcome_messages(), clock=self._clock, registry=registry
                )
            )
        if role is TopicRole.EVENTS:
            topic = stream.topics.events
            return _Messages(
                known_messages(topic, "event", stream.events, part.messages(), self._clock, registry)
            )
        commands = {name: spec.model for name, spec in stream.commands.items()}
        topic = stream.topics.commands  # also of parked records
        return _Messages(known_messages(topic, "command", commands, part.messages(), self._clock, registry))


class _Outcomes:
    def __init__(self, codec: AvroOutcomeCodec) -> None:
        self._codec = codec

    async def fields_of(self, value: bytes) -> tuple[str, Mapping[str, Any]]:
        return "outcome", self._codec.decode(value)


class _Messages:
    def __init__(self, known: KnownSchemas) -> None:
        self._known = known

    async def fields_of(self, value: bytes) -> tuple[str, Mapping[str, Any]]:
        await self._known.prepare([value])
        return self._known.decode(value)


class AvroCommandEncoders:
    """Makes encoders."""

    def __init__(self, registry: Callable[[], SchemaRegistry | None], clock: Clock) -> None:
        """`registry`: is called when there is something to write."""
        self._registry = registry
        self._clock = clock

    async def encoder(self, part: ContextStream) -> StreamCodec:
        return await StreamCodec.open(
            part.stream, part.messages(), clock=self._clock, registry=self._registry()
        )
