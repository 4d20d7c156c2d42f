"""Events for projectors: the `EventCodec`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.schemas import MessageSchema
from tidemill.domain.errors import ContractError, Unreadable
from tidemill.domain.messages import EventBase
from tidemill.domain.projection import Recorded
from tidemill.domain.stream import Stream
from tidemill.projections.ports import EventRecord
from tidemill.runtime.clock import Clock
from tidemill.transport.avro.codec import known_messages
from tidemill.transport.avro.known import KnownSchemas


class AvroEventCodec:
    """Reads the events of one stream."""

    def __init__(self, stream: Stream, events: KnownSchemas) -> None:
        """Use `open`, which also asks the registry."""
        self._events = events
        self._adapters: dict[str, TypeAdapter[list[EventBase]]] = {
            name: TypeAdapter(list[event])  # type: ignore[valid-type]  # a class of a value
            for name, event in stream.events.items()
        }

    @classmethod
    async def open(
        cls,
        stream: Stream,
        messages: Mapping[str, MessageSchema],
        *,
        clock: Clock,
        registry: SchemaRegistry | None = None,
    ) -> AvroEventCodec:
        """Return the codec of a stream; `messages` are those of its context.

        Raises:
            ContractError: an event has no schema, or differs from its class.
            Unavailable: the registry is unavailable.
        """
        events = known_messages(stream.topics.events, "event", stream.events, messages, clock, registry)
        await events.preload()
        return cls(stream, events)

    async def prepare(self, values: Sequence[bytes]) -> None:
        await self._events.prepare(values)

    def decode(self, records: Sequence[EventRecord]) -> list[Recorded[EventBase]]:
        names: list[str] = []
        bodies: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in records:
            try:
                name, fields = self._events.decode(record.value)
            except Unreadable as fault:
                raise _unreadable(record, fault) from fault
            names.append(name)
            bodies[name].append(fields)
        made = {name: iter(self._make(name, fields)) for name, fields in bodies.items()}
        return [
            Recorded(next(made[name]), record.at, record.partition, record.sequence, record.key)
            for name, record in zip(names, records, strict=True)
        ]

    def _make(self, name: str, fields: list[dict[str, Any]]) -> list[EventBase]:
        try:
            return self._adapters[name].validate_python(fields)
        except ValidationError as fault:
            raise ContractError(f"{name}: the class refuses the published event: {fault}") from fault


def _unreadable(record: EventRecord, fault: Unreadable) -> ContractError:
    where = f"event {record.sequence} of partition {record.partition} (offset {record.offset})"
    return ContractError(
        f"{where} cannot be read: {fault}; deploy the version that knows its schema, or "
        "give a field that was renamed or removed its name back"
    )
