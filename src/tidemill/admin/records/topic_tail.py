"""The records of a topic, decoded for people."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidemill.admin.records.ports import RecordDecoder, RecordDecoders, TopicReaders, TopicRecord
from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.errors import Unreadable
from tidemill.domain.lane import TopicRole


@dataclass(frozen=True)
class RecordShown:
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


@dataclass(frozen=True, kw_only=True)
class TopicTail:
    """Shows topics, those of the deployment decoded."""

    catalog: StreamCatalog
    readers: TopicReaders
    decoders: RecordDecoders

    def find(self, name: str, role: TopicRole) -> str:
        """Return the name of a topic: of the aggregate `name` in its `role`, else `name` itself."""
        if name.replace("_", "-") in self.catalog.streams:
            return self.catalog.of(name).stream.topics.named()[role]
        return name

    async def records(
        self, topic: str, *, last: int | None, partition: int | None, follow: bool
    ) -> AsyncGenerator[RecordShown]:
        """Yield records of a topic: from its start, or its `last` ones of each partition; then, if `follow`, new ones.

        Raises:
            UsageError: there is no such topic or partition. Unavailable: Kafka or the registry is.
        """
        owner = self.catalog.owner_of(topic)
        decoder = None if owner is None else await self.decoders.decoder(*owner)
        reader = self.readers.reader(topic, partition=partition)
        try:
            await reader.open(last=last)
            async for record in reader.records(follow=follow):
                yield await show(record, decoder)
        finally:
            await reader.close()


async def show(record: TopicRecord, decoder: RecordDecoder | None) -> RecordShown:
    """Return a record for people. `decoder`: of its topic, None for a topic of another program."""
    headers = tuple(record.headers)
    last = {name: value for name, value in headers if value is not None}
    name, fields, problem = await _read(record.value, decoder)
    written = last.get("ce_type")
    return RecordShown(
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


async def _read(
    value: bytes | None, decoder: RecordDecoder | None
) -> tuple[str | None, Mapping[str, Any] | None, str | None]:
    if value is None:
        return None, None, "no value"
    if decoder is None:
        return None, None, "not a topic of Tidemill"
    try:
        return *await decoder.fields_of(value), None
    except Unreadable as error:
        return None, None, str(error)


def _parked_for(headers: Mapping[str, bytes]) -> str | None:
    """Return why a dead letter was parked, as its headers say."""
    code, detail = (headers.get(f"__connect.errors.exception.{name}") for name in ("class.name", "message"))
    return None if code is None else f"{code.decode()}: {(detail or b'').decode()}"


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
