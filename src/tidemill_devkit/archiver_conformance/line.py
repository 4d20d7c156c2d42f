"""The connection to an archiver: requests on its topic, its answers on the other, each with a deadline."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

from pydantic import ValidationError

from tidemill.admin.records.outgoing import Outgoing
from tidemill.app.connections import kafka_connection, open_registry
from tidemill.catalog.schemas import load_messages
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent, ArchivalStatus
from tidemill.domain.errors import Unreadable
from tidemill.retention.stream import archive_stream
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.resources import schemas_dir
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.kafka.admin.producer import KeyedProducer
from tidemill.transport.kafka.admin.reader import TopicReader
from tidemill_devkit.archiver_conformance.place import ConformanceSite

_FINAL: Final = frozenset({ArchivalStatus.COMPLETED, ArchivalStatus.FAILED})


class Silent(Exception):
    """No answer came in time."""


class ArchiverLine:
    """Use `open`. What it reads is kept, so that a case can ask whether something was ever answered."""

    def __init__(self, codec: StreamCodec, producer: KeyedProducer, reader: TopicReader) -> None:
        self._codec = codec
        self._producer = producer
        self._reader = reader
        self._arrived: asyncio.Queue[ArchivalConfirmation | Unreadable] = asyncio.Queue()
        self.answers: list[ArchivalConfirmation] = []

    @classmethod
    async def open(cls, shared: AsyncExitStack, place: ConformanceSite) -> ArchiverLine:
        """Open the line. Raises `Unavailable`."""
        settings = place.settings
        kafka = kafka_connection(settings, "tidemill-conformance")
        stream = archive_stream(settings.topics.prefix)
        messages = load_messages(schemas_dir(), "archival")
        registry = open_registry(shared, settings)
        codec = await StreamCodec.open(stream, messages, clock=SystemClock(), registry=registry)
        producer = KeyedProducer(kafka, place.topics.events, batch_bytes=settings.topics.max_event_bytes)
        await shared.enter_async_context(producer)
        await producer.open()
        reader = TopicReader(kafka, place.topics.commands)
        await shared.enter_async_context(reader)
        await reader.open()
        line = cls(codec, producer, reader)
        listening = asyncio.create_task(line._listen(), name="conformance answers")
        shared.push_async_callback(_ended, listening)
        return line

    async def send(self, *events: ArchivalEvent | bytes | None) -> None:
        """Send requests, or other records, in order. Raises `Unavailable`."""
        values = [
            self._codec.encode_event(event) if isinstance(event, ArchivalEvent) else event for event in events
        ]
        await self._producer.send([Outgoing(key=b"conformance", value=value) for value in values])

    async def answer(self, event_id: str, within_s: float) -> ArchivalConfirmation:
        """Return the next final answer to a request; every `in_progress` gives it `within_s` more.

        Raises:
            Silent: none came.
            Unreadable: something came that is not a confirmation.
        """
        while True:
            try:
                arrived = await asyncio.wait_for(self._arrived.get(), within_s)
            except TimeoutError:
                raise Silent(f"no answer within {within_s:g} s") from None
            if isinstance(arrived, Unreadable):
                raise arrived
            self.answers.append(arrived)
            if arrived.event_id == event_id and arrived.status in _FINAL:
                return arrived

    async def _listen(self) -> None:
        try:
            async for record in self._reader.records(follow=True):
                await self._arrived.put(await self._read(record.value))
        except Exception as error:  # noqa: BLE001  whoever waits for an answer is told
            await self._arrived.put(Unreadable("UNAVAILABLE", f"the answers cannot be read: {error}"))

    async def _read(self, value: bytes | None) -> ArchivalConfirmation | Unreadable:
        await self._codec.prepare([value])
        (decoded,) = self._codec.decode([value])
        if isinstance(decoded, Unreadable):
            return decoded
        try:
            return ArchivalConfirmation.model_validate(decoded.fields)
        except ValidationError as fault:
            first = fault.errors(include_url=False, include_input=False)[0]
            return Unreadable("INVALID", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
