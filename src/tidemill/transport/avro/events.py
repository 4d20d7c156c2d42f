"""Events for projectors: the `EventCodec`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.schemas import MessageSchema
from tidemill.domain.carried_fields import has_own_validation
from tidemill.domain.errors import ContractError, Unreadable
from tidemill.domain.messages import EventBase
from tidemill.domain.projection import Recorded
from tidemill.domain.stream import Stream
from tidemill.projections.event_columns import EventColumns
from tidemill.projections.ports import EventRecord
from tidemill.runtime.clock import Clock
from tidemill.transport.avro.codec import known_messages
from tidemill.transport.avro.field_validators import FieldValidators
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
        self._classes = stream.events
        self._fields: dict[str, FieldValidators] = {}

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

    def decode_columns(
        self, records: Sequence[EventRecord], wanted: Collection[type[EventBase]]
    ) -> EventColumns | None:
        alike = self._events.decode_alike([record.value for record in records])
        if alike is None:
            return None
        name, bodies = alike
        event = next((event for event in wanted if event is self._classes[name]), None)
        columns = None if event is None else self._valid(name, event, bodies)
        if event is None or columns is None:
            return None
        return EventColumns(
            event,
            records[0].partition,
            columns,
            at=[record.at for record in records],
            sequences=[record.sequence for record in records],
            keys=[record.key for record in records],
        )

    def _valid(
        self, name: str, event: type[EventBase], bodies: Sequence[dict[str, Any]]
    ) -> dict[str, list[Any]] | None:
        if has_own_validation(event):
            return None
        if name not in self._fields:  # they take milliseconds, and most classes are not read so
            self._fields[name] = FieldValidators(event)
        return self._fields[name].valid(bodies)

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
