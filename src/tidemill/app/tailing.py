"""Tailing: the records of a topic, decoded for people."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidemill.app.connections import kafka_connection, open_registry
from tidemill.app.deployment import Deployment
from tidemill.catalog.streams import outcome_messages
from tidemill.domain.errors import Unreadable
from tidemill.domain.lane import TopicRole
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import known_messages
from tidemill.transport.avro.known import KnownSchemas
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.admin.reader import TopicReader


@dataclass(frozen=True)
class Shown:
    """A record for people: `fields` is None where the value cannot be read; `problem` then says why."""

    topic: str
    partition: int
    offset: int
    time: datetime
    key: bytes | None
    type: str | None
    sequence: int | None
    headers: Sequence[tuple[str, bytes | None]]
    fields: Mapping[str, Any] | None
    problem: str | None


def find_topic(deployment: Deployment, name: str, role: TopicRole) -> str:
    """Return the name of a topic: of the aggregate `name` in its `role`, else `name` itself."""
    if name.replace("_", "-") in deployment.catalog.streams:
        return deployment.catalog.of(name).stream.topics.named()[role]
    return name


async def tail(
    deployment: Deployment, topic: str, *, last: int | None, partition: int | None, follow: bool
) -> AsyncGenerator[Shown]:
    """Yield records of a topic: from its start, or its `last` ones of each partition; then, if `follow`, what comes.

    Raises:
        UsageError: there is no such topic or partition. Unavailable: Kafka is away.
    """
    async with AsyncExitStack() as shared:
        decoder = await _Decoder.open(shared, deployment, topic)
        reader = TopicReader(kafka_connection(deployment.settings), topic, partition=partition)
        await shared.enter_async_context(reader)
        await reader.open(last=last)
        async for record in reader.records(follow=follow):
            yield await decoder.show(record)


class _Decoder:
    """Reads the values of one topic, if it is one of ours."""

    def __init__(self, known: KnownSchemas | None, outcomes: AvroOutcomeCodec | None) -> None:
        """Use `open`."""
        self._known = known
        self._outcomes = outcomes

    @classmethod
    async def open(cls, shared: AsyncExitStack, deployment: Deployment, topic: str) -> _Decoder:
        registry, clock = open_registry(shared, deployment.settings), SystemClock()
        for part in deployment.catalog.streams.values():
            roles = {name: role for role, name in part.stream.topics.named().items()}
            role = roles.get(topic)
            if role is TopicRole.OUTCOMES:
                outcomes = await AvroOutcomeCodec.open(
                    part.stream.topics, outcome_messages(), clock=clock, registry=registry
                )
                return cls(None, outcomes)
            if role is TopicRole.EVENTS:
                known = known_messages(topic, "event", part.stream.events, part.messages(), clock, registry)
                return cls(known, None)
            if role is not None:
                commands = {name: spec.model for name, spec in part.stream.commands.items()}
                origin = part.stream.topics.commands
                return cls(
                    known_messages(origin, "command", commands, part.messages(), clock, registry), None
                )
        return cls(None, None)

    async def show(self, record: Any) -> Shown:
        headers = tuple(record.headers)
        last = {name: value for name, value in headers if value is not None}
        name, fields, problem = await self._read(record.value)
        written = last.get("ce_type")
        return Shown(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            time=datetime.fromtimestamp(record.timestamp / 1000, tz=UTC),
            key=record.key,
            type=name or (written.decode(errors="replace") if written else None),
            sequence=_number(last.get("tm_sequence")),
            headers=headers,
            fields=fields,
            problem=_parked_for(last) or problem,
        )

    async def _read(self, value: bytes | None) -> tuple[str | None, Mapping[str, Any] | None, str | None]:
        try:
            if value is None:
                return None, None, "no value"
            if self._outcomes is not None:
                return "outcome", self._outcomes.decode(value), None
            if self._known is None:
                return None, None, "not a topic of ours"
            await self._known.prepare([value])
            name, fields = self._known.decode(value)
            return name, fields, None
        except Unreadable as error:
            return None, None, str(error)


def _parked_for(headers: Mapping[str, bytes]) -> str | None:
    """Return why a dead letter was parked, as its headers say."""
    code, detail = (headers.get(f"__connect.errors.exception.{name}") for name in ("class.name", "message"))
    return None if code is None else f"{code.decode()}: {(detail or b'').decode()}"


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
