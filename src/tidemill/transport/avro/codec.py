"""Avro in and out for one stream: the `CommandCodec` of the intake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel

from tidemill.catalog.drafts import out_of_step
from tidemill.catalog.lint import Role
from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.schemas import MessageSchema
from tidemill.commands.ports import Decoded
from tidemill.domain.context import AppendSpec
from tidemill.domain.errors import ContractError, NewerSchema, Unreadable, UsageError
from tidemill.domain.identity import payload_digest
from tidemill.domain.messages import EventBase
from tidemill.domain.messages import Message as Model
from tidemill.domain.rejections import ParkingCode
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import Clock
from tidemill.transport.avro import wire
from tidemill.transport.avro.known import KnownSchemas
from tidemill.transport.avro.reader.newer import NotWhole
from tidemill.transport.avro.reader.strict import FAULTS, TooManyItems, explain
from tidemill.transport.avro.reuse import ReusedBody, reused_body

DEFAULT_MAX_BYTES: Final = 256 * 1024


class StreamCodec:
    """Reads a stream's commands and writes its events (and commands, for publishing by hand)."""

    def __init__(
        self, stream: Stream, commands: KnownSchemas, events: KnownSchemas, *, max_bytes: int
    ) -> None:
        """Use `open`, which also asks the registry."""
        self._commands = commands
        self._readers = commands.readers
        self._max_bytes = max_bytes
        self._command_names = {spec.model: name for name, spec in stream.commands.items()}
        self._event_names = {event: name for name, event in stream.events.items()}
        self._command_forms = commands.forms
        self._event_forms = events.forms
        self._prefixes: dict[str, bytes] = {}
        self._reused: dict[tuple[str, type[EventBase]], bytes] = {}
        self._bodies: dict[tuple[str, str], ReusedBody | None] = {}

    @classmethod
    async def open(
        cls,
        stream: Stream,
        messages: Mapping[str, MessageSchema],
        *,
        clock: Clock,
        registry: SchemaRegistry | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> StreamCodec:
        """Return the codec of a stream; `messages` are those of its context. A record above `max_bytes` is `TOO_BIG`.

        Raises:
            ContractError: a message has no schema, differs from its class, or is not in the registry.
            Unavailable: the registry is unavailable.
        """
        models = {name: spec.model for name, spec in stream.commands.items()}
        commands = known_messages(
            stream.topics.commands, "command", models, messages, clock, registry, whole=True
        )
        events = known_messages(stream.topics.events, "event", stream.events, messages, clock, registry)
        codec = cls(stream, commands, events, max_bytes=max_bytes)
        await commands.preload()
        for name in stream.events:
            codec._prefixes[name] = await events.prefix_for_writing(name)
        for name, spec in stream.commands.items():
            if isinstance(spec, AppendSpec):
                codec._reuse(name, spec.event)
        return codec

    async def prepare(self, values: Sequence[bytes | None]) -> None:
        await self._commands.prepare(values)

    def decode(self, values: Sequence[bytes | None]) -> list[Decoded | Unreadable]:
        return [self._decode(value) for value in values]

    def encode_event(self, event: Model, command: Decoded | None = None) -> bytes:
        name = self._event_names[type(event)]
        if command is not None and command.body is not None:
            reused = self._reused_body(command.name, name)
            if reused is not None:
                body = reused.of(command.body, command.fields, event.__dict__, command.own)
                if body is not None:
                    return self._prefixes[name] + body
        return self._prefixes[name] + self._event_forms[name].write(event.model_dump())

    def appended_event(self, command: Decoded, event: type[EventBase]) -> bytes:
        prefix = self._reused.get((command.name, event))
        if prefix is not None and command.body is not None:
            return prefix + command.body
        name = self._event_names[event]
        return self._prefixes[name] + self._event_forms[name].write(command.fields)

    async def encode_command(self, command: Model) -> bytes:
        """Return the framed value of a command.

        Raises:
            UsageError: a time has no time zone.
            ContractError: the registry does not have the schema.
            Unavailable: the registry is unavailable.
        """
        name = self._command_names[type(command)]
        fields = command.model_dump()
        _demand_time_zones(fields)
        if name not in self._prefixes:
            self._prefixes[name] = await self._commands.prefix_for_writing(name)
        return self._prefixes[name] + self._command_forms[name].write(fields)

    def digest(self, value: bytes) -> int:
        """Return the digest that the log stores of a command's content, base fields aside. Raises `Unreadable`."""
        decoded = self._decode(value)
        if isinstance(decoded, Unreadable):
            raise decoded
        return payload_digest(decoded.name, decoded.facts)

    def _decode(self, value: bytes | None) -> Decoded | Unreadable:
        if not value:
            return Unreadable(
                ParkingCode.MALFORMED, "the record has no value" if value is None else "the value is empty"
            )
        if len(value) > self._max_bytes:
            return Unreadable(ParkingCode.TOO_BIG, f"{len(value)} bytes; at most {self._max_bytes} are read")
        at = wire.ID_BYTES if value[0] == 0 else wire.FINGERPRINT_BYTES
        reader = self._readers.get(value[:at])
        if reader is None:
            return self._unknown(value, at)
        try:
            return reader.read(value, at)
        except NotWhole as newer:
            return _newer(value[:at], reader.name, newer)
        except TooManyItems as fault:
            return Unreadable(ParkingCode.TOO_BIG, str(fault))
        except FAULTS as fault:
            return Unreadable(ParkingCode.MALFORMED, explain(fault))

    def _unknown(self, value: bytes, at: int) -> Unreadable:
        framed = value[0] == 0 or value.startswith(wire.FINGERPRINT_MAGIC)
        if framed and len(value) >= at:
            return Unreadable(ParkingCode.UNKNOWN_SCHEMA, self._commands.why_unknown(value))
        start = value[: wire.FINGERPRINT_BYTES].hex(" ")
        return Unreadable(
            ParkingCode.MALFORMED, f"neither 00 and a schema id nor c3 01 and a fingerprint: {start}"
        )

    def _reused_body(self, command: str, event: str) -> ReusedBody | None:
        """Return how an event's body is cut from a command's; worked out when it is first asked for."""
        pair = command, event
        if pair not in self._bodies:
            forms = self._command_forms[command], self._event_forms[event]
            records = (form.schema.record for form in forms)
            self._bodies[pair] = reused_body(*records, base=self._command_forms[command].base)
        return self._bodies[pair]

    def _reuse(self, command: str, event: type[EventBase]) -> None:
        """Reuse a command's bytes for the event, if the two schemas have the same fields."""
        name = self._event_names[event]
        if self._command_forms[command].schema.layout == self._event_forms[name].schema.layout:
            self._reused[command, event] = self._prefixes[name]


def _newer(prefix: bytes, name: str, found: NotWhole) -> NewerSchema:
    schema = wire.schema_of_prefix(prefix)
    detail = f"schema {schema} ({name}): {found}"
    return NewerSchema(detail, schema=schema, type_name=name, service=found.service)


def _demand_time_zones(value: Any, at: str = "") -> None:
    match value:
        case datetime() if value.tzinfo is None:
            raise UsageError(
                f"{at}: {value.isoformat()} has no time zone; write {value.isoformat()}Z for UTC"
            )
        case dict():
            for name, part in value.items():
                _demand_time_zones(part, f"{at}.{name}" if at else str(name))
        case list() | tuple():
            for number, part in enumerate(value):
                _demand_time_zones(part, f"{at}[{number}]")


def known_messages(
    topic: str,
    role: Role,
    models: Mapping[str, type[BaseModel]],
    messages: Mapping[str, MessageSchema],
    clock: Clock,
    registry: SchemaRegistry | None,
    *,
    whole: bool = False,
) -> KnownSchemas:
    """Return the schemas of a stream's commands or events, checked against their classes. Raises `ContractError`.

    `whole`: a newer version's message is read completely or refused.
    """
    chosen: dict[str, MessageSchema] = {}
    for name, model in models.items():
        message = messages.get(name)
        if message is None or message.role != role:
            raise ContractError(f"{role} {name} has no schema; `tidemill schemas new` drafts one")
        faults = out_of_step(model, message.current.record)
        if faults:
            raise ContractError(f"class and schema differ: {'; '.join(faults)}")
        chosen[name] = message
    return KnownSchemas(topic, chosen, clock, registry=registry, whole=whole)
